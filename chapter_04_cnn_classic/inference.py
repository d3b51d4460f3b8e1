"""Let a trained network name the pictures of a folder, or a single one, and look at what each of its stages sees.
让训练好的网络给一个文件夹里的图片（或单张图片）命名，再看看它的每个阶段看到了什么。

    python chapter_04_cnn_classic/inference.py    # the ten drawings in data/custom_imgs: 5 s
    python chapter_04_cnn_classic/inference.py --img_dir my_photo.jpg

A file that is named after a class, such as cat.png or 07_cat.jpg, counts as a picture of it; any other is marked "?".
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from torch import Tensor
from tqdm import tqdm

from chapter_03_optimization_regularization.training import probabilities
from chapter_04_cnn_classic.dataset import CIFAR10_CLASSES, to_input
from chapter_04_cnn_classic.model import ConvNet, build
from utils.checkpoint import load_model
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.pictures import read_picture
from utils.plotting import COLOURS, save_figure
from utils.results import write_results

HERE = Path(__file__).resolve().parent
SMALL = {"model": "vgg", "width": 0.1}  # what --dry_run asks: no weights needed
BLUE, RED, GREEN = COLOURS[:3]
CHINESE = {"Microsoft YaHei", "PingFang SC", "Noto Sans CJK SC", "WenQuanYi Micro Hei"} & set(get_font_names())
NAME = {"fontsize": 8, "parse_math": False, "family": ["DejaVu Sans", *sorted(CHINESE)]}  # how file names are written


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--img_dir", type=Path, default=HERE / "data" / "custom_imgs", help="a folder, or one picture")
    parser.add_argument("--model_path", type=Path, default=HERE / "results" / "best_model.pth", help="a trained model")
    parser.add_argument("--sheet_limit", type=positive, default=40, help="pictures on the contact sheet at most")
    args = begin(parser, argv, dry_run={"model_path": None, "sheet_limit": 2})

    untrained = build(SMALL).to(args.device).eval(), {"classes": CIFAR10_CLASSES}
    model, about = load_model(args.model_path, build, args.device) if args.model_path else untrained
    paths, images, unreadable = read_all(args.img_dir)
    p = probabilities(model, images.to(args.device), to_input=to_input).cpu()  # (N, K)
    answers = [describe(path, row, about["classes"]) for path, row in zip(paths, p, strict=True)]
    print_table(answers)

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
    save_figure(contact_sheet(paths[shown], images[shown], answers[shown]), args.out_dir / "contact_sheet.png")
    save_figure(feature_maps(model, images[0], paths[0].name, args.device), args.out_dir / "feature_maps.png")
    write_results(args.out_dir / "predictions.json", args, final)
    print(f"contact_sheet.png, feature_maps.png ({paths[0].name}) and predictions.json written to {args.out_dir}")


def read_all(place: Path, side: int = 32) -> tuple[list[Path], Tensor, int]:
    """Read a picture, or those of a folder that can be read; of the others each gets a line on stderr.

    Returns:
        the paths; the pictures (N, 3, side, side), uint8; how many files could not be read.

    Raises:
        UserError: there is no such place, or nothing in it that can be read.
    """
    if not place.is_dir():
        return [place], read_picture(place, side)[None], 0
    files = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise UserError(f"{place} holds no files")
    read, complaints = {}, []
    for path in tqdm(files, unit="picture", disable=None):  # no bar where stderr is no terminal
        try:
            read[path] = read_picture(path, side)
        except UserError as error:
            complaints.append(f"left out: {error}")
    if not read:
        raise UserError(f"none of the {len(files)} files in {place} can be read as a picture")
    for line in complaints:
        print(line, file=sys.stderr)
    return list(read), torch.stack(list(read.values())), len(complaints)


def describe(path: Path, row: Tensor, classes: list[str]) -> dict:
    """Return what a picture's probabilities (K,) and its file's name say."""
    best = row.topk(min(5, len(classes)))
    top = {classes[i]: p for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)}
    answer = next(iter(top))
    return {"file": path.name, "named": class_in(path.stem, classes), "answer": answer, "p": top[answer], "top": top}


def class_in(name: str, classes: list[str]) -> str | None:
    """Return the one class that is a word of a file's name; None if there is none, or more."""
    found = set(re.findall("[a-z]+", name.lower())) & set(classes)
    return found.pop() if len(found) == 1 else None


def print_table(answers: list[dict]) -> None:
    width = max(len(answer["file"]) for answer in answers)
    word = max(len(name) for answer in answers for name in answer["top"])
    print(f"{'file':{width}}  {'named':{word}}  {'':5}  the five most probable classes")
    for a in answers:
        verdict = {None: "?", a["answer"]: "right"}.get(a["named"], "wrong")
        best = "  ".join(f"{name:{word}} {p:6.1%}" for name, p in a["top"].items())
        print(f"{a['file']:{width}}  {a['named'] or '?':{word}}  {verdict:5}  {best}")


def contact_sheet(paths: list[Path], images: Tensor, answers: list[dict]) -> Figure:
    """Draw each picture, the 32 x 32 pixels that the network saw of it, and its three most probable classes.

    Green: the file is named after the answer; red: after another class; blue: after none.
    """
    columns = min(5, len(paths))
    rows = -(-len(paths) // columns)
    width, height, edge = 2.4 * columns, 2.1 * rows, 1.1  # inches
    figure = Figure(figsize=(width, height))
    for i, (path, image, answer) in enumerate(zip(paths, images, answers, strict=True)):
        x, y = 2.4 * (i % columns) + 0.07, height - 2.1 * (i // columns)  # the tile's upper left corner
        for offset, pixels in ((0, read_picture(path, 160)), (edge + 0.05, image)):
            ax = figure.add_axes(((x + offset) / width, (y - 0.25 - edge) / height, edge / width, edge / height))
            ax.imshow(pixels.permute(1, 2, 0).numpy(), interpolation="nearest")
            ax.axis("off")
        name = answer["file"] if len(answer["file"]) < 36 else f"{answer['file'][:32]}..."
        figure.text(x / width, (y - 0.19) / height, name, **NAME)
        best = list(answer["top"].items())[:3]
        colour = {None: BLUE, answer["answer"]: GREEN}.get(answer["named"], RED)
        bars = figure.add_axes((x / width, (y - 2) / height, (2 * edge + 0.05) / width, 0.6 / height))
        bars.barh(range(len(best)), [p for _, p in best], color=[colour] + ["#808080"] * 2, alpha=0.4)
        for place, (label, p) in enumerate(best):
            bars.text(0.01, place, f"{label} {p:.0%}", fontsize=8, verticalalignment="center")
        bars.set(xlim=(0, 1), ylim=(2.5, -0.5))
        bars.axis("off")
    return figure


@torch.no_grad()
def feature_maps(model: ConvNet, image: Tensor, name: str, device: torch.device, count: int = 10) -> Figure:
    """Draw, for each stage, the `count` channels that answer most strongly to a picture (3, 32, 32), uint8."""
    x = to_input(image[None].to(device))
    figure = Figure(figsize=(count + 2.5, 1.15 * len(model.stages) + 0.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[2, count + 0.5])
    seen = left.subplots()
    seen.imshow(image.permute(1, 2, 0).numpy())
    seen.set_title(name, **NAME)
    seen.axis("off")
    axes = right.subplots(len(model.stages), count, squeeze=False)
    for row, stage_name, stage in zip(axes, model.stage_names, model.stages, strict=True):
        x = stage(x)  # (1, C, h, w)
        maps = x[0].cpu()
        strongest = maps.amax(dim=(1, 2)).topk(min(count, len(maps))).indices.tolist()
        for ax, channel in zip(row, strongest, strict=False):
            ax.imshow(maps[channel].numpy(), cmap="magma", vmin=min(0.0, maps.min().item()), vmax=maps.max().item())
            ax.set_title(f"channel {channel}", fontsize=7, pad=2)
        for ax in row:
            ax.set(xticks=[], yticks=[], frame_on=False)
        row[0].set_ylabel(f"stage {stage_name}\n{len(maps)} maps {maps.shape[1]}×{maps.shape[2]}", fontsize=7)
    right.suptitle("the channels that answer most strongly, bright where they do; one scale in each stage", fontsize=9)
    return figure


if __name__ == "__main__":
    run(main)
