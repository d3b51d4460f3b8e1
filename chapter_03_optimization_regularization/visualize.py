"""Race the optimizers over four landscapes, and draw schedules, loss surfaces, and what the condition number costs.
让优化器在四种地形上赛跑，并画出学习率调度、损失曲面，以及条件数的代价。

    python chapter_03_optimization_regularization/visualize.py                  # 45 s on one CPU core
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
    Landscape,
    quickest,
    ravine,
    trajectory,
)
from chapter_03_optimization_regularization.figures import optimization_paths as figures
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, SGD
from chapter_03_optimization_regularization.optimizers.schedules import SCHEDULES, cosine, warmup
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed

RACERS = ["sgd", "momentum", "nesterov", "rmsprop", "adam", "lion"]  # Muon is for matrices
RATES = [10 ** (k / 3) for k in range(-12, 4)]  # from 0.0001 to 10
FILMED = ["beale", "ravine", "saddle"]


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    subjects = {"race": race, "schedules": schedules, "surface": surface, "condition": condition}
    parser.add_argument("--what", nargs="+", default=list(subjects), choices=subjects, help="what to draw")
    parser.add_argument("--steps", type=positive, default=1000, help="steps of each run on a landscape")
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
    x, y = LANDSCAPES["ravine"].start
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    straight = Landscape(ravine(degrees=0), (cos * x + sin * y, cos * y - sin * x), (0.0, 0.0), (-9, 9, -9, 9))
    for name in RACERS:
        found = quickest(straight, OPTIMIZERS[name], RATES, args.steps, inside=True)
        final[f"straight_ravine_{name}_steps"] = found["steps"]
    film = args.out_dir / "trajectories.gif"
    figures.film({place: runs[place] for place in FILMED}, args.frames, film)
    return [figures.save_small(figures.trajectories(runs), args.out_dir / "trajectories.png"), film]


# ---- schedules ------------------------------------------------------------------------------------------------------


def schedules(args: argparse.Namespace, final: dict, total: int = 1000) -> list[Path]:
    """Draw every schedule over a training of `total` steps."""
    factors = {name: make(total) for name, make in SCHEDULES.items() if name != "constant"}
    factors["warmup, then cosine"] = warmup(cosine(total - total // 10), total // 10)
    return [save_figure(figures.schedules(factors, total), args.out_dir / "schedules.png")]


# ---- loss surfaces --------------------------------------------------------------------------------------------------


def surface(args: argparse.Namespace, final: dict) -> list[Path]:
    """Draw the loss around a deep network without and with batch norm, and two trainings on the plane of their ends."""
    x, y = (torch.from_numpy(a).to(args.device) for a in spirals(300, 0.15, np.random.default_rng(args.seed)))
    reach = torch.linspace(-1, 1, args.side).tolist()
    bowls = {}
    for title, normed in (("without batch norm", False), ("with batch norm", True)):
        set_seed(args.seed)
        model = MLP(MLPConfig(2, 24, args.depth, 3, "relu", batch_norm=normed)).to(args.device)
        end = fit(model, x, y, OPTIMIZERS["adam"], 0.005, args.train_steps)[-1]
        across, along = (filter_normalised(model) for _ in range(2))
        bowls[title] = loss_on_plane(model, x, y, end, across, along, reach, reach)
        key = "surface_" + title.replace(" ", "_")
        final |= {f"{key}_at_minimum": bowls[title][args.side // 2, args.side // 2].item()}
        final |= {f"{key}_median": bowls[title].median().item()}

    paths = {}
    for name, rate in (("momentum", 0.1), ("adam", 0.01)):
        set_seed(args.seed)
        model = MLP(MLPConfig(2, 24, 2, 3, "tanh")).to(args.device)
        paths[name] = fit(model, x, y, OPTIMIZERS[name], rate, args.train_steps)
    start = paths["adam"][0]
    plane = torch.linalg.qr(torch.stack([path[-1] - start for path in paths.values()], dim=1))[0].T  # (2, P)
    shadows = {name: ((path - start) @ plane.T).cpu() for name, path in paths.items()}  # (steps + 1, 2)
    axes = [padded(torch.cat(list(shadows.values()))[:, i], args.side) for i in (0, 1)]
    losses = loss_on_plane(model, x, y, start, *plane, *axes)
    for name, path in paths.items():
        inside = shadows[name].square().sum(1) / (path - start).square().sum(1).clamp(min=1e-12).cpu()
        final[f"plane_{name}_share"] = inside[1:].mean().item()
        final[f"plane_{name}_loss"] = loss_at(model, x, y, path[-1])
    ends = [path[-1] for path in paths.values()]
    bridge = [loss_at(model, x, y, torch.lerp(*ends, t)) for t in torch.linspace(0, 1, 21).tolist()]
    final |= {"plane_barrier": max(bridge), "plane_distance": (ends[0] - ends[1]).norm().item()}
    figure = figures.surfaces(bowls, reach, losses, axes, shadows)
    return [figures.save_small(figure, args.out_dir / "loss_slice.png")]


def fit(model: nn.Module, x: Tensor, y: Tensor, make_optimizer, lr: float, steps: int) -> Tensor:
    """Train on all points at once; return all parameters as one vector, before and after each step: (steps + 1, P)."""
    optimizer = make_optimizer(model.parameters(), lr=lr)
    path = [parameters_to_vector(model.parameters()).detach()]
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        path.append(parameters_to_vector(model.parameters()).detach())
    return torch.stack(path)


def filter_normalised(model: nn.Module) -> Tensor:
    """Return a random direction (P,) in which each unit's weights are as long as the unit's own (Li et al. 2018).

    A ReLU network computes the same after one layer is doubled and the next is halved. Such a direction scales
    along, so that the distances of two networks compare. Biases and the norms' own parameters stay.
    """
    parts = []
    for p in model.parameters():
        d = torch.randn_like(p) if p.ndim > 1 else torch.zeros_like(p)
        if p.ndim > 1:
            d *= p.detach().norm(dim=1, keepdim=True) / d.norm(dim=1, keepdim=True)
        parts.append(d.flatten())
    return torch.cat(parts)


def loss_on_plane(model, x, y, origin: Tensor, across: Tensor, along: Tensor, us, vs) -> Tensor:
    """Return the loss (len(vs), len(us)) at origin + u * across + v * along."""
    return torch.tensor([[loss_at(model, x, y, origin + u * across + v * along) for u in us] for v in vs])


@torch.no_grad()
def loss_at(model: nn.Module, x: Tensor, y: Tensor, parameters: Tensor) -> float:
    vector_to_parameters(parameters, model.parameters())
    return cross_entropy(model(x), y).item()


def padded(values: Tensor, count: int) -> list[float]:
    """Return `count` points from below the smallest value to above the largest."""
    margin = 0.2 * (values.max() - values.min())
    return torch.linspace(values.min() - margin, values.max() + margin, count).tolist()


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
