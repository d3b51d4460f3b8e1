"""Ask a network that our engine trained: what garment is on a picture, or which arm a point lies on.
让自制引擎训练出的网络作答：图片里是哪种衣物，或一个点属于哪条螺旋臂。

    python chapter_01_tensor_autograd/inference.py
    python chapter_01_tensor_autograd/inference.py --image my_photo.jpg another.png
    python chapter_01_tensor_autograd/inference.py --model_path chapter_01_tensor_autograd/checkpoints/mlp_spirals.pth
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from chapter_01_tensor_autograd.dataset import normalise, read_garment
from chapter_01_tensor_autograd.engine import Tensor, no_grad
from chapter_01_tensor_autograd.model import build
from utils.checkpoint import read_model
from utils.cli import begin, run, script_parser

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    parser.add_argument(
        "--model_path", type=Path, default=HERE / "checkpoints" / "mlp_fashion_mnist.pth", help="a trained model"
    )
    pictures = sorted((HERE / "images").glob("*.png"))
    parser.add_argument("--image", type=Path, nargs="+", default=pictures, help="pictures, for the Fashion-MNIST model")
    parser.add_argument("--point", type=float, nargs=2, default=[0.3, -0.2], metavar=("X", "Y"), help="for a 2-D model")
    args = begin(parser, argv, dry_run={"image": pictures[:1]})

    model, about = read_model(args.model_path, build)
    if about["dataset"] == "fashion_mnist":
        images = torch.stack([read_garment(path) for path in args.image])  # (N, 28, 28)
        inputs, names = normalise(images).numpy(), [path.name for path in args.image]
    else:
        inputs, names = np.array([args.point], np.float32), [f"({args.point[0]:g}, {args.point[1]:g})"]
    with no_grad():
        probabilities = model(Tensor(inputs)).softmax().data  # (N, n_classes)
    width = max(map(len, names))
    for name, row in zip(names, probabilities, strict=True):
        best = row.argsort()[::-1][:3]
        print(f"{name:{width}}  " + "   ".join(f"{about['classes'][i]:>11} {row[i]:6.1%}" for i in best))
    split = about["split"]
    accuracy, count = about[f"{split}_accuracy"], about[f"{split}_count"]
    print(f"(on {count} {split} inputs this network is right {accuracy:.1%} of the time)")


if __name__ == "__main__":
    run(main)
