"""How close does a ReLU network come to a function? By construction and by training, by width and by depth.
ReLU 网络能多接近一个函数？构造与训练相比，宽度与深度相比。

    python chapter_02_nn_basics_mlp/universal_approximation.py      # 4 min on one CPU core

What is constructed is exact, in float64. What is trained gets the same steps, learning rates to choose from and seeds.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from tqdm import tqdm

from chapter_02_nn_basics_mlp.constructive import count_linear_regions, interpolate, sawtooth, squaring
from chapter_02_nn_basics_mlp.dataset import SURFACE_SIDE, periodic_target, surface_target
from chapter_02_nn_basics_mlp.figures import approximation as figures
from chapter_02_nn_basics_mlp.initialization import INITIALIZERS
from chapter_02_nn_basics_mlp.losses import mse
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from utils.cli import add_output_flags, amount, begin, positive, run, script_parser
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed
from utils.spread import mean_and_std

SIDE = 3.0  # the wave is approximated on [-3, 3]: nearly two periods
RATES = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003]


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--widths", type=positive, nargs="+", default=[8, 16, 32, 64, 128, 256], help="hidden units")
    parser.add_argument("--depths", type=positive, nargs="+", default=[1, 2, 3, 4, 6], help="hidden layers")
    parser.add_argument("--parameters", type=positive, default=1000, help="size of the networks of these depths")
    parser.add_argument("--max_depth", type=positive, default=12, help="layers of the deepest constructed network")
    parser.add_argument("--steps", type=positive, default=1000, help="training steps")
    parser.add_argument("--lr", type=amount, nargs="+", default=RATES, help="learning rates to choose from")
    parser.add_argument("--runs", type=positive, default=3, help="seeds to train with, from --seed on")
    parser.add_argument("--initialization", default="pytorch", choices=["pytorch", *INITIALIZERS], help="how to start")
    tiny = {"widths": [4, 8], "depths": [1, 2], "parameters": 50, "max_depth": 3, "steps": 3, "lr": [0.01], "runs": 2}
    args = begin(parser, argv, dry_run=tiny)

    bar = tqdm(total=(len(args.widths) + len(args.depths)) * len(args.lr) * args.runs, unit="training")
    wide, deep = width_table(args, bar), depth_table(args, bar)
    bar.close()
    squares, folds = square_table(args.max_depth), sawtooth_table(args)
    errors = np.array([row["trained_each"] for row in wide])  # (widths, seeds)
    slopes = [slope(args.widths, error) for error in errors.T]
    final = {
        "constructive_slope": slope(args.widths, [row["constructed"] for row in wide]),
        "polished_slope": slope(args.widths, [row["polished"] for row in wide]),
        **mean_and_std("trained_slope", slopes),
        "sawtooth_regions": [row["sawtooth"] for row in folds],
        "sawtooth_doubles": all(row["sawtooth"] == 2 ** row["depth"] for row in folds),
        "width_table": wide,
        "depth_table": deep,
        "square_table": squares,
        "sawtooth_table": folds,
    }
    per_seed = [
        {"seed": args.seed + k, "trained_slope": slopes[k], "rms_by_depth": [row["rms_each"][k] for row in deep]}
        for k in range(args.runs)
    ]
    write_results(args.out_dir / "universal_approximation.json", args, final, per_seed=per_seed)
    drawn = {
        "polygons": figures.polygons(SIDE),
        "rates": figures.rates(wide, final),
        "sawtooth": figures.sawteeth(folds, wide),
        "depth": figures.depth(squares, deep),
    }
    for name, figure in drawn.items():
        save_figure(figure, args.out_dir / f"{name}.png")

    print_tables(final)
    print(f"written to {args.out_dir}")


def print_tables(final: dict) -> None:
    print("largest error on the wave    units   constructed      polished       trained     its pieces")
    for row in final["width_table"]:
        print("{width:34} {constructed:13.5f} {polished:13.5f} {trained:13.4f} {regions:15.1f}".format(**row))
    print("{:34} {constructive_slope:13.2f} {polished_slope:13.2f} {trained_slope:13.2f}".format("slope", **final))
    print("\nring wave, equal parameters   layers   units in each   rms error      std")
    for row in final["depth_table"]:
        print("{parameters:27} {depth:8} {width:15} {rms:11.4f} {rms_std:8.4f}".format(**row))
    print(f"\npieces of the sawtooth: {final['sawtooth_regions']}")


def slope(widths: list[int], errors: list[float]) -> float:
    """Return the slope of the straight line that fits the errors best on logarithmic axes."""
    return np.polyfit(np.log(widths), np.log(errors), 1)[0].item()


def train_on_all(network: MLP, x: torch.Tensor, y: torch.Tensor, steps: int, lr: float) -> MLP:
    """Fit all points at once by Adam, the learning rate falling to zero along a cosine; return it in float64."""
    optimizer = torch.optim.Adam(network.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        # forward
        loss = mse(network(x), y)
        # backward
        optimizer.zero_grad()
        loss.backward()
        # step
        optimizer.step()
        schedule.step()
    return network.cpu().double()


def train_seeds(
    config: MLPConfig, x: torch.Tensor, y: torch.Tensor, args: argparse.Namespace, bar: tqdm
) -> tuple[float, list[MLP]]:
    """Train a network per seed with each learning rate; return the rate that fits the points best, and its networks."""
    trials = []
    for lr in args.lr:
        networks = []
        for k in range(args.runs):
            set_seed(args.seed + k)
            network = MLP(replace(config, initialization=args.initialization)).to(args.device)
            networks.append(train_on_all(network, x.to(args.device), y.to(args.device), args.steps, lr))
            bar.update()
        trials.append((mean(distance(n, x.double(), y.double(), square=True) for n in networks), lr, networks))
    return min(trials, key=lambda trial: trial[0])[1:]


@torch.no_grad()
def distance(network: MLP, x: torch.Tensor, y: torch.Tensor, square: bool = False) -> float:
    """Return the largest distance from the targets; with `square`, the root of the mean square."""
    error = network(x) - y
    return error.square().mean().sqrt().item() if square else error.abs().max().item()


def width_table(args: argparse.Namespace, bar: tqdm) -> list[dict]:
    """Approximate the wave with one hidden layer: constructed, the same trained on, and trained from random weights."""
    fine = torch.linspace(-SIDE, SIDE, 12001, dtype=torch.float64)[:, None]
    x, rows = fine[::24].float(), []  # 501 points to train on
    for width in args.widths:
        built = interpolate(periodic_target, torch.linspace(-SIDE, SIDE, width + 1, dtype=torch.float64))
        row = {"width": width, "constructed": distance(built, fine, periodic_target(fine))}
        polished = train_on_all(built.float(), x, periodic_target(x), args.steps, lr=1e-4)
        lr, networks = train_seeds(MLPConfig(d_hidden=width, n_hidden=1), x, periodic_target(x), args, bar)
        errors = [distance(network, fine, periodic_target(fine)) for network in networks]
        row |= {
            "polished": distance(polished, fine, periodic_target(fine)),
            **mean_and_std("trained", errors),
            "lr": lr,
        }
        row |= {"regions": mean(count_linear_regions(n, -SIDE, SIDE) for n in networks), "trained_each": errors}
        rows.append(row)
    return rows


def depth_table(args: argparse.Namespace, bar: tqdm) -> list[dict]:
    """Fit the ring wave with networks of about the same number of parameters and different depths."""
    x, fine = (torch.cartesian_prod(*2 * [torch.linspace(-SURFACE_SIDE, SURFACE_SIDE, n)]) for n in (25, 101))
    rows = []
    for depth in args.depths:
        sizes = {w: 4 * w + 1 + (depth - 1) * (w * w + w) for w in range(1, args.parameters)}
        width = min(sizes, key=lambda w: abs(sizes[w] - args.parameters))
        lr, networks = train_seeds(MLPConfig(d_in=2, d_hidden=width, n_hidden=depth), x, surface_target(x), args, bar)
        errors = [distance(n, fine.double(), surface_target(fine.double()), square=True) for n in networks]
        row = {"depth": depth, "width": width, "parameters": sizes[width], **mean_and_std("rms", errors)}
        rows.append(row | {"lr": lr, "rms_each": errors})
    return rows


def square_table(max_depth: int) -> list[dict]:
    """Approximate x^2 on [0, 1] by folding, and by one layer of as many parameters."""
    x = torch.linspace(0, 1, 2**16 + 1, dtype=torch.float64)[:, None]
    rows = []
    for depth in range(1, max_depth + 1):
        parameters = 12 * depth - 2
        units = (parameters - 1) // 3
        polygon = interpolate(torch.square, torch.linspace(0, 1, units + 1, dtype=torch.float64))
        row = {"depth": depth, "parameters": parameters, "units": units}
        rows.append(row | {"deep": distance(squaring(depth), x, x**2), "wide": distance(polygon, x, x**2)})
    return rows


def sawtooth_table(args: argparse.Namespace) -> list[dict]:
    """Count the straight pieces of the sawtooth on [0, 1], and of random networks, 16 units a layer, on [-3, 3]."""
    rows = []
    for depth in range(1, args.max_depth + 1):
        random = []
        for k in range(args.runs):
            set_seed(args.seed + k)
            random.append(count_linear_regions(MLP(MLPConfig(d_hidden=16, n_hidden=depth)), -SIDE, SIDE))
        pieces = count_linear_regions(sawtooth(depth), 0.0, 1.0)
        rows.append({"depth": depth, "sawtooth": pieces, "random": mean(random)})
    return rows


if __name__ == "__main__":
    run(main)
