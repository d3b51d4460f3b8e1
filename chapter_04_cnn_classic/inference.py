"""Let a trained network name the pictures of a folder, or a single one, and look at what each of its stages sees.
让训练好的网络给一个文件夹里的图片（或单张图片）命名，再看看它的每个阶段看到了什么。

    python chapter_04_cnn_classic/inference.py    # the ten drawings in data/custom_imgs: 5 s
    python chapter_04_cnn_classic/inference.py --img_dir my_photo.jpg

A file that is named after a class, such as cat.png or 07_cat.jpg, counts as a picture of it; any other is marked "?".
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from chapter_03_optimization_regularization.training import probabilities
from chapter_04_cnn_classic.answers import describe, print_answers
from chapter_04_cnn_classic.conv.receptive_field import receptive_field, stage_paths
from chapter_04_cnn_classic.dataset import CIFAR10_CLASSES, to_input
from chapter_04_cnn_classic.figures import inference as figures
from chapter_04_cnn_classic.model import ConvNet, build
from chapter_04_cnn_classic.pictures import read_folder
from utils.checkpoint import load_model
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.pictures import read_picture
from utils.plotting import save_figure
from utils.results import write_results

HERE = Path(__file__).resolve().parent
SMALL = {"model": "vgg", "width": 0.1}  # what --dry_run asks: no weights needed


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--img_dir", type=Path, default=HERE / "data" / "custom_imgs", help="a folder, or one picture")
    parser.add_argument("--model_path", type=Path, default=HERE / "results" / "best_model.pth", help="a trained model")
    parser.add_argument("--sheet_limit", type=positive, default=40, help="pictures on the contact sheet at most")
    args = begin(parser, argv, dry_run={"model_path": None, "sheet_limit": 2})

    untrained = build(SMALL).to(args.device).eval(), {"classes": CIFAR10_CLASSES}
    model, about = load_model(args.model_path, build, args.device) if args.model_path else untrained
    paths, images, unreadable = read_folder(args.img_dir)
    p = probabilities(model, images.to(args.device), to_input=to_input).cpu()  # (N, K)
    answers = [describe(path, row, about["classes"]) for path, row in zip(paths, p, strict=True)]
    print_answers(answers)

    named = [answer for answer in answers if answer["named"]]
    final = {
        "count": len(answers),
        "unreadable": unreadable,
        "named_count": len(named),
        "correct": sum(answer["named"] == answer["answer"] for answer in named),
        "answers": answers,
    }
    if named:
        print(f"right about {final['correct']} of the {len(named)} pictures that are named after a class")
    if split := about.get("split"):
        accuracy, count = about[f"{split}_accuracy"], about[f"{split}_count"]
        print(f"(on {count} {split} pictures of its data set this network is right {accuracy:.1%} of the time)")
    shown = slice(args.sheet_limit)
    large = torch.stack([read_picture(path, figures.EDGE) for path in paths[shown]])  # (n, 3, EDGE, EDGE)
    sheet = figures.contact_sheet(large, images[shown], answers[shown])
    maps = figures.feature_maps(images[0], answers[0]["file"], stage_maps(model, images[0], args.device))
    save_figure(sheet, args.out_dir / "contact_sheet.png")
    save_figure(maps, args.out_dir / "feature_maps.png")
    write_results(args.out_dir / "predictions.json", args, final)
    print(f"contact_sheet.png, feature_maps.png ({answers[0]['file']}), predictions.json written to {args.out_dir}")


@torch.no_grad()
def stage_maps(model: ConvNet, image: Tensor, device: torch.device) -> list[tuple[str, int, Tensor]]:
    """Return each stage's name, its units' receptive field, and its maps (C, h, w) of a picture (3, 32, 32), uint8."""
    x = to_input(image[None].to(device))  # (1, 3, 32, 32)
    return [(name, receptive_field(path).size, path(x)[0].cpu()) for name, path in stage_paths(model).items()]


if __name__ == "__main__":
    run(main)
