"""Ask a network which places of a picture speak for a class: CAM, Grad-CAM and Grad-CAM++ of any layers.
问网络：图片的哪些地方支持某个类别？用任意层的 CAM、Grad-CAM 与 Grad-CAM++ 回答。

    python chapter_05_resnet_modern_cnn/src/cam.py    # the shipped ResNet-18 about a drawn airplane: 5 s
    python chapter_05_resnet_modern_cnn/src/cam.py --image_path my_photos --classes cat dog --layers layer3 layer4

With several pictures there is an overview of them as well.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor
from tqdm import tqdm

from chapter_04_cnn_classic.pictures import read_folder
from chapter_05_resnet_modern_cnn.src.dataset import SIDE, STL10_CLASSES, to_input
from chapter_05_resnet_modern_cnn.src.figures import cam as figures
from chapter_05_resnet_modern_cnn.src.model import ResNet, build
from chapter_05_resnet_modern_cnn.src.probes.class_activation import cam, grad_cam, grad_cam_plus_plus
from utils.checkpoint import load_model
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.pictures import read_picture
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import aligned, printable

CHAPTER = Path(__file__).resolve().parents[1]
SMALL = {"width": 4, "stem": "224"}  # what --dry_run asks: no weights needed


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    shipped = CHAPTER / "checkpoints" / "resnet18_stl10.pth"
    airplane = CHAPTER / "images" / "airplane.png"
    parser.add_argument("--model_path", type=Path, default=shipped, help="a trained model")
    parser.add_argument("--image_path", type=Path, default=airplane, help="a picture, or a folder of pictures")
    parser.add_argument("--classes", nargs="+", default=[], help="classes to ask about beside the predicted one")
    parser.add_argument("--layers", nargs="+", default=ResNet.stage_names, help="any layers, such as layer4.0.conv1")
    parser.add_argument("--limit", type=positive, default=40, help="pictures at most")
    tiny = {"model_path": None, "image_path": CHAPTER / "images", "classes": ["cat"], "layers": ["layer3"], "limit": 2}
    args = begin(parser, argv, dry_run=tiny)

    untrained = build(SMALL).to(args.device).eval(), {"classes": STL10_CLASSES}
    model, about = load_model(args.model_path, build, args.device) if args.model_path else untrained
    if unknown := [name for name in args.classes if name not in about["classes"]]:
        raise UserError(f"--classes {' '.join(unknown)}: this network knows {', '.join(about['classes'])}")
    paths, images, unreadable = read_folder(args.image_path, about.get("image_size", SIDE))
    views, rows = ask(model, about["classes"], paths[: args.limit], images, args)

    folder = args.out_dir / "cam_vis"
    stems = ["overview", *(path.stem for path in views)]
    names = [path.stem if stems.count(path.stem) == 1 else path.name for path in views]  # a.jpg may lie beside a.png
    drawn = {name: figures.explanation(view) for name, view in zip(names, views.values(), strict=True)}
    if len(views) > 1:
        drawn["overview"] = figures.overview(list(views.values()))
    written = [save_figure(figure, folder / f"{name}.png") for name, figure in drawn.items()]
    write_results(folder / "cam.json", args, {"count": len(rows), "unreadable": unreadable, "pictures": rows})
    report(rows)
    print("\n".join(f"wrote {path}" for path in [*written, folder / "cam.json"]))


def ask(
    model: ResNet, classes: list[str], paths: list[Path], images: Tensor, args: argparse.Namespace
) -> tuple[dict[Path, figures.View], list[dict]]:
    """Return what is drawn of each picture, and what is written of it."""
    views, rows = {}, []
    for path, image in tqdm(list(zip(paths, images, strict=False)), unit="picture", disable=None):
        x = to_input(image[None].to(args.device))  # (1, 3, H, W)
        with torch.no_grad():
            logits = model(x)[0].cpu()  # (n_classes,)
        asked = list(dict.fromkeys([int(logits.argmax()), *map(classes.index, args.classes)]))
        maps = explain(model, x, asked, args.layers)
        answers = describe(model, logits, asked, classes, maps)
        rows.append({"file": printable(path.name), "answer": answers[0]["class"], "classes": answers})
        titles = [f"{answer['class']} ({answer['p']:.1%})" for answer in answers]
        views[path] = figures.View(printable(path.name), read_picture(path, figures.SIDE), titles, maps)
    return views, rows


def explain(model: ResNet, x: Tensor, asked: list[int], layers: list[str]) -> dict[tuple[str, str], Tensor]:
    """Return, by method and layer, what the maps of one picture (1, 3, H, W) say of each class asked about: (K, h, w).

    Raises:
        UserError: a layer is not there, or has no maps.
    """
    x, target = x.expand(len(asked), -1, -1, -1), torch.tensor(asked)
    maps = {("CAM", "features"): cam(model, x, target)}
    for layer in dict.fromkeys(layers):
        try:
            maps["Grad-CAM", layer] = grad_cam(model, x, layer, target)
        except ValueError as error:
            stages = ", ".join(model.stage_names)
            raise UserError(f"--layers: {error}; there are {stages}, parts of them, and features") from error
        maps["Grad-CAM++", layer] = grad_cam_plus_plus(model, x, layer, target)
    return {place: found.cpu() for place, found in maps.items()}


def describe(
    model: ResNet, logits: Tensor, asked: list[int], classes: list[str], maps: dict[tuple[str, str], Tensor]
) -> list[dict]:
    """Return each class's probability, its logit as CAM accounts for it, CAM itself, and each map's largest number.

    Places are counted from 0, rows from the top and columns from the left.
    """
    p, bias, answers = logits.softmax(dim=0), model.fc.bias.detach().cpu(), []
    for i, k in enumerate(asked):
        own = maps["CAM", "features"][i]  # (h, w)
        answer = {"class": classes[k], "p": p[k].item(), "logit": logits[k].item()}
        answer |= {"cam_mean": own.mean().item(), "bias": bias[k].item(), "cam": own.tolist(), "largest": {}}
        for (method, layer), found in maps.items():
            row, column = divmod(int(found[i].argmax()), found.shape[2])
            largest = {"value": found[i].max().item(), "row": row, "column": column, "of": list(found.shape[1:])}
            answer["largest"][f"{method} {layer}"] = largest
        answers.append(answer)
    return answers


def report(rows: list[dict]) -> None:
    """Print each picture's classes, the sum that makes up each logit, and CAM's largest number."""
    table = [("file", "class", "p", "logit", "=", "mean of CAM + bias", "largest of CAM")]
    for row in rows:
        for a in row["classes"]:
            account = f"{a['cam_mean']:.2f} {'-+'[a['bias'] >= 0]} {abs(a['bias']):.2f}"
            peak = a["largest"]["CAM features"]
            place = f"{peak['value']:.2f} in row {peak['row'] + 1}, column {peak['column'] + 1}"
            table.append((row["file"], a["class"], f"{a['p']:.1%}", f"{a['logit']:.2f}", "=", account, place))
    print("\n".join(aligned(table, "<<>><>>")))


if __name__ == "__main__":
    run(main)
