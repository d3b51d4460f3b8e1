"""Let a trained ResNet name any pictures, and find for each those that look alike to it.
让训练好的 ResNet 给任意图片命名，并为每张图片找出在它看来最相似的几张。

    python chapter_05_resnet_modern_cnn/src/inference.py    # the ten drawings in images/: 5 s
    python chapter_05_resnet_modern_cnn/src/inference.py --image_path my_photos --features out.npz

A file that is named after a class, such as cat.png or 07_cat.jpg, counts as a picture of it; any other is marked "?".
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch import Tensor

from chapter_04_cnn_classic.answers import describe, print_answers
from chapter_04_cnn_classic.pictures import read_folder
from chapter_05_resnet_modern_cnn.src.dataset import SIDE, STL10_CLASSES, to_input
from chapter_05_resnet_modern_cnn.src.figures.inference import contact_sheet, neighbour_sheet
from chapter_05_resnet_modern_cnn.src.model import ResNet, build
from chapter_05_resnet_modern_cnn.src.probes.similarity import mean_cosine, nearest
from utils.checkpoint import load_model
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.file_io_util import atomic_write
from utils.plotting import save_figure
from utils.results import write_results

CHAPTER = Path(__file__).resolve().parents[1]
SMALL = {"width": 4, "stem": "224"}  # what --dry_run asks: no weights needed
BATCH = 100  # pictures looked at together


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    shipped = CHAPTER / "checkpoints" / "resnet18_stl10.pth"
    parser.add_argument("--model_path", type=Path, default=shipped, help="a trained model")
    parser.add_argument("--image_path", type=Path, default=CHAPTER / "images", help="a picture, or a folder of them")
    parser.add_argument("--features", type=Path, help="file for the features; None: features.npz in --out_dir")
    parser.add_argument("--neighbours", type=positive, default=3, help="most similar pictures to name for each")
    parser.add_argument("--sheet_limit", type=positive, default=40, help="pictures in a figure at most")
    args = begin(parser, argv, dry_run={"model_path": None, "sheet_limit": 3})

    untrained = build(SMALL).to(args.device).eval(), {"classes": STL10_CLASSES}
    model, about = load_model(args.model_path, build, args.device) if args.model_path else untrained
    paths, images, unreadable = read_folder(args.image_path, about.get("image_size", SIDE))
    features, p = look(model, images, args.device)
    answers = [describe(path, row, about["classes"]) for path, row in zip(paths, p, strict=True)]
    features_path = args.features or args.out_dir / "features.npz"
    write_features(features_path, features, answers)
    final = summarise(answers, unreadable)
    print_answers(answers)
    print_scores(final, about)

    shown = slice(args.sheet_limit)
    drawn = {"contact_sheet.png": contact_sheet(images[shown], answers[shown])}
    if len(answers) > 1:
        cosines, others = nearest(features, args.neighbours)
        final["mean_cosine"] = mean_cosine(features)
        for answer, row, indices in zip(answers, cosines.tolist(), others.tolist(), strict=True):
            found = [{"file": answers[i]["file"], "cosine": c} for i, c in zip(indices, row, strict=True)]
            answer["neighbours"] = found
        print_neighbours(answers, final["mean_cosine"])
        drawn["neighbours.png"] = neighbour_sheet(images, answers, cosines[shown], others[shown])
    written = [features_path, *(save_figure(figure, args.out_dir / name) for name, figure in drawn.items())]
    write_results(args.out_dir / "predictions.json", args, final)
    print("\n".join(f"wrote {path}" for path in [*written, args.out_dir / "predictions.json"]))


def summarise(answers: list[dict], unreadable: int) -> dict:
    """Return what stands in the results: how many pictures there were, and how many of the named ones were right."""
    named = [answer for answer in answers if answer["named"]]
    return {
        "count": len(answers),
        "unreadable": unreadable,
        "named_count": len(named),
        "correct": sum(answer["named"] == answer["answer"] for answer in named),
        "answers": answers,
    }


def print_scores(final: dict, about: dict) -> None:
    """Print how often the network was right, here and on its data set, and what it cannot say."""
    if final["named_count"]:
        print(f"right about {final['correct']} of the {final['named_count']} pictures that are named after a class")
    if "split" in about:
        split = "validation" if about["split"] == "validation" else "test"
        accuracy, count = about[f"{split}_accuracy"], about[f"{split}_count"]
        print(f"(on {count} {split} pictures of its data set this network is right {accuracy:.1%} of the time)")
    if final["named_count"] < final["count"]:
        n_classes = len(about["classes"])
        print(f"(it knows {n_classes} classes and always names one of them, also of a picture that shows none)")


# ---- features --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def look(model: ResNet, images: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return pooled features (N, C) and class probabilities (N, K) of pictures (N, 3, H, W), uint8."""
    features, p = [], []
    for part in images.split(BATCH):
        pooled = model.avgpool(model.features(to_input(part.to(device)))).flatten(1)  # (B, C)
        features.append(pooled.cpu())
        p.append(model.fc(pooled).softmax(dim=1).cpu())  # (B, K)
    return torch.cat(features), torch.cat(p)


def write_features(path: Path, features: Tensor, answers: list[dict]) -> None:
    """Write an .npz file of `features` (N, C), `names` (N,) of the files and `predictions` (N,), class names.

    Raises:
        UserError: nothing can be written there.
    """
    names, predictions = ([answer[key] for answer in answers] for key in ("file", "answer"))
    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, features=features.numpy(), names=np.array(names), predictions=np.array(predictions))
    except OSError as error:
        raise UserError(f"--features {path} cannot be written: {error.strerror}") from error


def print_neighbours(answers: list[dict], mean: float) -> None:
    """Print each picture's neighbours, and their cosines."""
    width = max(len(answer["file"]) for answer in answers)
    print(f"the most similar pictures, by the cosine of their features (two of these pictures on average: {mean:.2f})")
    for answer in answers:
        found = "  ".join(f"{n['cosine']:.2f} {n['file']:{width}}" for n in answer["neighbours"])
        print(f"{answer['file']:{width}}  {found}".rstrip())


if __name__ == "__main__":
    run(main)
