"""What do norms buy? Plain networks, ever deeper, at every learning rate, in batches of 256 pictures down to 2.
归一化换来了什么？不带跳跃连接的朴素网络：层数越来越深，学习率从小到大，批量从 256 张减到 2 张。

    python chapter_03_optimization_regularization/exp_normalization.py      # Fashion-MNIST, on 1 CPU core: 10 min
    python chapter_03_optimization_regularization/exp_normalization.py --dataset shapes      # no download: 10 min

One axis moves at a time. Every training sees equally many pictures, so a batch half as large makes twice as many steps;
AdamW's rate goes with the square root of the batch size, for all norms alike. What is chosen is chosen on validation
pictures. At batch size 2 BatchNorm and GroupNorm are tuned once more, and only then the test pictures are read.
"""

import argparse
import copy
import math
import sys
from pathlib import Path
from statistics import mean
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tqdm import tqdm

from chapter_03_optimization_regularization.dataset import DATASETS, Pictures, load, to_input
from chapter_03_optimization_regularization.experiments.plain_net import PlainNet, measure_signals
from chapter_03_optimization_regularization.figures import normalization as figures
from chapter_03_optimization_regularization.normalization import NORMS
from chapter_03_optimization_regularization.optimizers.schedules import cosine
from chapter_03_optimization_regularization.training import fit, make_optimizers, probabilities, score
from utils.batch_norm import recompute_batch_norm_
from utils.cli import add_amp_flag, add_data_flag, add_output_flags, amount, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.rate_search import best_rate, search_rates
from utils.results import write_results
from utils.seed import set_seed
from utils.spread import over_seeds
from utils.timer import Timer

HELD_OUT = 2000  # validation pictures that choose
HALF_DECADE = math.sqrt(10)
REACH = 3  # rates by which a grid grows at most, at either end
RATES = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]


def main(argv: list[str] | None = None) -> None:
    args, timer = parse(argv), Timer()
    train_set, validation, _ = load(args.dataset, "validation", args.data_root)
    validation = tuple(t[:HELD_OUT] for t in validation)
    if max(args.batch_sizes[-1], args.batch_size) > min(args.pictures, len(train_set[1])):
        raise UserError("a batch is larger than --pictures, or than the training set")
    small = args.batch_sizes[0]
    trials = Trials(train_set, validation, args)
    rates, lr_table = lr_axis(trials, args)
    depth_table = depth_axis(trials, args, lr_table)
    batch_table = batch_axis(trials, args, rates)
    start = {norm: scaled(rates[norm], small, args) for norm in ("batch", "group")}
    tuning, per_seed, test_count = small_batch(trials, args, start)
    x = to_input(validation[0][:64].to(args.device))
    signals = [measure_signals(norm, args.depths[-1], args.width, x, args.seed) for norm in NORMS]
    trials.bar.close()

    accuracies = over_seeds(per_seed, ["batch", "group", "batch_recomputed", "gap"])
    final = {
        "learning_rates": [row["lr"] for row in lr_table[0]["trials"]],
        "depths": args.depths,
        "batch_size": args.batch_size,
        "batch_sizes": args.batch_sizes,
        "lr_table": lr_table,
        "depth_table": depth_table,
        "batch_table": batch_table,
        **{f"batch{small}_{norm}_lr": best_rate(scores) for norm, scores in tuning.items()},
        **{f"batch{small}_{name}": value for name, value in accuracies.items()},
        f"batch{small}_tuning": {norm: rows_of(scores) for norm, scores in tuning.items()},
        "test_count": test_count,
        "signals": signals,
        "split_of_tables": "validation",
        "validation_count": len(validation[1]),
        "seconds": timer.seconds,
    }
    write_results(args.out_dir / "exp_normalization.json", args, final, per_seed=per_seed)
    drawn = {"sweeps": figures.sweeps(final), "signals": figures.signals(signals)}
    drawn[f"batch{small}"] = figures.small_batch(final, per_seed, small)
    for name, figure in drawn.items():
        save_figure(figure, args.out_dir / f"exp_normalization_{name}.png")
    report(final, small)
    print(f"written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="fashion_mnist", choices=DATASETS, help="photographs, or drawn shapes")
    add_amp_flag(parser, default="off")
    parser.add_argument("--width", type=positive, default=32, help="channels of every layer")
    parser.add_argument("--pictures", type=positive, default=8192, help="how many each training sees")
    parser.add_argument("--depths", type=positive, nargs="+", default=[10, 20, 30, 40, 50], help="convolutions")
    parser.add_argument("--lr", type=amount, nargs="+", default=RATES, help="learning rates to choose from")
    parser.add_argument("--batch_sizes", type=positive, nargs="+", default=[2, 8, 32, 64, 256], help="examples a step")
    parser.add_argument("--batch_size", type=positive, default=64, help="examples a step on the other two axes")
    parser.add_argument("--runs", type=positive, default=3, help="seeds at the smallest batch, from --seed on")
    tiny = {"dataset": "shapes", "width": 8, "pictures": 64, "depths": [2, 3], "lr": [1e-3, 1e-2]}
    args = begin(parser, argv, dry_run=tiny | {"batch_sizes": [2, 16], "batch_size": 16, "runs": 2})
    args.depths, args.lr, args.batch_sizes = sorted(args.depths), sorted(args.lr), sorted(args.batch_sizes)
    return args


class Run(NamedTuple):
    accuracy: float  # on the validation pictures
    model: PlainNet
    losses: list[float]  # of every training step


class Trials:
    """Trains on demand, and remembers: where two axes cross, there is one training."""

    def __init__(self, train_set: Pictures, validation: Pictures, args: argparse.Namespace):
        self.train_set, self.validation = (tuple(t.to(args.device) for t in s) for s in (train_set, validation))
        self.args, self.done = args, {}
        axes = len(args.lr) + 2 * len(args.depths) - 1 + len(args.batch_sizes) - 1
        self.bar = tqdm(total=len(NORMS) * axes + 2 * (1 + args.runs), unit="training")  # about: grids may grow

    def __call__(self, norm: str, depth: int, lr: float, batch_size: int, seed: int) -> Run:
        key = norm, depth, f"{lr:.6g}", batch_size, seed
        if key not in self.done:
            self.bar.set_postfix_str(f"{norm}, {depth} layers, batches of {batch_size}")
            set_seed(seed)
            model = PlainNet(norm, depth, self.args.width)
            model.to(self.args.device, memory_format=torch.channels_last)
            steps = self.args.pictures // batch_size
            optimizers = make_optimizers(model, "adamw", lr, weight_decay=0.0)
            losses = fit(
                model, *self.train_set, optimizers, cosine(steps), steps, batch_size, self.args.amp, to_input=to_input
            )
            p = probabilities(model, self.validation[0], to_input=to_input)
            self.done[key] = Run(score(p, self.validation[1])[0], model, losses)
            self.bar.update()
        return self.done[key]


def rows_of(scores: dict[float, float]) -> list[dict[str, float]]:
    """Return the rates and accuracies of a search as the rows of a table."""
    return [{"lr": lr, "accuracy": accuracy} for lr, accuracy in scores.items()]


def scaled(lr: float, batch_size: int, args: argparse.Namespace) -> float:
    """Return the rate for another batch size: the noise in a batch's mean falls with the square root of its size."""
    return lr * math.sqrt(batch_size / args.batch_size)


def lr_axis(trials: Trials, args: argparse.Namespace) -> tuple[dict[str, float], list[dict]]:
    """Sweep the learning rate in the shallowest network; return each norm's best one, and the table."""

    def accuracy(norm: str, lr: float) -> float:
        return trials(norm, args.depths[0], lr, args.batch_size, args.seed).accuracy

    found = search_rates(accuracy, dict.fromkeys(NORMS, args.lr), HALF_DECADE, REACH)
    rates = {norm: best_rate(scores) for norm, scores in found.items()}
    return rates, [{"norm": norm, "best_lr": rates[norm], "trials": rows_of(found[norm])} for norm in found]


def depth_axis(trials: Trials, args: argparse.Namespace, lr_table: list[dict]) -> list[dict]:
    """Sweep the depth, each network at its norm's best rate and at the next lower one: the better of the two counts."""
    table = []
    for row in lr_table:
        rates = [trial["lr"] for trial in row["trials"]]
        place = rates.index(row["best_lr"])
        pair, accuracies = rates[max(0, place - 1) : place + 1], []
        for depth in args.depths:
            runs = [trials(row["norm"], depth, lr, args.batch_size, args.seed) for lr in pair]
            accuracies.append(max(run.accuracy for run in runs))
        table.append({"norm": row["norm"], "accuracies": accuracies})
    return table


def batch_axis(trials: Trials, args: argparse.Namespace, rates: dict[str, float]) -> list[dict]:
    """Sweep the batch size in the shallowest network, at rates scaled from each norm's best one."""
    table = []
    for norm in NORMS:
        runs = [trials(norm, args.depths[0], scaled(rates[norm], b, args), b, args.seed) for b in args.batch_sizes]
        table.append({"norm": norm, "accuracies": [run.accuracy for run in runs]})
    return table


def small_batch(
    trials: Trials, args: argparse.Namespace, start: dict[str, float]
) -> tuple[dict[str, dict[float, float]], list[dict], int]:
    """Tune BatchNorm and GroupNorm at the smallest batch, train them from several seeds, and test.

    BatchNorm is tested twice: as it is, and with running statistics measured anew on 2,000 training pictures.

    Returns:
        the scores of each norm's rates, a row for each seed, and how many pictures were tested.
    """
    small, depth = args.batch_sizes[0], args.depths[0]
    grids = {norm: [lr / HALF_DECADE, lr, lr * HALF_DECADE] for norm, lr in start.items()}
    tuning = search_rates(
        lambda norm, lr: trials(norm, depth, lr, small, args.seed).accuracy, grids, HALF_DECADE, REACH
    )
    _, test, _ = load(args.dataset, "test", args.data_root)
    test = tuple(t.to(args.device) for t in test)

    per_seed = []
    for seed in range(args.seed, args.seed + args.runs):
        row = {"seed": seed}
        for norm, scores in tuning.items():
            done = trials(norm, depth, best_rate(scores), small, seed)
            row[norm] = score(probabilities(done.model, test[0], to_input=to_input), test[1])[0]
            row[f"{norm}_loss"] = downsampled(done.losses)
        model = copy.deepcopy(trials("batch", depth, best_rate(tuning["batch"]), small, seed).model)
        recompute_batch_norm_(model, (to_input(part) for part in trials.train_set[0][:2000].split(500)))
        row["batch_recomputed"] = score(probabilities(model, test[0], to_input=to_input), test[1])[0]
        per_seed.append(row | {"gap": row["group"] - row["batch"]})
    return tuning, per_seed, len(test[1])


def downsampled(losses: list[float], points: int = 64) -> list[float]:
    """Average neighbouring steps until so many numbers are left."""
    losses = [loss for loss in losses if math.isfinite(loss)]  # the last one of a training that broke off is not
    size = max(1, len(losses) // points)
    return [mean(losses[i : i + size]) for i in range(0, len(losses) - size + 1, size)]


def report(final: dict, small: int) -> None:
    """Print what was found."""
    axes = [("depth", "depths", "depth_table"), ("batch size", "batch_sizes", "batch_table")]
    rates = final["learning_rates"]
    print("validation accuracy (%)\n" + f"{'learning rate':14}" + "".join(f"{lr:9.2g}" for lr in rates))
    for row in final["lr_table"]:
        print(f"{row['norm']:14}" + "".join(f"{100 * trial['accuracy']:9.1f}" for trial in row["trials"]))
    for title, places, table in axes:
        print(f"\n{title:14}" + "".join(f"{place:9}" for place in final[places]))
        for row in final[table]:
            print(f"{row['norm']:14}" + "".join(f"{100 * a:9.1f}" for a in row["accuracies"]))
    print(f"\nbefore training, {final['depths'][-1]} layers      last activation   first gradient   last difference")
    for row in final["signals"]:
        print("{norm:31} {last_activation:15.3g} {first_gradient:16.3g} {last_difference:17.3g}".format(**row))
    print(f"\ntest accuracy (%) at batch size {small}")
    for name, label in (("group", "GroupNorm"), ("batch", "BatchNorm"), ("batch_recomputed", "  statistics anew")):
        value, std = (100 * final[f"batch{small}_{name}{end}"] for end in ("", "_std"))
        print(f"{label:17} {value:6.2f} ± {std:.2f}")
    print(f"gap {100 * final[f'batch{small}_gap']:.2f} points; {final['seconds'] / 60:.1f} min in all")


if __name__ == "__main__":
    run(main)
