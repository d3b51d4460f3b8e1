"""Which optimizer? All of them on four landscapes and on Fashion-MNIST, each at its own best learning rate.
选哪个优化器？让它们各自用最合适的学习率，在四种地形和 Fashion-MNIST 上比一比。

    python chapter_03_optimization_regularization/exp_optimization.py                       # 10 min on one CPU core
    python chapter_03_optimization_regularization/exp_optimization.py --dataset shapes      # no download: 9 min
    python chapter_03_optimization_regularization/exp_optimization.py --optimizers sgd adam muon        # only these

On the network each optimizer gets the same trials, steps and seeds, and half a cosine as its schedule. A rate is chosen
by the accuracy on validation pictures; if the best is at the edge of the grid, the grid grows. SAM computes two
gradients a step: "sam" makes as many steps as the others in twice the time, "sam_half" half as many in the same time.
"""

import argparse
import math
import sys
import time
from itertools import pairwise, product
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from tqdm import tqdm

from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_03_optimization_regularization.dataset import DATASETS, Pictures, load, to_input
from chapter_03_optimization_regularization.experiments.landscapes import LANDSCAPES, quickest
from chapter_03_optimization_regularization.figures import optimizer_comparison as plots
from chapter_03_optimization_regularization.figures.optimization_paths import save_small
from chapter_03_optimization_regularization.model import CNN, CNNConfig
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, SAM
from chapter_03_optimization_regularization.optimizers.schedules import cosine
from chapter_03_optimization_regularization.training import fit, make_optimizers, probabilities, score
from utils.cli import add_amp_flag, add_data_flag, add_output_flags, amount, begin, positive, run, script_parser
from utils.device import autocast
from utils.errors import UserError
from utils.rate_search import best_rate, search_rate
from utils.results import write_results
from utils.seed import set_seed
from utils.spread import mean_and_std

MIDDLE = {  # k of the grid's middle; its rates are 10^(k / 2)
    "sgd": 0, "momentum": -1, "nesterov": -1, "adagrad": -3, "adadelta": 2, "rmsprop": -5, "adam": -4, "amsgrad": -4,
    "adamw": -4, "adamax": -3, "nadam": -3, "radam": -2, "lion": -4, "muon": -3, "sam": -1, "sam_half": -1,
}  # fmt: skip
SAMS = {"sam", "sam_half"}
DECOUPLED = {"adamw", "lion", "muon"}
ON_LANDSCAPES = OPTIMIZERS.keys() - {"muon", "adamw"}  # a point is no matrix for Muon; without decay AdamW is Adam
LANDSCAPE_RATES = [10 ** (k / 3) for k in range(-12, 7)]  # from 0.0001 to 100
WINDOW = 10  # steps over which a loss is averaged
GUESS = math.log(10)  # the loss of ten equal probabilities


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    arms = list(dict.fromkeys(args.optimizers))
    train_set, held_out = pictures("validation", args)
    if args.batch_size > len(train_set[1]):
        raise UserError(f"--batch_size {args.batch_size}: there are {len(train_set[1])} pictures to train on")
    walkers = [arm for arm in arms if arm in ON_LANDSCAPES]
    total = len(walkers) * len(LANDSCAPES) + len(arms) * (args.trials + args.runs)
    with tqdm(total=total, unit="run") as bar:
        landscapes = [walk(arm, args.landscape_steps, bar) for arm in walkers]
        tried = {arm: tune(arm, train_set, held_out, bar, args) for arm in arms}
        rates = {arm: best_rate(scores) for arm, scores in tried.items()}
        test_set = pictures("test", args)[1]
        runs: dict[str, list[Training]] = {arm: [] for arm in arms}
        for k, arm in product(range(1, args.runs + 1), arms):  # in turn: a slow moment of the machine hits all arms
            bar.set_postfix_str(f"{arm}, run {k}")
            runs[arm].append(train_and_measure(arm, rates[arm], args.seed + k, train_set, test_set, args))
            bar.update()

    rows, deadline = table(tried, runs, args.steps)
    final = {
        "deadline_seconds": deadline,
        "table": rows,
        "landscapes": landscapes,
        "rates": [{"optimizer": arm, "lr": lr, "accuracy": tried[arm][lr]} for arm in arms for lr in tried[arm]],
        "validation_count": len(held_out[1]),
        "test_count": len(test_set[1]),
        "split": "test",
    }
    curves = {arm: average_curve([training.losses for training in runs[arm]]) for arm in arms}
    history, per_seed = thinned(curves, args.steps), by_seed(runs, args.seed)
    write_results(args.out_dir / "exp_optimization.json", args, final, history, per_seed)
    save_small(plots.sensitivity(final["rates"], rows), args.out_dir / "exp_optimization_rates.png")
    save_small(plots.losses(history, rows, deadline), args.out_dir / "exp_optimization_loss.png")
    print_tables(final)
    print(f"written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="fashion_mnist", choices=DATASETS, help="photographs, or drawn shapes")
    parser.add_argument("--train_size", type=positive, default=4000, help="how many of the shapes to draw")
    parser.add_argument("--optimizers", nargs="+", default=list(MIDDLE), choices=MIDDLE, help="which to compare")
    parser.add_argument("--trials", type=positive, default=7, help="learning rates to try, two in a factor of ten")
    parser.add_argument("--runs", type=positive, default=3, help="seeds to train with at the best rate, after --seed")
    parser.add_argument("--steps", type=positive, default=150, help="steps of a training")
    parser.add_argument("--batch_size", type=positive, default=64, help="pictures a step")
    parser.add_argument("--width", type=positive, default=8, help="channels of the first of three stages")
    parser.add_argument("--weight_decay", type=amount, default=0.05, help="of adamw, lion and muon; others have none")
    parser.add_argument("--landscape_steps", type=positive, default=2000, help="steps on a landscape")
    add_amp_flag(parser)
    tiny = {"dataset": "shapes", "train_size": 200, "trials": 1, "runs": 2, "steps": 3, "batch_size": 20, "width": 2}
    return begin(parser, argv, dry_run=tiny | {"landscape_steps": 5, "amp": "off"})


def walk(arm: str, steps: int, bar: tqdm) -> dict:
    """Return on each landscape the steps after which an optimizer is at rest, at which rate, and how high it stays."""
    row = {"optimizer": arm}
    for place, landscape in LANDSCAPES.items():
        bar.set_postfix_str(f"{arm} on {place}")
        found = quickest(landscape, OPTIMIZERS[arm], LANDSCAPE_RATES, steps)
        row |= {f"{place}_{key}": found[key] for key in ("steps", "lr", "height")}
        bar.update()
    return row


# ---- trainings ------------------------------------------------------------------------------------------------------


def pictures(split: str, args: argparse.Namespace) -> tuple[Pictures, Pictures]:
    train_set, held_out, _ = load(args.dataset, split, args.data_root, args.train_size)
    return tuple(t.to(args.device) for t in train_set), tuple(t.to(args.device) for t in held_out)


class Training(NamedTuple):
    accuracy: float
    losses: list[float]
    step_seconds: float  # the median


class SecondPass:
    """Gives SAM the form of the other optimizers: remembers the batch, and differentiates its loss again at a step."""

    def __init__(self, sam: SAM, amp: str):
        self.sam, self.amp, self.param_groups, self.zero_grad = sam, amp, sam.param_groups, sam.zero_grad

    def loss_of(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        self.batch = model, x, y
        return loss_of(model, x, y)

    def step(self) -> None:
        self.sam.step(self._again)

    def _again(self) -> Tensor:
        self.zero_grad()
        with autocast(self.batch[1].device, self.amp):
            loss = loss_of(*self.batch)
        loss.backward()
        return loss


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(model(x).float(), y)


def train_and_measure(
    arm: str, lr: float, seed: int, train_set: Pictures, held_out: Pictures, args: argparse.Namespace
) -> Training:
    """Train a network, then measure it. Its first weights and the order of the pictures depend on the seed alone."""
    set_seed(seed)
    model = CNN(CNNConfig(width=args.width)).to(args.device, memory_format=torch.channels_last)
    loss = loss_of
    if arm in SAMS:
        second_pass = SecondPass(SAM(*make_optimizers(model, "momentum", lr, 0.0)), args.amp)
        optimizers, loss = [second_pass], second_pass.loss_of
    else:
        optimizers = make_optimizers(model, arm, lr, args.weight_decay if arm in DECOUPLED else 0.0)
    steps = math.ceil(args.steps / 2) if arm == "sam_half" else args.steps
    ticks = []

    def timed(*batch: object) -> Tensor:
        ticks.append(time.perf_counter())
        return loss(*batch)

    losses = fit(
        model, *train_set, optimizers, cosine(steps), steps, args.batch_size, args.amp, to_input=to_input, loss_of=timed
    )
    ticks.append(time.perf_counter())
    if not math.isfinite(losses[-1]):  # it ran away, and counts as guessing from there on
        losses[-1:] = [GUESS] * (steps - len(losses) + 1)
    accuracy, _ = score(probabilities(model, held_out[0], args.amp, to_input=to_input), held_out[1])
    return Training(accuracy, losses, median(end - start for start, end in pairwise(ticks)))


def tune(arm: str, train_set: Pictures, held_out: Pictures, bar: tqdm, args: argparse.Namespace) -> dict[float, float]:
    """Return the validation accuracy at each learning rate that was tried."""

    def accuracy(lr: float) -> float:
        bar.set_postfix_str(f"{arm}, rate {lr:.2g}")
        bar.update()
        return train_and_measure(arm, lr, args.seed, train_set, held_out, args).accuracy

    first = MIDDLE[arm] - args.trials // 2
    grid = [10 ** (k / 2) for k in range(first, first + args.trials)]
    return search_rate(accuracy, grid, ratio=10**0.5, reach=args.trials)


# ---- what it comes to -----------------------------------------------------------------------------------------------


def table(tried: dict[str, dict], runs: dict[str, list[Training]], steps: int) -> tuple[list[dict], float]:
    """Return a row for each arm, and the deadline: the seconds in which the fastest makes all its `steps`."""
    seconds = {arm: median(r.step_seconds for r in runs[arm]) for arm in runs}
    deadline = steps * min(seconds.values())
    rows = []
    for arm, found in tried.items():
        lr = best_rate(found)
        decades, is_open = plateau(found)
        n = max(1, int(deadline / seconds[arm] + 1e-9))  # steps that it has made by then
        row = {"optimizer": arm, "lr": lr, "trials": len(found), "validation_accuracy": found[lr]}
        row |= {"plateau_decades": decades, "plateau_open": is_open}
        row |= mean_and_std("test_accuracy", [r.accuracy for r in runs[arm]])
        row |= mean_and_std("train_loss", [trailing(r.losses) for r in runs[arm]])
        row |= mean_and_std("deadline_loss", [trailing(r.losses[:n]) for r in runs[arm]])
        row |= {"step_seconds": seconds[arm], "train_seconds": seconds[arm] * len(runs[arm][0].losses)}
        rows.append(row)
    return rows, deadline


def plateau(found: dict[float, float], within: float = 0.02) -> tuple[float, bool]:
    """Return over how many powers of ten around the best rate the accuracy is at most `within` below the best.

    Between the rates that were tried it is taken to be straight. True, if the plateau reaches the edge of the grid:
    it may be wider then.
    """
    rates, best = sorted(found), best_rate(found)
    bar = found[best] - within
    width, is_open = 0.0, False
    for side in ([r for r in rates if r >= best], [r for r in reversed(rates) if r <= best]):
        for near, far in pairwise(side):
            share = 1.0 if found[far] >= bar else (found[near] - bar) / (found[near] - found[far])
            width += share * abs(math.log10(far / near))
            if share < 1:
                break
        else:
            is_open = True
    return width, is_open


def trailing(losses: list[float]) -> float:
    """Return the mean of the last losses: that of a single batch says little."""
    return mean(losses[-WINDOW:])


def average_curve(runs: list[list[float]]) -> list[float]:
    """Return the loss by step, averaged over the seeds and over the last steps."""
    by_step = [mean(losses) for losses in zip(*runs, strict=True)]
    return [trailing(by_step[:n]) for n in range(1, len(by_step) + 1)]


def thinned(curves: dict[str, list[float]], steps: int, rows: int = 40) -> list[dict]:
    """Return about so many rows of the averaged losses, each of all arms that have come that far."""
    every = max(1, steps // rows)
    return [
        {"step": n} | {arm: curve[n - 1] for arm, curve in curves.items() if n <= len(curve)}
        for n in range(every, steps + 1, every)
    ]


def by_seed(runs: dict[str, list[Training]], seed: int) -> list[dict]:
    """Return a row for each seed: every arm's test accuracy and last training loss."""
    rows = [{"seed": seed + k} for k in range(1, 1 + min(map(len, runs.values())))]
    for arm, trainings in runs.items():
        for row, training in zip(rows, trainings, strict=True):
            row |= {f"{arm}_test_accuracy": training.accuracy, f"{arm}_train_loss": trailing(training.losses)}
    return rows


def print_tables(final: dict) -> None:
    print("\nsteps until it stays within 1e-6 of the minimum; else how far above it stays")
    print(f"{'':10}" + "".join(f"{place:>20}" for place in LANDSCAPES))
    for row in final["landscapes"]:
        cells = []
        for place in LANDSCAPES:
            steps, lr, height = (row[f"{place}_{key}"] for key in ("steps", "lr", "height"))
            cells.append(f"above {height:.0e}" if steps is None else f"{steps} at rate {lr:.2g}")
        print(f"{row['optimizer']:10}" + "".join(f"{cell:>20}" for cell in cells))
    after = f"after {final['deadline_seconds']:.1f} s"
    heads = [("rate", 8), ("test accuracy", 18), ("loss at the end", 18), (after, 14), ("ms a step", 12)]
    heads += [("2 points wide", 16)]
    print(f"\n{'':10}" + "".join(f"{head:>{width}}" for head, width in heads))
    for row in sorted(final["table"], key=lambda row: -row["test_accuracy"]):
        accuracy = f"{row['test_accuracy']:.1%} ± {100 * row['test_accuracy_std']:.1f}"
        loss = f"{row['train_loss']:.3f} ± {row['train_loss_std']:.3f}"
        wide = f"{'> ' if row['plateau_open'] else ''}{row['plateau_decades']:.1f} decades"
        print(
            f"{row['optimizer']:10}{row['lr']:8.2g}{accuracy:>18}{loss:>18}{row['deadline_loss']:14.3f}"
            f"{1e3 * row['step_seconds']:12.1f}{wide:>16}"
        )


if __name__ == "__main__":
    run(main)
