"""Ask the shipped network what garment is on a picture, or measure it on a whole split.
让仓库自带的网络说出图片里是哪种衣物，或在整个数据划分上评测它。

    python chapter_03_optimization_regularization/inference.py
    python chapter_03_optimization_regularization/inference.py --image my_photo.jpg another.png
    python chapter_03_optimization_regularization/inference.py --split test    # accuracy and confusion matrix: 20 s
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_01_tensor_autograd.dataset import read_garment
from chapter_03_optimization_regularization.dataset import load, to_input
from chapter_03_optimization_regularization.figures.confusion import confusion
from chapter_03_optimization_regularization.model import build
from chapter_03_optimization_regularization.training import class_accuracies, confusion_counts, probabilities, score
from utils.checkpoint import load_model
from utils.cli import add_data_flag, add_output_flags, begin, run, script_parser
from utils.file_io_util import ROOT, write_json
from utils.plotting import save_figure
from utils.tables import aligned, printable

MODEL = Path(__file__).resolve().parent / "checkpoints" / "cnn_fashion_mnist.pth"
OFFLINE = "leave out --split: its own pictures need no download"
PICTURES = sorted((ROOT / "chapter_01_tensor_autograd" / "images").glob("*.png"))


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--model_path", type=Path, default=MODEL, help="a trained model")
    parser.add_argument("--image", type=Path, nargs="+", default=PICTURES, help="pictures to name")
    parser.add_argument("--split", choices=["test", "validation"], help="measure on this split of its data set instead")
    args = begin(parser, argv, dry_run={"image": PICTURES[:2]})

    model, about = load_model(args.model_path, build, args.device)
    classes = about["classes"]
    if args.split:
        _, (images, labels), _ = load(about["dataset"], args.split, args.data_root, offline=OFFLINE)
        p = probabilities(model, images.to(args.device), views=2, to_input=to_input).cpu()
        accuracy, loss = score(p, labels)
        counts = confusion_counts(p, labels)
        path = save_figure(confusion(counts, classes), args.out_dir / f"confusion_{args.split}.png")
        print("\n".join(f"{name:12} {value:6.1%}" for name, value in class_accuracies(counts, classes).items()))
        print(f"{args.split} accuracy {accuracy:.2%}, loss {loss:.4f} nats, on {len(labels)} pictures; wrote {path}")
        return
    images = torch.stack([read_garment(path) for path in args.image])[:, None]  # (N, 1, 28, 28)
    p = probabilities(model, images.to(args.device), views=2, to_input=to_input).cpu()  # (N, K)
    answers, lines = [], []
    for path, row in zip(args.image, p, strict=True):
        best = row.argsort(descending=True)[:3].tolist()
        answers.append({"file": printable(path.name), "probabilities": {classes[i]: row[i].item() for i in best}})
        lines.append([printable(path.name), *(f"{classes[i]:>11} {row[i]:6.1%}" for i in best)])
    print("\n".join(aligned(lines, "<>")))
    split = about["split"]
    print(f"(on {about[f'{split}_count']} {split} pictures it is right {about[f'{split}_accuracy']:.1%} of the time)")
    write_json(args.out_dir / "answers.json", answers)


if __name__ == "__main__":
    run(main)
