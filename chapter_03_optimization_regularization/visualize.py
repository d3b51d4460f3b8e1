"""Race the optimizers over four landscapes, and draw schedules, loss surfaces, and what the condition number costs.
让优化器在四种地形上赛跑，并画出学习率调度、损失曲面，以及条件数的代价。

    python chapter_03_optimization_regularization/visualize.py                  # 1.5 min on one CPU core
    python chapter_03_optimization_regularization/visualize.py --what race      # one subject only
"""

import argparse
import math
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from chapter_01_tensor_autograd.dataset import spirals
from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from chapter_03_optimization_regularization.experiments.landscapes import (
    LANDSCAPES,
    REST,
    Landscape,
    quickest,
    ravine,
    trajectory,
)
from chapter_03_optimization_regularization.figures import optimization_paths as figures
from chapter_03_optimization_regularization.figures.optimization_paths import RACERS
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, SGD
from chapter_03_optimization_regularization.optimizers.schedules import SCHEDULES, cosine, warmup
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.loss_surface import loss_surface, random_directions, vector_direction
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed

RATES = [10 ** (k / 3) for k in range(-12, 4)]  # from 0.0001 to 10
FILMED = ["beale", "ravine", "saddle"]


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    subjects = {"race": race, "schedules": schedules, "surface": surface, "condition": condition}
    parser.add_argument("--what", nargs="+", default=list(subjects), choices=subjects, help="what to draw")
    parser.add_argument("--steps", type=positive, default=2000, help="steps of each run on a landscape")
    parser.add_argument("--frames", type=positive, default=160, help="pictures in the film")
    parser.add_argument("--train_steps", type=positive, default=600, help="training steps of each network")
    parser.add_argument("--depth", type=positive, default=8, help="hidden layers of the networks with a rough surface")
    parser.add_argument("--side", type=positive, default=61, help="points along each axis of a loss surface")
    parser.add_argument("--max_condition", type=positive, default=1000, help="largest condition number")
    tiny = {"steps": 20, "frames": 2, "train_steps": 4, "depth": 2, "side": 5, "max_condition": 4}
    args = begin(parser, argv, dry_run=tiny)

    final: dict[str, float | None] = {}
    written = [path for subject in dict.fromkeys(args.what) for path in subjects[subject](args, final)]
    write_results(args.out_dir / "visualize.json", args, final)
    print("\n".join(f"{name:40} {'never' if value is None else f'{value:.4g}'}" for name, value in final.items()))
    print("\n".join(f"wrote {path}" for path in [*written, args.out_dir / "visualize.json"]))


# ---- the race -------------------------------------------------------------------------------------------------------


def race(args: argparse.Namespace, final: dict) -> list[Path]:
    """Let every racer run over every landscape; draw the paths, and film three of the races."""
    runs = {}
    for place, landscape in LANDSCAPES.items():
        runs[place] = {name: quickest(landscape, OPTIMIZERS[name], RATES, args.steps, inside=True) for name in RACERS}
        for name, found in runs[place].items():
            final |= {f"{place}_{name}_{key}": found[key] for key in ("lr", "steps")}
            final[f"{place}_{name}_value"] = found["values"][-1].item()
    final |= (
        turned_and_straight(args.steps) | steps_by_decay_rate(args.steps) | instability_after_convergence(args.steps)
    )
    film = args.out_dir / "trajectories.gif"
    figures.film({place: runs[place] for place in FILMED}, args.frames, film)
    return [figures.save_small(figures.trajectories(runs), args.out_dir / "trajectories.png"), film]


def turned_and_straight(steps: int) -> dict[str, int | None]:
    """Return the steps that each racer needs where the ravine lies along the axes."""
    x, y = LANDSCAPES["ravine"].start
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    straight = Landscape(ravine(degrees=0), (cos * x + sin * y, cos * y - sin * x), (0.0, 0.0), (-9, 9, -9, 9))
    found = {name: quickest(straight, OPTIMIZERS[name], RATES, steps, inside=True) for name in RACERS}
    return {f"straight_ravine_{name}_steps": run["steps"] for name, run in found.items()}


def steps_by_decay_rate(steps: int) -> dict[str, int | None]:
    """Let RMSprop and Adam change their memories of g^2 in the ravine, 0.99 and 0.999; return the steps to rest."""
    swapped = {
        "ravine_rmsprop_alpha_0999_steps": partial(OPTIMIZERS["rmsprop"], alpha=0.999),
        "ravine_adam_beta2_099_steps": partial(OPTIMIZERS["adam"], betas=(0.9, 0.99)),
    }
    return {name: quickest(LANDSCAPES["ravine"], make, RATES, steps)["steps"] for name, make in swapped.items()}


def instability_after_convergence(steps: int) -> dict[str, float | None]:
    """Find the rate at which Adam is first at rest on Rosenbrock's valley within half the steps, then go on with it."""
    landscape, adam = LANDSCAPES["rosenbrock"], OPTIMIZERS["adam"]
    early = quickest(landscape, adam, RATES, max(1, steps // 2), inside=True)
    values = landscape.function(trajectory(landscape.function, landscape.start, partial(adam, lr=early["lr"]), steps))
    left = [] if early["steps"] is None else (values[early["steps"] :] >= REST).nonzero().flatten().tolist()
    return {
        "early_rest_lr": early["lr"],
        "early_rest_steps": early["steps"],
        "early_rest_ends": early["steps"] + left[0] if left else None,
    }


# ---- schedules ------------------------------------------------------------------------------------------------------


def schedules(args: argparse.Namespace, final: dict, total: int = 1000) -> list[Path]:
    """Draw every schedule over a training of `total` steps."""
    factors = {name: make(total) for name, make in SCHEDULES.items() if name != "constant"}
    factors["warmup, then cosine"] = warmup(cosine(total - total // 10), total // 10)
    return [save_figure(figures.schedules(factors, total), args.out_dir / "schedules.png")]


# ---- loss surfaces --------------------------------------------------------------------------------------------------


def surface(args: argparse.Namespace, final: dict) -> list[Path]:
    """Draw the loss around a deep network without and with batch norm, and two trainings on the plane of their ends."""
    points, labels = spirals(300, 0.15, np.random.default_rng(args.seed))
    x, y = torch.from_numpy(points).to(args.device), torch.from_numpy(labels).to(args.device)
    reach, bowls = torch.linspace(-1, 1, args.side), {}
    for title, normed in (("without batch norm", False), ("with batch norm", True)):
        set_seed(args.seed)
        model = MLP(MLPConfig(2, 24, args.depth, 3, "relu", batch_norm=normed)).to(args.device)
        record_path(model, x, y, OPTIMIZERS["adam"], 0.005, args.train_steps)
        directions = random_directions(model, seed=args.seed)
        bowls[title] = loss_surface(model, [(x, y)], directions, [reach, reach], cross_entropy)
        key = "surface_" + title.replace(" ", "_")
        final |= {f"{key}_at_minimum": bowls[title][args.side // 2, args.side // 2].item()}
        final |= {f"{key}_median": bowls[title].median().item()}

    paths = {}
    for name, rate in (("momentum", 0.1), ("adam", 0.01)):
        set_seed(args.seed)
        model = MLP(MLPConfig(2, 24, 2, 3, "tanh")).to(args.device)
        paths[name] = record_path(model, x, y, OPTIMIZERS[name], rate, args.train_steps)
    start, ends = paths["adam"][0], [path[-1] for path in paths.values()]
    plane = torch.linalg.qr(torch.stack([end - start for end in ends], dim=1))[0].T  # (2, P)
    shadows = {name: ((path - start) @ plane.T).cpu() for name, path in paths.items()}  # (steps + 1, 2)
    sides = [with_margins(torch.cat(list(shadows.values()))[:, i], args.side) for i in (0, 1)]
    losses = loss_along(model, x, y, start, plane, sides)  # (side, side)
    for name, path in paths.items():
        inside = shadows[name].square().sum(1) / (path - start).square().sum(1).clamp(min=1e-12).cpu()
        final[f"plane_{name}_share"] = inside[1:].mean().item()
        final[f"plane_{name}_loss"] = loss_along(model, x, y, path[-1], [start - start], [torch.zeros(1)]).item()
    bridge = loss_along(model, x, y, ends[0], [ends[1] - ends[0]], [torch.linspace(0, 1, 21)])
    final |= {"plane_barrier": bridge.max().item(), "plane_distance": (ends[0] - ends[1]).norm().item()}
    figure = figures.surfaces(bowls, reach, losses, sides, shadows)
    return [figures.save_small(figure, args.out_dir / "loss_slice.png")]


def record_path(model: nn.Module, x: Tensor, y: Tensor, make_optimizer, lr: float, steps: int) -> Tensor:
    """Train on all points at once; return all parameters as one vector, before and after each step: (steps + 1, P)."""
    optimizer = make_optimizer(model.parameters(), lr=lr)
    path = [parameters_to_vector(model.parameters()).detach()]
    for _ in range(steps):
        # forward, loss
        loss = cross_entropy(model(x), y)
        # backward
        optimizer.zero_grad()
        loss.backward()
        # step
        optimizer.step()
        # log
        path.append(parameters_to_vector(model.parameters()).detach())
    return torch.stack(path)


def loss_along(model: nn.Module, x: Tensor, y: Tensor, origin: Tensor, vectors, axes) -> Tensor:
    """Return the loss at origin + a u, or at origin + a u + b v, for all a and b on the axes; vectors are (P,)."""
    vector_to_parameters(origin, model.parameters())
    return loss_surface(model, [(x, y)], [vector_direction(model, v) for v in vectors], axes, cross_entropy)


def with_margins(values: Tensor, count: int) -> Tensor:
    """Return `count` points from below the smallest value to above the largest."""
    margin = 0.2 * (values.max() - values.min())
    return torch.linspace(values.min() - margin, values.max() + margin, count)


# ---- the condition number -------------------------------------------------------------------------------------------


def condition(args: argparse.Namespace, final: dict) -> list[Path]:
    """Measure by what factor a step shrinks the distance to a quadratic's minimum, at each condition number."""
    grid = [k for k in (2, 3, 10, 30, 100, 300, 1000, 3000, 10000) if k <= args.max_condition]
    if not grid:
        raise UserError("--max_condition is at least 2: at 1, gradient descent needs a single step")
    rows = [contraction(method, kappa) for method in METHODS for kappa in grid]
    for row in rows:
        name = f"{row['method']}_{row['condition']}"
        final |= {
            f"rate_{name}": row["measured"],
            f"rate_{name}_theory": row["predicted"],
            f"steps_{name}": row["steps"],
        }
    return [save_figure(figures.condition(rows, METHODS), args.out_dir / "condition.png")]


METHODS = {  # condition number -> rate and momentum that are best for eigenvalues from 1 to it, and the factor per step
    "gradient_descent": lambda k: (2 / (1 + k), 0.0, (k - 1) / (k + 1)),
    "nesterov": lambda k: (1 / k, (k**0.5 - 1) / (k**0.5 + 1), 1 - 1 / k**0.5),
    "momentum": lambda k: (4 / (k**0.5 + 1) ** 2, ((k**0.5 - 1) / (k**0.5 + 1)) ** 2, (k**0.5 - 1) / (k**0.5 + 1)),
}


def contraction(method: str, kappa: int, dims: int = 10, shrink: float = 1e-24) -> dict:
    """Run `method` on a quadratic with `dims` eigenvalues from 1 to `kappa`, from a corner of the unit cube.

    Returns:
        measured, the factor per step over the second half of a run to `shrink`; predicted; steps to a millionth of the
        first distance; distances, relative to the first.
    """
    eigenvalues = torch.logspace(0, math.log10(kappa), dims, dtype=torch.float64)
    lr, momentum, predicted = METHODS[method](kappa)
    steps = math.ceil(math.log(shrink) / math.log(predicted))
    make = partial(SGD, lr=lr, momentum=momentum, nesterov=method == "nesterov")
    path = trajectory(lambda x: (eigenvalues * x**2).sum() / 2, [1.0] * dims, make, steps)
    distances = path.norm(dim=1) / path[0].norm()
    half = steps // 2
    return {
        "method": method,
        "condition": kappa,
        "measured": (distances[-1] / distances[half]).item() ** (1 / (steps - half)),
        "predicted": predicted,
        "steps": int((distances > 1e-6).nonzero()[-1]) + 1,
        "distances": distances,
    }


if __name__ == "__main__":
    run(main)
