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
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from chapter_04_cnn_classic.answers import VERDICT_COLOURS, describe, print_answers, verdict
from chapter_04_cnn_classic.figures.canvas import FILE_NAME, canvas, frame, save_pictures, show, write
from chapter_04_cnn_classic.pictures import read_folder
from chapter_05_resnet_modern_cnn.src.dataset import SIDE, STL10_CLASSES, to_input
from chapter_05_resnet_modern_cnn.src.figures.cam import shortened
from chapter_05_resnet_modern_cnn.src.model import ResNet, build
from utils.checkpoint import load_model
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.file_io_util import atomic_write
from utils.results import write_results

CHAPTER = Path(__file__).resolve().parents[1]
SMALL = {"width": 4, "stem": "224"}  # what --dry_run asks: no weights needed
BATCH = 100  # pictures looked at together
ROWS = 1000  # pictures compared with all others together
TILE = 192  # pixels of a picture in a figure


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
    if "split" in about:
        split = "validation" if about["split"] == "validation" else "test"
        accuracy, count = about[f"{split}_accuracy"], about[f"{split}_count"]
        print(f"(on {count} {split} pictures of its data set this network is right {accuracy:.1%} of the time)")

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
    written = [features_path, *(save_pictures(figure, args.out_dir / name) for name, figure in drawn.items())]
    write_results(args.out_dir / "predictions.json", args, final)
    print("\n".join(f"wrote {path}" for path in [*written, args.out_dir / "predictions.json"]))


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


def nearest(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Compare each of N pictures' features (N, C) with all others': the cosine of the angle between the two vectors.

    Returns:
        the largest cosines, and which pictures they belong to: (N, `count`), or (N, N - 1) if there are no more.
    """
    unit = F.normalize(features)  # (N, C)
    cosines, others = [], []
    for start in range(0, len(unit), ROWS):
        rows = unit[start : start + ROWS] @ unit.T  # (ROWS, N)
        rows.diagonal(start).fill_(-torch.inf)  # nobody is their own neighbour
        best = rows.topk(min(count, len(unit) - 1))
        cosines.append(best.values.clamp(-1, 1))  # rounding can lead beyond
        others.append(best.indices)
    return torch.cat(cosines), torch.cat(others)


def mean_cosine(features: Tensor) -> float:
    """Return the mean over all pairs of the N rows (N, C), without making the pairs: from the length of their sum.

    |u_1 + ... + u_N|^2 is the sum of |u_i|^2 and of every pair's cosine, twice.
    """
    unit = F.normalize(features.double())  # (N, C)
    pairs = unit.sum(dim=0).square().sum() - unit.square().sum()
    return (pairs / (len(unit) * (len(unit) - 1))).item()


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


# ---- figures ---------------------------------------------------------------------------------------------------------


def contact_sheet(images: Tensor, answers: list[dict], columns: int = 5) -> Figure:
    """Draw each picture as the network sees it, and its five most probable classes.

    Green: the file is named after the answer; red: after another class; blue: after none.
    """
    wide, high = TILE + 32, TILE + 170
    columns = min(columns, len(answers))
    figure = canvas(wide * columns - 32, high * -(-len(answers) // columns) - 24)
    for i, (image, answer) in enumerate(zip(images, answers, strict=True)):
        x, y = wide * (i % columns), high * (i // columns)
        write(figure, x, y + 18, shortened(answer["file"], 21), ha="left", **FILE_NAME)
        show(figure, x, y + 26, TILE, image)
        colour = VERDICT_COLOURS[verdict(answer)]
        bars = frame(figure, x, y + TILE + 32, TILE, 22 * len(answer["top"]))
        bars.barh(range(len(answer["top"])), list(answer["top"].values()), color=[colour] + ["#808080"] * 4, alpha=0.4)
        for place, (label, p) in enumerate(answer["top"].items()):
            bars.text(0.02, place, label, fontsize=8, va="center")
            bars.text(0.99, place, f"{p:.1%}", fontsize=8, va="center", ha="right")
        bars.set(xlim=(0, 1), ylim=(len(answer["top"]) - 0.5, -0.5))
        bars.axis("off")
    return figure


def neighbour_sheet(images: Tensor, answers: list[dict], cosines: Tensor, others: Tensor, columns: int = 2) -> Figure:
    """Draw the first pictures, as many as have a row in `cosines` (n, k), and beside each its neighbours."""
    n, k = others.shape
    wide, high, columns = (TILE + 10) * (k + 1) + 50, TILE + 40, min(columns, n)
    figure = canvas(wide * columns - 44, high * -(-n // columns) - 14)
    for i in range(n):
        x, y = wide * (i % columns), high * (i // columns)
        write(figure, x, y + 18, shortened(answers[i]["file"], 21), ha="left", **FILE_NAME, weight="bold")
        show(figure, x, y + 26, TILE, images[i])
        for place, (cosine, other) in enumerate(zip(cosines[i].tolist(), others[i].tolist(), strict=True), start=1):
            left = x + (TILE + 10) * place + 6
            name = shortened(answers[other]["file"], 16)
            write(figure, left, y + 18, f"{cosine:.2f} {name}", ha="left", **FILE_NAME)
            show(figure, left, y + 26, TILE, images[other])
    return figure


if __name__ == "__main__":
    run(main)
