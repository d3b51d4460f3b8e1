"""The five architectures at one equal budget: the same minutes each, the same recipe, the same number of trials.
五种架构，同样的预算：训练时间相同，配方相同，调参次数相同。

    python chapter_04_cnn_classic/compare.py    # on 2 CPU cores: 40 min
    python chapter_04_cnn_classic/compare.py --dataset shapes --minutes 0.3    # no download: 2 min

Each network's step is timed; the minutes divided by that are its steps. Learning rates are tried on shorter trainings,
measured on the last 5,000 training pictures; then the network is trained on all of them, and the test set is read once.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.schedules import cosine, warmup
from chapter_03_optimization_regularization.regularization.mixing import smooth_labels, soft_cross_entropy
from chapter_03_optimization_regularization.training import fit, make_optimizers, probabilities, score
from chapter_04_cnn_classic.dataset import DATASETS, Pictures, load, to_input
from chapter_04_cnn_classic.model import ModelConfig, build
from chapter_04_cnn_classic.train import add_recipe_flags, augment
from utils.cli import add_data_flag, add_output_flags, amount, begin, positive, run, script_parser
from utils.model_summary import model_summary
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results
from utils.seed import set_seed
from utils.timer import Timer

YEARS = {"lenet": 1998, "alexnet": 2012, "nin": 2013, "vgg": 2014, "inception": 2014}
FIRST_RATES = [-7, -6, -5]  # learning rates are 10^(k/3): 0.0046, 0.01, 0.022


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    add_recipe_flags(parser)
    parser.set_defaults(shift=2, cutout=0, label_smoothing=0.1)  # within minutes nothing overfits
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS, help="what to learn")
    parser.add_argument("--train_size", type=positive, default=4000, help="how many of the shapes to draw")
    parser.add_argument("--minutes", type=amount, default=5.0, help="training time of each network")
    parser.add_argument("--trial_share", type=amount, default=0.125, help="part of these minutes that a trial takes")
    parser.add_argument("--batch_size", type=positive, default=128, help="pictures a step")
    parser.add_argument("--width", type=amount, default=1.0, help="factor on every number of channels")
    parser.add_argument("--amp", default="auto", choices=["auto", "off", "bf16"], help="bfloat16 autocast")
    tiny = {"dataset": "shapes", "train_size": 100, "minutes": 0.003, "batch_size": 20, "width": 0.1, "amp": "off"}
    args = begin(parser, argv, dry_run=tiny)

    sets, classes = load_sets(args.dataset, args.data_root, args.train_size, args.device)
    table, bar = [], tqdm(YEARS, unit="network")
    for name in bar:
        bar.set_description(name)
        config = ModelConfig(name, len(classes), args.width, args.dropout)
        table.append({"model": name, "year": YEARS[name]} | race(build, config, *sets, args))
    final = {"table": table, "minutes": args.minutes, "test_count": len(sets[-1][1]), "split": "test"}
    write_results(args.out_dir / "compare.json", args, final)
    save_figure(draw(table), args.out_dir / "compare.png")
    print_table(table)
    print(f"written to {args.out_dir}")


def load_sets(
    name: str, root: Path, count: int, device: torch.device
) -> tuple[tuple[tuple[Tensor, ...], Pictures, Pictures], list[str]]:
    """Return what a race takes, on the device, and the class names.

    A race takes pictures and labels to tune on, the training's and the held-out ones; all that are for training; and
    those of the test.
    """
    train_set, held_out, classes = load(name, "validation", root, count)
    whole, test_set, _ = load(name, "test", root, count)
    sets = ((*train_set, *held_out), whole, test_set)
    return tuple(tuple(t.to(device) for t in tensors) for tensors in sets), classes


def race(
    build: Callable[[dict], nn.Module],
    config: Any,
    tuning: tuple[Tensor, ...],
    whole: tuple[Tensor, Tensor],
    test_set: tuple[Tensor, Tensor],
    args: argparse.Namespace,
) -> dict:
    """Time, tune, train and measure the network that `build` makes of `config`; return its row of the table."""
    images, labels, validation_images, validation_labels = tuning
    training(build, config, images, labels, -6, 3, args)  # the first steps choose kernels and allocate memory
    _, seconds = training(build, config, images, labels, -6, 12, args)
    steps = max(1, round(60 * args.minutes * 12 / seconds))
    trials: dict[int, float] = {}
    rates = list(FIRST_RATES)
    while rates:
        k = rates.pop(0)
        model, _ = training(build, config, images, labels, k, max(1, round(args.trial_share * steps)), args)
        p = probabilities(model, validation_images, args.amp, to_input=to_input)
        trials[k] = score(p, validation_labels)[0]
        best = max(trials, key=trials.get)
        if not rates and best in (min(trials), max(trials)) and len(trials) < 2 * len(FIRST_RATES):
            rates = [best - 1 if best == min(trials) else best + 1]  # a best rate at the edge extends the grid
    model, seconds = training(build, config, *whole, best, steps, args)
    accuracy, loss = score(probabilities(model, test_set[0], args.amp, to_input=to_input), test_set[1])
    summary = model_summary(model, torch.zeros(1, 3, 32, 32, device=args.device))
    return {
        "test_accuracy": accuracy,
        "test_loss": loss,
        "parameters": summary.parameters,
        "macs": summary.macs,
        "pictures_per_second": steps * args.batch_size / seconds,
        "steps": steps,
        "epochs": steps * args.batch_size / len(whole[1]),
        "train_seconds": seconds,
        "lr": 10 ** (best / 3),
        "trials": [{"lr": 10 ** (k / 3), "validation_accuracy": v} for k, v in sorted(trials.items())],
    }


def training(
    build: Callable[[dict], nn.Module],
    config: Any,
    images: Tensor,
    labels: Tensor,
    k: int,
    steps: int,
    args: argparse.Namespace,
) -> tuple[nn.Module, float]:
    """Train a new network for so many steps at the rate 10^(k/3); return it and the seconds taken."""
    set_seed(args.seed)
    model = build(vars(config)).to(args.device, memory_format=torch.channels_last)
    optimizers = make_optimizers(model, args.optimizer, 10 ** (k / 3), args.weight_decay)
    rise = round(args.warmup * steps)

    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return soft_cross_entropy(model(x).float(), smooth_labels(y, config.n_classes, args.label_smoothing))

    timer = Timer()
    fit(
        model, images, labels, optimizers, warmup(cosine(steps - rise), rise), steps, args.batch_size, args.amp,
        augment=lambda images: augment(images, args.flip, args.shift, args.cutout), loss_of=loss_of, to_input=to_input,
    )  # fmt: skip
    return model.eval(), timer.seconds


def print_table(table: list[dict]) -> None:
    print(f"{'network':12}{'parameters':>12}{'MACs':>14}{'pictures/s':>12}{'epochs':>8}{'test accuracy':>15}")
    for row in table:
        print(
            f"{row['model']:12}{row['parameters']:12,}{row['macs']:14,}{row['pictures_per_second']:12.0f}"
            f"{row['epochs']:8.1f}{row['test_accuracy']:15.1%}"
        )


def draw(table: list[dict]) -> Figure:
    """Draw accuracy against the cost of a picture; the area of a disc shows the parameters."""
    figure, axes = new_figure(6.5, 4)
    for i, (row, colour) in enumerate(zip(table, COLOURS, strict=False)):
        x, y = row["macs"] / 1e6, 100 * row["test_accuracy"]
        place = (0, 12 if i % 2 == 0 else -24)
        axes.scatter(x, y, s=row["parameters"] / 1.5e4 + 15, color=colour, alpha=0.7)
        axes.annotate(f"{row['model']} ({row['year']})", (x, y), place, textcoords="offset points", ha="center")
    axes.set(xscale="log", xlabel="multiply-accumulates a picture (millions)", ylabel="test accuracy (%)")
    axes.set_title("the same minutes of training for each; area of a disc: parameters", fontsize=10)
    axes.margins(0.2)
    return figure


if __name__ == "__main__":
    run(main)
