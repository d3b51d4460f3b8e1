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
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from torch import Tensor, nn

from chapter_01_tensor_autograd.dataset import spirals, two_moons
from chapter_02_nn_basics_mlp.activations import ACTIVATIONS
from chapter_02_nn_basics_mlp.initialization import INITIALIZERS, lsuv_, predicted_variances
from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.file_io_util import atomic_write
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results
from utils.seed import set_seed

PALETTE = torch.tensor([to_rgb(c) for c in COLOURS])
SCHEMES = {"small_normal": None, "xavier_normal": 1.0, "kaiming_normal": 2**0.5, "lsuv": None}  # with their gains


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--steps", type=positive, default=2000, help="training steps of each network")
    parser.add_argument("--frames", type=positive, default=28, help="frames from one layer to the next")
    parser.add_argument("--width", type=positive, default=256, help="units in each of the 30 layers")
    parser.add_argument("--depth", type=positive, default=30, help="layers that a signal goes through")
    args = begin(parser, argv, dry_run={"steps": 20, "frames": 2, "width": 16, "depth": 4})

    rng = np.random.default_rng(args.seed)
    written = [film_warp(args, rng), plot_boundaries(args, rng)]
    signals = {scheme: signal(scheme, args.width, args.depth) for scheme in SCHEMES}
    written += [plot_variances(signals, args), plot_histograms(signals, args)]
    final = {f"{name}_variance": s["measured"][-1] for name, s in signals.items()}
    final |= {f"{name}_predicted": s["predicted"][-1] for name, s in signals.items()}
    final |= dead_units(args, rng)
    write_results(args.out_dir / "initialization.json", args, final)
    print("\n".join(f"{name:40} {value:.3g}" for name, value in final.items()))
    print("\n".join(f"wrote {path}" for path in written))


def fit(x: Tensor, y: Tensor, config: MLPConfig, steps: int, lr: float = 0.01, keep: tuple[int, ...] = ()):
    """Train on all points at once; return the network, and its state before each step in `keep`."""
    model, kept = MLP(config).to(x.device), []
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps + 1):
        if step in keep:
            kept.append({name: t.clone() for name, t in model.state_dict().items()})
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), kept


# ---- the plane, bent ------------------------------------------------------------------------------------------------


def film_warp(args, rng: np.random.Generator) -> Path:
    """Carry a grid on the input plane through a trained network, layer by layer, until a line separates the classes."""
    set_seed(args.seed)
    x, y = (torch.from_numpy(a).to(args.device) for a in two_moons(400, 0.08, rng))
    model, _ = fit(x, y, MLPConfig(2, 8, 2, 2, "tanh"), args.steps)
    edge, lines, fine = 1.0, 25, 80
    along = torch.linspace(-edge, edge, fine)
    grid = [torch.stack([along * 1.75, torch.full_like(along, v)], 1) for v in torch.linspace(-edge, edge, lines)]
    grid += [torch.stack([torch.full_like(along, v * 1.75), along], 1) for v in torch.linspace(-edge, edge, lines)]
    everything = torch.cat([x, torch.cat(grid).to(x.device)])
    stations = [normalised(s).cpu() for s in views(model, everything, len(x))]
    belief = model(everything).softmax(1)[len(x) :].detach().cpu()  # (lines * fine, 2)

    figure, axes = new_figure(5, 5)
    axes.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), xticks=[], yticks=[], aspect="equal")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    shade = (0.55 + 0.45 * (belief @ PALETTE[:2])).view(2 * lines, fine, 3)[:, 1:].reshape(-1, 3)
    web = axes.add_collection(LineCollection([], colors=shade.numpy(), linewidths=0.8))
    dots = axes.scatter(
        *stations[0][: len(x)].T, c=PALETTE[y.cpu()].numpy(), s=14, linewidths=0.3, edgecolors="white", zorder=3
    )
    cut = axes.axvline(0, color="black", lw=0)
    titles = ["the input plane", "after the first layer", "after the second layer: a straight line will do"]

    def draw(moment: float) -> None:
        station = min(int(moment), len(stations) - 2)
        share = moment - station
        share = share * share * (3 - 2 * share)  # starts and ends gently
        points = (1 - share) * stations[station] + share * stations[station + 1]
        paths = points[len(x) :].view(2 * lines, fine, 2)
        web.set_segments(torch.stack([paths[:, :-1], paths[:, 1:]], 2).reshape(-1, 2, 2).numpy())
        dots.set_offsets(points[: len(x)].numpy())
        cut.set_linewidth(2 if moment == len(stations) - 1 else 0)
        axes.set_title(titles[round(moment)], fontsize=12)

    ride = np.linspace(0, 1, args.frames)
    moments = [0] * 10 + [s + t for s in range(len(stations) - 1) for t in (*ride, *[1] * 8)] + [len(stations) - 1] * 20
    path = args.out_dir / "warp.gif"
    with atomic_write(path) as temporary:
        FuncAnimation(figure, draw, moments).save(temporary, writer=PillowWriter(fps=15), dpi=80)
    return path


@torch.no_grad()
def views(model: MLP, points: Tensor, count: int) -> list[Tensor]:
    """Return the points (N, 2) as the plane shows them at the input and after each hidden layer.

    Hidden space has more than two dimensions. The last view's first axis is the one on which the head decides, so that
    its decision boundary is the vertical line at 0; all other axes are those along which the first `count` points, the
    data, spread most, turned so that the picture moves as little as possible.
    """
    found, hidden = [points], points
    for i, layer in enumerate(model.hidden):
        hidden = layer(hidden)
        if i == len(model.hidden) - 1:
            normal = model.head.weight[1] - model.head.weight[0]  # (d_hidden,): from class 0 to class 1
            offset = model.head.bias[1] - model.head.bias[0]
            decision = (hidden @ normal + offset) / normal.norm()
            rest = hidden - torch.outer(hidden @ normal, normal) / normal.norm() ** 2
            flat = torch.stack([decision, principal(rest, count)[:, 0]], dim=1)
            if (flat[:, 1] * found[-1][:, 1]).sum() < 0:
                flat[:, 1] *= -1
        else:
            flat = principal(hidden, count)
            u, _, v = torch.linalg.svd(flat[:count].T @ found[-1][:count])
            flat = flat @ (u @ v)  # the turn that brings it closest to the view before (Schoenemann 1966)
        found.append(flat)
    return found


def principal(hidden: Tensor, count: int) -> Tensor:
    """Project (N, D) on the two directions in which the first `count` rows vary most."""
    centre = hidden[:count].mean(dim=0)
    return (hidden - centre) @ torch.linalg.svd(hidden[:count] - centre, full_matrices=False)[2][:2].T


def normalised(points: Tensor) -> Tensor:
    """Scale each axis to fill [-1.15, 1.15], keeping 0 where it is."""
    return 1.15 * points / points.abs().amax(dim=0)


# ---- boundaries -----------------------------------------------------------------------------------------------------


def plot_boundaries(args, rng: np.random.Generator, side: int = 200) -> Path:
    """Draw the decision regions of a ReLU and a tanh network at six moments of their training on spirals."""
    x, y = (torch.from_numpy(a).to(args.device) for a in spirals(600, 0.15, rng))
    axis = torch.linspace(-1.1, 1.1, side, device=x.device)
    plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)  # row by row from the bottom
    moments = sorted({0, *(int(args.steps * share) for share in (0.01, 0.03, 0.1, 0.3, 1.0))})
    figure, panels = new_figure(10, 3.7, nrows=2, ncols=len(moments), squeeze=False)
    for row, activation in zip(panels, ("relu", "tanh"), strict=True):
        set_seed(args.seed)
        config = MLPConfig(2, 32, 2, 3, activation)
        model, kept = fit(x, y, config, args.steps, keep=tuple(moments))
        for axes, step, state in zip(row, moments, kept, strict=True):
            model.load_state_dict(state)
            regions = 0.45 + 0.55 * PALETTE[model(plane).argmax(dim=1).cpu()]  # (side * side, 3)
            axes.imshow(regions.view(side, side, 3).numpy(), origin="lower", extent=(-1.1, 1.1, -1.1, 1.1))
            axes.scatter(*x.cpu().T, c=PALETTE[y.cpu()].numpy(), s=2, linewidths=0)
            axes.set(xticks=[], yticks=[], title=f"step {step}")
            axes.grid(False)
        row[0].set_ylabel(activation)
    return save_figure(figure, args.out_dir / "boundaries.png")


# ---- signals through many layers ------------------------------------------------------------------------------------


def signal(scheme: str, width: int, depth: int, batch: int = 512) -> dict:
    """Send Gaussian inputs through `depth` ReLU layers and the gradient of a random direction back.

    Returns:
        measured and predicted variance of each layer's pre-activations; the pre-activations and their gradients.
    """
    set_seed(0)
    x = torch.randn(batch, width, dtype=torch.float64)  # float32 underflows before layer 30
    layers = nn.Sequential(
        *(nn.Sequential(nn.Linear(width, width), ACTIVATIONS["relu"]()) for _ in range(depth))
    ).double()
    gain = 0.01 * width**0.5 if scheme == "small_normal" else SCHEMES[scheme] or 1.0
    for layer in layers:
        nn.init.zeros_(layer[0].bias)
        if scheme in INITIALIZERS:
            INITIALIZERS[scheme](layer[0].weight, gain)
        else:
            nn.init.normal_(layer[0].weight, 0, gain / width**0.5)
    if scheme == "lsuv":
        lsuv_(layers, x)
    a, pre = x, []
    for layer in layers:
        pre.append(layer[0](a))
        pre[-1].retain_grad()
        a = layer[1](pre[-1])
    (a * torch.randn_like(a)).sum().backward()
    measured = [z.detach().square().mean().item() for z in pre]
    predicted = [1.0] * depth if scheme == "lsuv" else predicted_variances(torch.relu, gain, depth, gain**2)
    return {"measured": measured, "predicted": predicted, "pre": pre}


def plot_variances(signals: dict, args) -> Path:
    """Draw each scheme's measured variance as dots on the line that the theory predicts; the steady ones once more."""
    figure, (every, steady) = new_figure(10, 4, ncols=2)
    layers = range(1, args.depth + 1)
    for (name, s), colour in zip(signals.items(), COLOURS, strict=False):
        for axes in (every, steady) if name in ("kaiming_normal", "lsuv") else (every,):
            axes.plot(layers, s["predicted"], color=colour, lw=1)
            axes.plot(layers, s["measured"], "o", color=colour, markersize=4, label=name)
    every.set(xlabel="layer", ylabel="mean square of the pre-activations", yscale="log", title="four schemes")
    steady.set(xlabel="layer", ylim=(0, None), title="the two that hold, on a plain axis")
    every.legend(title="dots: measured, lines: predicted", fontsize=8, title_fontsize=8, loc="lower left")
    return save_figure(figure, args.out_dir / "initialization.png")


def plot_histograms(signals: dict, args) -> Path:
    """Draw how the size of activations and gradients is distributed in four of the layers, on a logarithmic axis."""
    shown = sorted({0, args.depth // 3, 2 * args.depth // 3, args.depth - 1})
    figure, panels = new_figure(10, 6, nrows=len(signals), ncols=len(shown), sharex=True, squeeze=False)
    bins = np.linspace(-35, 4, 100)
    for row, (name, s) in zip(panels, signals.items(), strict=True):
        for axes, layer in zip(row, shown, strict=True):
            z = s["pre"][layer]
            for values, colour, label in (
                (z.detach(), COLOURS[0], "pre-activations"),
                (z.grad, COLOURS[1], "gradients"),
            ):
                sizes = values.abs().flatten()
                axes.hist(sizes[sizes > 0].log10().numpy(), bins, color=colour, alpha=0.7, label=label)
            axes.set(yticks=[])
            axes.set_title(f"{name}, layer {layer + 1}", fontsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("size, power of ten")
    panels[0, 0].legend(fontsize=7, loc="upper left")
    return save_figure(figure, args.out_dir / "histograms.png")


def dead_units(args, rng: np.random.Generator) -> dict[str, float]:
    """Return the share of ReLU units that no data point switches on, before and after training (three seeds)."""
    x, y = (torch.from_numpy(a).to(args.device) for a in spirals(600, 0.15, rng))
    config, shares = MLPConfig(2, 64, 3, 3, "relu"), {"dead_units_before": []}
    for seed in range(args.seed, args.seed + 3):
        set_seed(seed)
        shares["dead_units_before"].append(count_dead(MLP(config).to(x.device), x))
        for lr in (0.01, 0.1, 1.0):
            set_seed(seed)
            model, _ = fit(x, y, config, args.steps // 4, lr)
            shares.setdefault(f"dead_units_lr_{lr:g}".replace(".", "_"), []).append(count_dead(model, x))
    return {name: mean(values) for name, values in shares.items()}


@torch.no_grad()
def count_dead(model: MLP, x: Tensor) -> float:
    """Return the share of hidden units whose output is 0 for every row of x."""
    dead = []
    for layer in model.hidden:
        x = layer(x)
        dead.append((x == 0).all(dim=0))  # (d_hidden,)
    return torch.cat(dead).float().mean().item()


if __name__ == "__main__":
    run(main)
