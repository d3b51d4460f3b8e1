"""Look into a trained network: its filters, what it looks at, what its classes and units want, where it errs.
看进训练好的网络：它的滤波器、它盯着哪里、各个类别和单元想看到什么，以及它错在哪里。

    python chapter_04_cnn_classic/visualize.py    # on 2 CPU cores: 4 min
    python chapter_04_cnn_classic/visualize.py --model_path my_run/best_model.pth --dataset shapes
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from tqdm import tqdm

from chapter_03_optimization_regularization.training import probabilities
from chapter_04_cnn_classic.attribution import (
    colour_axes,
    input_gradient,
    leaky_twin,
    maximise,
    occlusion,
    saliency,
    smooth_saliency,
    top_places,
)
from chapter_04_cnn_classic.conv.receptive_field import Field, receptive_field, stage_paths
from chapter_04_cnn_classic.dataset import CIFAR10_CLASSES, DATASETS, MEAN_GREY, load, to_input
from chapter_04_cnn_classic.evaluation import (
    confusion_matrix,
    mistakes_within,
    most_confused,
    per_class,
    top_k_accuracy,
)
from chapter_04_cnn_classic.figures import vision as figures
from chapter_04_cnn_classic.model import ConvNet, build
from utils.checkpoint import load_model
from utils.cli import add_data_flag, add_output_flags, begin, natural, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results

MODEL = Path(__file__).resolve().parent / "results" / "best_model.pth"
VEHICLES = {"airplane", "automobile", "ship", "truck"}
PATCHES = 4  # photographs beside each drawn picture
SQUARE, SQUARE_STEP = 8, 2  # what occlusion hides, and how far apart the squares are
SMALL = {"model": "vgg", "width": 0.1}  # what --dry_run looks into: no weights needed


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--model_path", type=Path, default=MODEL, help="a trained model")
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS, help="photographs, or drawn shapes")
    parser.add_argument("--pictures", type=positive, default=10_000, help="how many of them to measure on, at most")
    parser.add_argument("--index", type=natural, default=1, help="which of them shows the filters")
    parser.add_argument("--units", type=positive, default=5, help="units of each stage to draw pictures for")
    parser.add_argument("--steps", type=positive, default=200, help="steps of gradient ascent for each drawn picture")
    parser.add_argument("--samples", type=positive, default=32, help="noisy copies that a smoothed gradient averages")
    tiny = {"model_path": None, "dataset": "shapes", "pictures": 40, "units": 2, "steps": 2, "samples": 2}
    args = begin(parser, argv, dry_run=tiny)

    model, about = build(SMALL).to(args.device).eval(), {"split": "test"}
    if args.model_path:
        model, about = load_model(args.model_path, build, args.device)
    model = model.to(memory_format=torch.channels_last)
    _, (images, labels), classes = load(args.dataset, about["split"], args.data_root)
    if about.get("classes", classes) != classes:
        raise UserError(f"{args.model_path} knows {', '.join(about['classes'])}: it needs another --dataset")
    images, labels = (t[: args.pictures].to(args.device) for t in (images, labels))
    if args.index >= len(images):
        raise UserError(f"--index {args.index}: there are {len(images)} pictures")

    p = probabilities(model, images, to_input=to_input)
    matrix = confusion_matrix(p.argmax(dim=1), labels, len(classes)).cpu()
    final = report(p, labels, matrix, classes) | {"count": len(labels), "split": about["split"]}
    views = explain(model, images, labels, p, classes, args.samples)
    final["occlusion"] = {
        view["class"]: {"largest_square": view["falls"].max().item(), "largest_mean": view["occlusion"].max().item()}
        for view in views
    }
    (*stages, class_row), final["units"] = draw_units(model, images, classes, args.units, args.steps)
    drawn = {
        "filters.png": figures.filters(*first_layer(model, images[args.index, None])),
        "saliency.png": figures.explanations(views),
        "classes.png": figures.drawn_classes(class_row),
        "units.png": figures.drawn_units(stages),
        "confusion.png": figures.confusion(matrix, *in_groups(classes)),
        "mistakes.png": figures.mistakes(images, labels, p, classes),
    }
    for name, figure in drawn.items():
        save_figure(figure, args.out_dir / name)
    write_results(args.out_dir / "visualize.json", args, final)
    print_report(final)
    print(f"{', '.join(drawn)} and visualize.json written to {args.out_dir}")


# ---- where it errs --------------------------------------------------------------------------------------------------


def report(p: Tensor, labels: Tensor, matrix: Tensor, classes: list[str]) -> dict:
    """Return accuracies, each class's figures, the largest confusions, and how many mistakes cross a border."""
    rows = {name: values.tolist() for name, values in per_class(matrix).items()}
    final = {
        "accuracy": top_k_accuracy(p, labels, 1),
        "top_2_accuracy": top_k_accuracy(p, labels, 2),
        "top_5_accuracy": top_k_accuracy(p, labels, 5),
        "mistakes": int(matrix.sum() - matrix.trace()),
        "per_class": {name: {key: row[i] for key, row in rows.items()} for i, name in enumerate(classes)},
        "most_confused": [
            {"class": classes[i], "answer": classes[j], "count": count} for i, j, count in most_confused(matrix, 10)
        ],
    }
    if classes == CIFAR10_CLASSES:
        groups = torch.tensor([name in VEHICLES for name in classes])
        final["mistakes_within_groups"] = mistakes_within(matrix, groups)
        final["mistakes_within_groups_evenly"] = mistakes_within(torch.ones_like(matrix), groups)
    return final


def in_groups(classes: list[str]) -> tuple[list[str], list[int], int]:
    """Return the class names, an order in which vehicles come before animals, and how many vehicles there are."""
    if classes != CIFAR10_CLASSES:
        return classes, list(range(len(classes))), 0
    order = ["airplane", "ship", "automobile", "truck", "bird", "frog", "deer", "horse", "dog", "cat"]
    return classes, [classes.index(name) for name in order], len(VEHICLES)


def print_report(final: dict) -> None:
    """Print the figures as tables."""
    print(f"{final['count']:,} {final['split']} pictures: right {final['accuracy']:.2%}, ", end="")
    print(f"among the first two {final['top_2_accuracy']:.2%}, among the first five {final['top_5_accuracy']:.2%}")
    print(f"\n{'class':12}{'recall':>10}{'precision':>11}{'f1':>8}")
    for name, row in final["per_class"].items():
        print(f"{name:12}{row['recall']:10.1%}{row['precision']:11.1%}{row['f1']:8.3f}")
    print("\ntaken most often for something else")
    for row in final["most_confused"]:
        print(f"{row['count']:6}  {row['class']} for {row['answer']}")
    if "mistakes_within_groups" in final:
        evenly = final["mistakes_within_groups_evenly"]
        print(
            f"\nof {final['mistakes']} mistakes {final['mistakes_within_groups']:.1%} stay within the animals or ",
            end="",
        )
        print(f"within the vehicles; falling evenly, {evenly:.1%} would")
    print(f"\n{'stage':10}{'a unit sees':>12}{'drawn over strongest photograph':>34}")
    for name, row in final["units"].items():
        print(f"{name:10}{row['sees']:9} px{row['drawn_over_real']:34.1f}")
    print(f"pictures drawn for a class are taken for it with {final['units']['classes']['probability']:.1%}\n")


# ---- filters and maps -----------------------------------------------------------------------------------------------


@torch.no_grad()
def first_layer(model: ConvNet, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a picture (3, 32, 32), the first layer's filters (C, 3, k, k) and its answers (C, h, w) to the picture."""
    conv = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    return image[0], conv.weight, conv(to_input(image))[0]


# ---- what it looks at -----------------------------------------------------------------------------------------------


def explain(model: ConvNet, images: Tensor, labels: Tensor, p: Tensor, classes: list[str], samples: int) -> list[dict]:
    """Ask of the first picture of each class why the network answers as it does."""
    rows = []
    for label in labels.unique().tolist():
        i = int((labels == label).nonzero()[0])
        answer, x = int(p[i].argmax()), to_input(images[i, None])  # (1, 3, 32, 32)

        def logit(x: Tensor, answer: int = answer) -> Tensor:
            return model(x)[:, answer]

        def probability(x: Tensor, answer: int = answer) -> Tensor:
            return model(x).softmax(dim=1)[:, answer]

        falls, means = occlusion(probability, x[0], SQUARE, SQUARE_STEP)
        rows.append(
            {
                "class": classes[label],
                "picture": images[i],
                "title": f"{classes[answer]} {p[i, answer]:.0%}",
                "right": answer == label,
                "gradient": saliency(input_gradient(logit, x))[0],
                "smoothed": smooth_saliency(logit, x, 0.15, samples)[0],
                "falls": falls,
                "occlusion": means,
            }
        )
    return rows


# ---- what its units want --------------------------------------------------------------------------------------------


def draw_units(
    model: ConvNet, images: Tensor, classes: list[str], most: int, steps: int
) -> tuple[list[dict], dict[str, dict]]:
    """For some units of each stage, evenly spaced over its channels, and for each class, show what excites them most.

    Returns:
        a row of the figures for each stage, the classes last; and by stage what a unit sees, and how much stronger a
        drawn picture is than any photograph.
    """
    twin, colours = leaky_twin(model), colour_axes(images[:1000].cpu()).to(images.device)
    logits = nn.Unflatten(1, (len(classes), 1, 1))  # as if they were feature maps of one place
    paths, leaky = ({**stage_paths(m), "classes": nn.Sequential(m, logits)} for m in (model, twin))
    rows, numbers = [], {}
    for name, path in tqdm(paths.items(), unit="stage", desc="drawing"):
        field = Field(images.shape[-1]) if name == "classes" else receptive_field(path)
        with torch.no_grad():
            n_channels, height = path(to_input(images[:1])).shape[1:3]
        count = n_channels if name == "classes" else min(most, n_channels)
        chosen = [i * n_channels // count for i in range(count)]
        drawn = draw_exciting(leaky[name], chosen, height // 2, field, colours, steps)
        top = top_places(path, map(to_input, images.split(500)), chosen, PATCHES)
        with torch.no_grad():
            answers = path(to_input(drawn))[range(count), chosen, height // 2, height // 2]
        over = (answers.mean() / top["values"][:, 0].mean().clamp(min=1e-6)).item()
        numbers[name] = {"sees": field.size, "channels": n_channels, "drawn_over_real": over}
        places = torch.stack([top[key] for key in ("picture", "row", "column")], dim=2).tolist()  # (K, count, 3)
        cells = [
            (crop(picture, field, height // 2, height // 2), [crop(images[i], field, *place) for i, *place in found])
            for picture, found in zip(drawn, places, strict=True)
        ]
        names = classes if name == "classes" else []
        rows.append({"stage": name, "field": field.size, "cells": cells, "names": names})
    with torch.no_grad():
        numbers["classes"]["probability"] = model(to_input(drawn)).softmax(dim=1).diagonal().mean().item()
    return rows, numbers


def draw_exciting(
    maps: nn.Module, channels: list[int], middle: int, field: Field, colours: Tensor, steps: int
) -> Tensor:
    """Draw a picture, (K, 3, 32, 32), uint8, for the middle unit of each channel of `maps`."""

    def score(drawn: Tensor) -> Tensor:
        return maps(to_input(255 * drawn))[range(len(channels)), channels, middle, middle]

    drawn = maximise(score, len(channels), 32, steps, decay=0.002, jitter=field.size // 8, colours=colours)
    return (255 * drawn).round().to(torch.uint8)


def crop(image: Tensor, field: Field, row: int, column: int) -> Tensor:
    """Cut what a unit sees out of a picture (3, S, S), grey where that is padding; at most the whole picture."""
    side = image.shape[-1]
    if field.size >= side:
        return image
    padded = nn.functional.pad(image, [field.size] * 4, value=MEAN_GREY)
    top, left = (field.pixels(unit).start + field.size for unit in (row, column))
    return padded[:, top : top + field.size, left : left + field.size]


if __name__ == "__main__":
    run(main)
