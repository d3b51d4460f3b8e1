"""Film how a network bends the plane, draw decision boundaries as they grow, and follow signals through 30 layers.
拍下网络怎样掰弯平面，画出逐渐长出的决策边界，并跟踪信号穿过 30 层。

    python chapter_02_nn_basics_mlp/visualize.py    # 30 s on one CPU core
"""

import sys
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from chapter_01_tensor_autograd.dataset import spirals, two_moons
from chapter_02_nn_basics_mlp.figures import plane as plane_figures
from chapter_02_nn_basics_mlp.figures import signals as signal_figures
from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from chapter_02_nn_basics_mlp.signals import SCHEMES, dead_share, send_signal
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.file_io_util import atomic_write
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed

from matplotlib.animation import PillowWriter


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--steps", type=positive, default=2000, help="training steps of each network")
    parser.add_argument("--frames", type=positive, default=28, help="frames from one layer to the next")
    parser.add_argument("--width", type=positive, default=256, help="units in each of the 30 layers")
    parser.add_argument("--depth", type=positive, default=30, help="layers that a signal goes through")
    args = begin(parser, argv, dry_run={"steps": 20, "frames": 2, "width": 16, "depth": 4})

    signals = {scheme: send_signal(scheme, args.width, args.depth) for scheme in SCHEMES}  # first: it may not fit
    save_figure(signal_figures.variances(signals), args.out_dir / "initialization.png")
    save_figure(signal_figures.sizes(signals), args.out_dir / "signals.png")
    rng = np.random.default_rng(args.seed)
    moons = tuple(torch.from_numpy(a).to(args.device) for a in two_moons(400, 0.08, rng))
    film_warp(*moons, args.seed, args.steps, args.frames, args.out_dir / "warp.gif")
    points = tuple(torch.from_numpy(a).to(args.device) for a in spirals(600, 0.15, rng))
    save_figure(grow_boundaries(*points, args.seed, args.steps), args.out_dir / "boundaries.png")

    final = {f"{name}_variance": signal["measured"][-1] for name, signal in signals.items()}
    final |= {f"{name}_predicted": signal["predicted"][-1] for name, signal in signals.items()}
    points = tuple(torch.from_numpy(a).to(args.device) for a in spirals(600, 0.15, rng))
    final |= dead_units(*points, args.seed, args.steps // 4)
    write_results(args.out_dir / "initialization.json", args, final)
    print("\n".join(f"{name:40} {value:.3g}" for name, value in final.items()))
    print(f"written to {args.out_dir}: warp.gif, boundaries.png, initialization.png, signals.png, initialization.json")


def train_full_batch(
    x: Tensor, y: Tensor, config: MLPConfig, steps: int, lr: float = 0.01, save_at: tuple[int, ...] = ()
) -> tuple[MLP, plane_figures.Snapshots]:
    """Train on all points at once; return the classifier in eval mode, and its states before the steps in `save_at`."""
    model, snapshots = MLP(config).to(x.device), []
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps + 1):
        # look
        if step in save_at:
            snapshots.append((step, {name: tensor.clone() for name, tensor in model.state_dict().items()}))
        # forward
        loss = cross_entropy(model(x), y)
        # backward
        optimizer.zero_grad()
        loss.backward()
        # step
        optimizer.step()
    return model.eval(), snapshots


def film_warp(x: Tensor, y: Tensor, seed: int, steps: int, n_frames: int, path: Path) -> None:
    """Film how a network trained on two moons carries the plane through its layers."""
    set_seed(seed)
    model, _ = train_full_batch(x, y, MLPConfig(2, 8, 2, 2, "tanh"), steps)
    with atomic_write(path) as temporary:
        plane_figures.warp(model, x, y, n_frames).save(temporary, writer=PillowWriter(fps=15), dpi=80)


def grow_boundaries(x: Tensor, y: Tensor, seed: int, steps: int) -> plane_figures.Figure:
    """Train a ReLU and a tanh network on the spirals; draw their decision regions at six moments."""
    moments = tuple(sorted({0, *(int(steps * share) for share in (0.01, 0.03, 0.1, 0.3, 1.0))}))
    rows = {}
    for activation in ("relu", "tanh"):
        set_seed(seed)
        rows[activation] = train_full_batch(x, y, MLPConfig(2, 32, 2, 3, activation), steps, save_at=moments)
    return plane_figures.boundaries(rows, x, y)


def dead_units(x: Tensor, y: Tensor, first_seed: int, steps: int) -> dict[str, float]:
    """Return the share of ReLU units that no data point switches on, before and after training (three seeds)."""
    config, shares = MLPConfig(2, 64, 3, 3, "relu"), {"dead_units_before": []}
    for seed in range(first_seed, first_seed + 3):
        set_seed(seed)
        shares["dead_units_before"].append(dead_share(MLP(config).to(x.device), x))
        for lr in (0.01, 0.1, 1.0):
            set_seed(seed)
            model, _ = train_full_batch(x, y, config, steps, lr)
            shares.setdefault(f"dead_units_lr_{lr:g}".replace(".", "_"), []).append(dead_share(model, x))
    return {name: mean(values) for name, values in shares.items()}


if __name__ == "__main__":
    run(main)
