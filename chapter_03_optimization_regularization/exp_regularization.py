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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from tqdm import tqdm

from chapter_03_optimization_regularization.dataset import DATASETS, Pictures, balanced_subset, load
from chapter_03_optimization_regularization.experiments.bench import Bench, Setting, Trial, best
from chapter_03_optimization_regularization.experiments.calibration import calibration_error, mask_averages, reliability
from chapter_03_optimization_regularization.experiments.recipe import Recipe
from chapter_03_optimization_regularization.figures import regularization as figures
from chapter_03_optimization_regularization.model import CNN, CNNConfig
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS
from chapter_03_optimization_regularization.training import score
from utils.cli import add_amp_flag, add_data_flag, add_output_flags, amount, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results
from utils.spread import over_seeds
from utils.timer import Timer

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
RECIPES = ARMS | {name: ARMS[arm] for arm, name in LONGER.items()}
Networks = dict[str, list[CNN]]  # arm -> a network for each seed


def main(argv: list[str] | None = None) -> None:
    args, timer = parse(argv), Timer()
    with tqdm(total=len(RECIPES) + len({0.0, *args.l1}), unit="arm") as bar:
        bench = make_bench(args, bar)
        trials, networks = tune_and_train(bench, args.trials, args.steps, args.longer)
        sparse = train_sparse(bench, args.l1, best(trials["L1"]))
    test_set = tuple(t.to(args.device) for t in load(args.dataset, "test", args.data_root, args.train_size)[1])

    rows, outputs = measure_arms(bench, networks, test_set)
    masks = [list(mask_averages(model, test_set[0], args.masks, args.amp)) for model in networks["dropout"]]
    per_seed = [gains({arm: rows[arm][run] for arm in RECIPES}) for run in range(args.runs)]
    for row, model in zip(per_seed, networks[LONGER["combination"]], strict=True):
        row["one_view_accuracy"] = score(bench.predict(model, test_set[0]), test_set[1])[0]
    final = over_seeds(per_seed) | {
        "table": [described(arm, trials[arm]) | over_seeds(rows[arm]) for arm in RECIPES],
        "sparsity": [sparsity(strength, models, test_set, bench) for strength, models in sparse.items()],
        "masks": [
            {"masks": n} | over_seeds([measure(p, test_set[1]) for p in by_seed])
            for n, by_seed in enumerate(zip(*masks, strict=True), 1)
        ],
        "reliability": {
            "nothing": pooled(outputs["nothing"], test_set[1]),
            "dropout": pooled(outputs["dropout"], test_set[1]),
            "masks": pooled([by_count[-1] for by_count in masks], test_set[1]),
        },
        "train_count": len(bench.train_sets[0][1]),
        "validation_count": len(bench.validation[1]),
        "test_count": len(test_set[1]),
        "split": "test",
        "parameters": sum(p.numel() for p in networks["nothing"][0].parameters()),
        "seconds": timer.seconds,
    }
    per_seed = [
        {"seed": seed} | row | {arm: rows[arm][run] for arm in RECIPES}
        for run, (seed, row) in enumerate(zip(bench.seeds, per_seed, strict=True))
    ]
    write(args, final, per_seed, [models[0] for models in sparse.values()])


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="fashion_mnist", choices=DATASETS, help="photographs, or drawn shapes")
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
    add_amp_flag(parser)
    tiny = {"dataset": "shapes", "train_size": 100, "per_class": 4, "validation_size": 20, "runs": 2, "trials": 1}
    tiny |= {"steps": 3, "longer": 6, "batch_size": 10, "width": 2, "l1": [0.1, 1000.0], "masks": 3, "amp": "off"}
    return begin(parser, argv, dry_run=tiny)


# ---- training --------------------------------------------------------------------------------------------------------


def make_bench(args: argparse.Namespace, bar: tqdm) -> Bench:
    """Draw the pictures: for each seed its own to train on, and the same validation pictures for all."""
    train_set, held_out, classes = load(args.dataset, "validation", args.data_root, args.train_size)
    seeds = list(range(args.seed, args.seed + args.runs))
    train_sets = [tuple(t.to(args.device) for t in balanced_subset(*train_set, args.per_class, seed)) for seed in seeds]
    validation = tuple(t[: args.validation_size].to(args.device) for t in held_out)
    if args.batch_size > len(train_sets[0][1]):
        raise UserError(f"--batch_size {args.batch_size}: there are {len(train_sets[0][1])} pictures to train on")
    setting = Setting(CNNConfig(len(classes), args.width), args.optimizer, args.batch_size, args.amp)
    return Bench(setting, seeds, train_sets, validation, bar)


def tune_and_train(bench: Bench, rates: int, steps: int, longer: int) -> tuple[dict[str, list[Trial]], Networks]:
    """Tune each arm, and train it with every seed at its best; return its trials and its networks."""
    trials, networks = {}, {}
    for arm, recipe in RECIPES.items():
        bench.bar.set_description(arm)
        trials[arm] = bench.tune(recipe, rates, [steps, longer] if arm in LONGER.values() else [steps])
        networks[arm] = bench.repeat(recipe, best(trials[arm]))
        bench.bar.update()
    return trials, networks


def train_sparse(bench: Bench, strengths: list[float], like: Trial) -> dict[float, list[CNN]]:
    """Train with L1 penalties of these strengths, and of 0, as long and as fast as the arm "L1"."""
    networks = {}
    for strength in sorted({0.0, *strengths}):
        bench.bar.set_description(f"L1 of strength {strength:g}")
        networks[strength] = bench.repeat(Recipe(l1=strength), like)
        bench.bar.update()
    return networks


# ---- measuring -------------------------------------------------------------------------------------------------------


def measure_arms(
    bench: Bench, networks: Networks, test_set: Pictures
) -> tuple[dict[str, list[dict]], dict[str, list[Tensor]]]:
    """Return for each arm and seed the figures, and the probabilities of the test pictures."""
    rows, outputs = {}, {}
    for arm, recipe in RECIPES.items():
        outputs[arm] = [bench.predict(model, test_set[0], recipe.views) for model in networks[arm]]
        rows[arm] = [measure(p, test_set[1]) for p in outputs[arm]]
        for row, model, (x, y) in zip(rows[arm], networks[arm], bench.train_sets, strict=True):
            row["train_accuracy"] = score(bench.predict(model, x, recipe.views), y)[0]
            row["gap"] = row["train_accuracy"] - row["test_accuracy"]
    return rows, outputs


def described(arm: str, trials: list[Trial]) -> dict:
    lr, steps, accuracy = best(trials)
    return {"arm": arm, "lr": lr, "steps": steps, "trials": len(trials), "validation_accuracy": accuracy}


def measure(p: Tensor, labels: Tensor) -> dict[str, float]:
    """Judge probabilities (N, K) of the test pictures."""
    accuracy, loss = score(p, labels)
    return {"test_accuracy": accuracy, "test_loss": loss, "calibration_error": calibration_error(p, labels)}


def gains(rows: dict[str, dict]) -> dict[str, float]:
    """Return how much the combination adds to nothing, for one seed: with the choice of all lengths, and without."""
    test = {arm: row["test_accuracy"] for arm, row in rows.items()}
    return {
        "gain": test[LONGER["combination"]] - test[LONGER["nothing"]],
        "gain_short": test["combination"] - test["nothing"],
    }


def sparsity(strength: float, networks: list[CNN], test_set: Pictures, bench: Bench) -> dict[str, float]:
    rows = [{"zeros": zeros(m)} | measure(bench.predict(m, test_set[0]), test_set[1]) for m in networks]
    return {"strength": strength} | over_seeds(rows)


def zeros(model: nn.Module) -> float:
    """Return the share of the weights that are exactly 0; biases and norms do not count."""
    weights = [p for p in model.parameters() if p.ndim >= 2]
    return sum(int((p == 0).sum()) for p in weights) / sum(p.numel() for p in weights)


def pooled(outputs: list[Tensor], labels: Tensor) -> list[dict[str, float]]:
    """Return the reliability diagram of all seeds' predictions together."""
    return reliability(torch.cat(outputs), labels.repeat(len(outputs)))


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(args: argparse.Namespace, final: dict, per_seed: list[dict], sparse: list[CNN]) -> None:
    """Write the results and the figures, and print the tables."""
    write_results(args.out_dir / "exp_regularization.json", args, final, per_seed=per_seed)
    drawn = {
        "gap": figures.gaps(final["table"], final["train_count"]),
        "sparsity": figures.sparsity(final["sparsity"], sparse),
        "calibration": figures.calibration(final["reliability"], final["masks"], final["table"]),
    }
    for name, figure in drawn.items():
        save_figure(figure, args.out_dir / f"exp_regularization_{name}.png")
    print_tables(final)
    print(f"written to {args.out_dir}")


def print_tables(final: dict) -> None:
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
