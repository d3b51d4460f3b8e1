"""What helps when there are 1,000 pictures? Each regulariser alone, then many together, on the same small network.
只有 1,000 张训练图片时，哪种正则化有用？同一个小网络，先逐一单用，再组合使用。

    python chapter_03_optimization_regularization/exp_regularization.py                     # 18 min on one CPU core
    python chapter_03_optimization_regularization/exp_regularization.py --dataset shapes    # no download: 18 min

Each seed draws its own pictures to train on, the same for every arm. Each arm's learning rate is tuned with the first
seed, by the accuracy on validation pictures; if the best rate is at the edge of the grid, the grid grows. The training
that won is the first of the arm's results. Nothing and the combination are then offered a longer training too: with
this choice for both, their difference is the gain. The test set is read last.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from tqdm import tqdm

from chapter_03_optimization_regularization.dataset import DATASETS, Pictures, few, load, to_input
from chapter_03_optimization_regularization.experiments.calibration import calibration_error, mask_averages, reliability
from chapter_03_optimization_regularization.experiments.recipe import Recipe, train_by_recipe
from chapter_03_optimization_regularization.figures import regularization as figures
from chapter_03_optimization_regularization.model import CNN, CNNConfig
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS
from chapter_03_optimization_regularization.training import probabilities, score
from utils.cli import add_data_flag, add_output_flags, amount, begin, positive, run, script_parser
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed

ARMS = {
    "nothing": Recipe(),
    "weight decay": Recipe(weight_decay=0.3),
    "L1": Recipe(l1=0.03),
    "max-norm": Recipe(max_norm=2.0),
    "dropout": Recipe(dropout=0.5),
    "label smoothing": Recipe(label_smoothing=0.1),
    "flips and shifts": Recipe(shift=1),
    "cutout": Recipe(cutout=8),
    "mixup": Recipe(mixup=0.2),
    "CutMix": Recipe(cutmix=1.0),
    "early stopping": Recipe(patience=5),
    "BatchNorm": Recipe(norm="batch"),
    "combination": Recipe(weight_decay=0.05, shift=1, cutmix=1.0, norm="batch", ema=0.99, views=2),
}
LONGER = {arm: f"{arm}, longer" for arm in ("nothing", "combination")}
MIDDLE = -6  # of the grid of learning rates: 10^(k / 3)


class Trial(NamedTuple):
    k: int  # the learning rate was 10^(k / 3)
    steps: int
    accuracy: float  # on the validation pictures


class Bench:
    """Trains networks that differ in recipe, learning rate, length and seed alone, and remembers them."""

    def __init__(self, args: argparse.Namespace, bar: tqdm):
        train_set, held_out, classes = load(args.dataset, "validation", args.data_root, args.train_size)
        self.args, self.bar, self.n_classes = args, bar, len(classes)
        self.seeds = range(args.seed, args.seed + args.runs)
        self.train_sets = [self._move(few(*train_set, args.per_class, seed)) for seed in self.seeds]
        self.validation = self._move(t[: args.validation_size] for t in held_out)
        self.networks: dict[tuple, CNN] = {}

    def test_set(self) -> Pictures:
        return self._move(load(self.args.dataset, "test", self.args.data_root, self.args.train_size)[1])

    def _move(self, pictures: Iterable[Tensor]) -> Pictures:
        return tuple(t.to(self.args.device) for t in pictures)

    def network(self, recipe: Recipe, k: int, steps: int, run: int) -> CNN:
        """Return the network that this training makes; `run` counts the seeds from 0."""
        key = recipe, k, steps, run
        if key not in self.networks:
            self.bar.set_postfix_str(f"rate {10 ** (k / 3):.2g}, {steps} steps, seed {self.seeds[run]}")
            set_seed(self.seeds[run])
            self.networks[key] = train_by_recipe(
                recipe,
                self.train_sets[run],
                self.validation,
                CNNConfig(self.n_classes, self.args.width),
                optimizer=self.args.optimizer,
                lr=10 ** (k / 3),
                steps=steps,
                batch_size=self.args.batch_size,
                amp=self.args.amp,
            )
        return self.networks[key]

    def predict(self, model: CNN, images: Tensor, views: int = 1) -> Tensor:
        return probabilities(model, images, self.args.amp, views, to_input=to_input)

    def trial(self, recipe: Recipe, k: int, steps: int) -> Trial:
        p = self.predict(self.network(recipe, k, steps, run=0), self.validation[0], recipe.views)
        return Trial(k, steps, score(p, self.validation[1])[0])

    def tune(self, recipe: Recipe, lengths: list[int]) -> list[Trial]:
        """Try rates for the first length, then the other lengths at the best rate; return all trials."""
        first = MIDDLE - self.args.trials // 2
        trials = [self.trial(recipe, k, lengths[0]) for k in range(first, first + self.args.trials)]
        while len(trials) < 2 * self.args.trials:
            ks, k = [trial.k for trial in trials], best(trials).k
            if min(ks) < k < max(ks):
                break
            trials.append(self.trial(recipe, k - 1 if k == min(ks) else k + 1, lengths[0]))
        return trials + [self.trial(recipe, best(trials).k, steps) for steps in lengths[1:]]

    def repeat(self, recipe: Recipe, like: Trial) -> list[CNN]:
        """Return a network for each seed."""
        return [self.network(recipe, like.k, like.steps, run) for run in range(len(self.seeds))]


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="fashion_mnist", choices=DATASETS, help="what to learn")
    parser.add_argument("--train_size", type=positive, default=4000, help="how many of the shapes to choose from")
    parser.add_argument("--per_class", type=positive, default=100, help="pictures of each class to train on")
    parser.add_argument("--validation_size", type=positive, default=2000, help="other pictures, to tune with")
    parser.add_argument("--runs", type=positive, default=3, help="seeds to train with, from --seed on")
    parser.add_argument("--trials", type=positive, default=3, help="learning rates to try, three in a factor of ten")
    parser.add_argument("--steps", type=positive, default=600, help="steps of a training")
    parser.add_argument("--longer", type=positive, default=3000, help="steps that two arms may choose too")
    parser.add_argument("--batch_size", type=positive, default=32, help="pictures a step")
    parser.add_argument("--width", type=positive, default=16, help="channels of the first of three stages")
    parser.add_argument("--optimizer", default="adamw", choices=OPTIMIZERS, help="what makes the steps")
    parser.add_argument("--l1", type=amount, nargs="+", default=[0.03, 0.1, 0.2], help="strengths to try")
    parser.add_argument("--masks", type=positive, default=30, help="networks that dropout draws")
    parser.add_argument("--amp", default="auto", choices=["auto", "off", "bf16"], help="bfloat16 autocast")
    tiny = {"dataset": "shapes", "train_size": 100, "per_class": 4, "validation_size": 20, "runs": 2, "trials": 1}
    tiny |= {"steps": 3, "longer": 6, "batch_size": 10, "width": 2, "l1": [0.1, 100.0], "masks": 3, "amp": "off"}
    args = begin(parser, argv, dry_run=tiny)

    start = time.perf_counter()
    recipes = ARMS | {name: ARMS[arm] for arm, name in LONGER.items()}
    lengths = {arm: [args.steps, args.longer] if arm in LONGER.values() else [args.steps] for arm in recipes}
    strengths = {strength: Recipe(l1=strength) for strength in sorted({0.0, *args.l1})}
    with tqdm(total=len(recipes) + len(strengths), unit="arm") as bar:
        bench = Bench(args, bar)
        trials, models = {}, {}
        for arm, recipe in recipes.items():
            bar.set_description(arm)
            trials[arm] = bench.tune(recipe, lengths[arm])
            models[arm] = bench.repeat(recipe, best(trials[arm]))
            bar.update()
        sparse = {}
        for strength, recipe in strengths.items():
            bar.set_description(f"L1 of strength {strength:g}")
            sparse[strength] = bench.repeat(recipe, best(trials["L1"]))
            bar.update()

    test_set = bench.test_set()
    outputs = {arm: [bench.predict(m, test_set[0], recipes[arm].views) for m in models[arm]] for arm in recipes}
    averages = [list(mask_averages(model, test_set[0], args.masks, args.amp)) for model in models["dropout"]]
    rows = {arm: [measure(p, test_set[1]) for p in outputs[arm]] for arm in recipes}
    for arm, recipe in recipes.items():
        for row, model, (x, y) in zip(rows[arm], models[arm], bench.train_sets, strict=True):
            row["train_accuracy"] = score(bench.predict(model, x, recipe.views), y)[0]
            row["gap"] = row["train_accuracy"] - row["test_accuracy"]
    per_seed = [gains({arm: rows[arm][run] for arm in recipes}) for run in range(args.runs)]
    for row, model in zip(per_seed, models[LONGER["combination"]], strict=True):
        row["one_view_accuracy"] = score(bench.predict(model, test_set[0]), test_set[1])[0]
    final = spread(per_seed) | {
        "table": [described(arm, trials[arm]) | spread(rows[arm]) for arm in recipes],
        "sparsity": [sparsity(strength, networks, test_set, bench) for strength, networks in sparse.items()],
        "masks": [
            {"masks": n} | spread([measure(p, test_set[1]) for p in by_seed])
            for n, by_seed in enumerate(zip(*averages, strict=True), 1)
        ],
        "reliability": {
            "nothing": pooled(outputs["nothing"], test_set[1]),
            "dropout": pooled(outputs["dropout"], test_set[1]),
            "masks": pooled([by_count[-1] for by_count in averages], test_set[1]),
        },
        "train_count": len(bench.train_sets[0][1]),
        "validation_count": len(bench.validation[1]),
        "test_count": len(test_set[1]),
        "split": "test",
        "parameters": sum(p.numel() for p in models["nothing"][0].parameters()),
        "seconds": time.perf_counter() - start,
    }
    per_seed = [
        {"seed": seed} | row | {arm: rows[arm][run] for arm in recipes}
        for run, (seed, row) in enumerate(zip(bench.seeds, per_seed, strict=True))
    ]
    write_results(args.out_dir / "exp_regularization.json", args, final, per_seed=per_seed)
    drawn = {
        "gap": figures.gaps(final["table"], final["train_count"]),
        "sparsity": figures.sparsity(final["sparsity"], [networks[0] for networks in sparse.values()]),
        "calibration": figures.calibration(final["reliability"], final["masks"], final["table"]),
    }
    for name, figure in drawn.items():
        save_figure(figure, args.out_dir / f"exp_regularization_{name}.png")
    show(final)
    print(f"written to {args.out_dir}")


def best(trials: list[Trial]) -> Trial:
    """Return the most accurate; of equals the first, which is the shorter."""
    return max(trials, key=lambda trial: trial.accuracy)


def described(arm: str, trials: list[Trial]) -> dict:
    k, steps, accuracy = best(trials)
    return {"arm": arm, "lr": 10 ** (k / 3), "steps": steps, "trials": len(trials), "validation_accuracy": accuracy}


def measure(p: Tensor, labels: Tensor) -> dict[str, float]:
    """Judge probabilities (N, K) of the test pictures."""
    accuracy, loss = score(p, labels)
    return {"test_accuracy": accuracy, "test_loss": loss, "calibration_error": calibration_error(p, labels)}


def spread(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return each figure's mean over the seeds, and as `<name>_std` its spread."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    found = {}
    for name, values in columns.items():
        found |= {name: mean(values), f"{name}_std": stdev(values) if len(values) > 1 else 0.0}
    return found


def gains(rows: dict[str, dict]) -> dict[str, float]:
    """Return how much the combination adds to nothing, for one seed: with the choice of all lengths, and without."""
    test = {arm: row["test_accuracy"] for arm, row in rows.items()}
    return {
        "gain": test[LONGER["combination"]] - test[LONGER["nothing"]],
        "gain_short": test["combination"] - test["nothing"],
    }


def sparsity(strength: float, networks: list[CNN], test_set: Pictures, bench: Bench) -> dict[str, float]:
    rows = [{"zeros": zeros(m)} | measure(bench.predict(m, test_set[0]), test_set[1]) for m in networks]
    return {"strength": strength} | spread(rows)


def zeros(model: nn.Module) -> float:
    """Return the share of the weights that are exactly 0; biases and norms do not count."""
    weights = [p for p in model.parameters() if p.ndim >= 2]
    return sum(int((p == 0).sum()) for p in weights) / sum(p.numel() for p in weights)


def pooled(outputs: list[Tensor], labels: Tensor) -> list[dict[str, float]]:
    """Return the reliability diagram of all seeds' predictions together."""
    return reliability(torch.cat(outputs), labels.repeat(len(outputs)))


def show(final: dict) -> None:
    print(f"{'arm':22}rate  steps  trials   test %         train %   gap %    loss  calibration error %")
    for row in sorted(final["table"], key=lambda row: row["test_accuracy"]):
        percent = {
            name: 100 * value
            for name, value in row.items()
            if "accuracy" in name or name in ("gap", "calibration_error")
        }
        print(
            "{arm:20} {lr:6.4f} {steps:6} {trials:7}   {test_accuracy:.2f} ± {test_accuracy_std:.2f}"
            "{train_accuracy:10.2f}{gap:8.2f}{test_loss:8.3f}{calibration_error:10.1f}".format(**row | percent)
        )
    print("\nL1's strength  exact zeros %  test %")
    for row in final["sparsity"]:
        print(f"{row['strength']:13g}{100 * row['zeros']:15.1f}{100 * row['test_accuracy']:8.2f}")
    print("\ndropout masks  test %    loss  calibration error %")
    for row in final["masks"]:
        if row["masks"] in (1, 2, 5, 10, len(final["masks"])):
            print(
                f"{row['masks']:13}{100 * row['test_accuracy']:8.2f}{row['test_loss']:8.3f}"
                f"{100 * row['calibration_error']:10.1f}"
            )
    print(
        f"\ngain {100 * final['gain']:.2f} ± {100 * final['gain_std']:.2f} points, in {final['seconds'] / 60:.1f} min"
    )


if __name__ == "__main__":
    run(main)
