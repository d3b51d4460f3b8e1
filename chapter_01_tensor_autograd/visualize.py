"""Film a decision boundary in training, draw the first layer, and the error curve of numerical differentiation.
拍下训练时决策边界的变化，画出网络的第一层，以及数值微分的误差曲线。

    python chapter_01_tensor_autograd/visualize.py      # 15 s on 2 CPU cores
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from tqdm import tqdm

from chapter_01_tensor_autograd.dataset import fashion_mnist, normalise, read_garment, spirals, two_moons
from chapter_01_tensor_autograd.engine import Tensor, jacobian, no_grad, ops
from chapter_01_tensor_autograd.model import MLPConfig, build, mlp
from chapter_01_tensor_autograd.nn import Adam, Sequential
from utils.checkpoint import read_model
from utils.cli import add_data_flag, add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.file_io_util import atomic_write
from utils.plotting import COLOURS, new_figure, save_figure

from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
OFFLINE = "--pictures drawings needs no download"


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    parser.add_argument(
        "--model_path", type=Path, default=HERE / "checkpoints" / "mlp_fashion_mnist.pth", help="whose weights to draw"
    )
    add_data_flag(parser)
    kinds = "what to show to the units: our ten drawings, or the test photographs, which are downloaded if need be"
    parser.add_argument("--pictures", default="drawings", choices=["drawings", "fashion_mnist"], help=kinds)
    parser.add_argument("--dataset", default="spirals", choices=["spirals", "two_moons"], help="what to film")
    parser.add_argument("--steps", type=positive, default=1500, help="training steps in the film")
    parser.add_argument("--frames", type=positive, default=60, help="pictures in the film")
    parser.add_argument("--side", type=positive, default=120, help="points along each axis of the plane")
    args = begin(parser, argv, dry_run={"steps": 10, "frames": 3, "side": 20})

    model, about = read_model(args.model_path, build)
    if about["dataset"] != "fashion_mnist":
        raise UserError(f"{args.model_path} was not trained on pictures: there is no first layer to draw")
    if args.pictures == "fashion_mnist":
        pictures = fashion_mnist(args.data_root, False, OFFLINE)[0].numpy()  # (10000, 28, 28)
    else:
        pictures = np.stack([read_garment(path) for path in sorted((HERE / "images").glob("*.png"))])  # (10, 28, 28)
    rng = np.random.default_rng(args.seed)
    x, y = {"spirals": spirals, "two_moons": two_moons}[args.dataset](600, 0.15, rng)
    grid = grid_points(x, args.side)
    frames = film_training(x, y, grid, args.steps, args.frames, rng)
    written = [
        animate(frames, x, y, args.side, args.out_dir / f"boundary_{args.dataset}.gif"),
        plot_gradcheck_error(rng, args.out_dir / "gradcheck_error.png"),
        plot_first_layer(model, pictures, args.out_dir / "first_layer.png"),
    ]
    print("\n".join(f"wrote {path}" for path in written))


def grid_points(x: np.ndarray, side: int) -> np.ndarray:
    """Return the points (side * side, 2) of a square grid around the points x, row by row from the bottom."""
    axis = np.linspace(-1.1, 1.1, side, dtype=np.float32) * np.abs(x).max()
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def film_training(x, y, grid, n_steps: int, n_frames: int, rng: np.random.Generator) -> list[dict]:
    """Train on all points at once; return step, loss and the probabilities on the grid, often at first, then rarely."""
    model = mlp(MLPConfig(widths=(2, 64, 64, int(y.max()) + 1), activation="tanh"), rng)
    optimizer = Adam(model.parameters(), lr=0.004)
    wanted = set((n_steps * np.linspace(0, 1, n_frames) ** 2).astype(int))
    frames = []
    for step in tqdm(range(n_steps + 1), unit="step"):
        # forward, loss
        loss = ops.cross_entropy(model(Tensor(x)), y)
        # log
        if step in wanted:
            with no_grad():
                probabilities = model(Tensor(grid)).softmax().data  # (side * side, n_classes)
            frames.append({"step": step, "loss": loss.item(), "probabilities": probabilities})
        # backward
        model.zero_grad()
        loss.backward()
        # step
        optimizer.step()
    return frames


def animate(frames: list[dict], x: np.ndarray, y: np.ndarray, side: int, path: Path) -> Path:
    """Draw the plane in the colours of the network's belief beside the falling loss, one picture for each frame."""
    figure, (left, right) = new_figure(7.2, 3.5, ncols=2, width_ratios=[1, 1])
    colours = np.array([to_rgb(c) for c in COLOURS])
    edge = 1.1 * np.abs(x).max()
    image = left.imshow(np.ones((side, side, 3)), origin="lower", extent=(-edge, edge, -edge, edge))
    left.scatter(*x.T, c=colours[y], s=7, linewidths=0.3, edgecolors="white")
    left.set(xticks=[], yticks=[])
    left.grid(False)
    steps, losses = ([frame[key] for frame in frames] for key in ("step", "loss"))
    (line,) = right.plot([], [], color="0.3")
    right.set(xlabel="step", ylabel="training loss (nats)", yscale="log")
    right.set(xlim=(0, max(steps)), ylim=(0.7 * min(losses), 1.5 * max(losses)))

    def draw(i: int) -> None:
        belief = frames[i]["probabilities"] @ colours[: frames[i]["probabilities"].shape[1]]  # (side * side, 3)
        image.set_data((0.45 + 0.55 * belief).reshape(side, side, 3).clip(0, 1))
        line.set_data(steps[: i + 1], losses[: i + 1])
        left.set_title(f"step {steps[i]}", fontsize=10)

    shown = [*range(len(frames)), *[len(frames) - 1] * 12]  # rest on the last one
    with atomic_write(path) as temporary:
        FuncAnimation(figure, draw, shown).save(temporary, writer=PillowWriter(fps=12), dpi=80)
    return path


def plot_gradcheck_error(rng: np.random.Generator, path: Path) -> Path:
    """Draw the error of finite differences against their step, in both precisions, with the two laws that bound it."""
    figure, panels = new_figure(9, 3.6, ncols=2, sharey=True)
    for axes, dtype in zip(panels, (np.float64, np.float32), strict=True):
        x = rng.standard_normal(8).astype(dtype)
        exact = jacobian(lambda t: (t.sin() * t.exp()).sum(), x.astype(np.float64))
        epsilons = np.geomspace(1e-13 if dtype == np.float64 else 1e-7, 1, 80)
        for name, central in (("forward difference", False), ("central difference", True)):
            errors = [np.abs(difference(x, dtype(eps), central) - exact).max() for eps in epsilons]
            axes.plot(epsilons, errors, label=name)
        rounding = np.finfo(dtype).eps
        axes.plot(epsilons, rounding / epsilons, color="0.5", lw=1, ls=":", label="rounding: ~ machine epsilon / step")
        axes.plot(epsilons, epsilons**2, color="0.5", lw=1, ls="--", label="truncation: ~ step²")
        axes.set(xlabel="step of the difference", xscale="log", yscale="log", ylim=(1e-13, 30))
        axes.set_title(f"{np.dtype(dtype)}: least at step ≈ {rounding ** (1 / 3):.0e}", fontsize=10)
    panels[0].set_ylabel("largest error of the gradient")
    panels[0].legend(fontsize=7)
    return save_figure(figure, path)


def difference(x: np.ndarray, eps: np.floating, central: bool) -> np.ndarray:
    """Differentiate sum(sin(x) exp(x)) numerically, in the precision of x. Each term depends on its own x alone."""

    def f(x):
        return np.sin(x) * np.exp(x)

    return (f(x + eps) - f(x - eps)) / (2 * eps) if central else (f(x + eps) - f(x)) / eps


def plot_first_layer(model: Sequential, pictures: np.ndarray, path: Path) -> Path:
    """Draw eight first-layer units: red pixels speak for the unit, blue against; beside it what excites it most.

    Args:
        pictures: (N, 28, 28), uint8.
    """
    weight, bias = model.layers[0].weight.data, model.layers[0].bias.data  # (784, d_hidden), (d_hidden,)
    excitation = normalise(torch.from_numpy(pictures)).numpy() @ weight + bias  # (N, d_hidden)
    figure = Figure(figsize=(11, 4.9), layout="constrained")
    for unit, part in zip(clearest_units(weight, 8), figure.subfigures(2, 4, wspace=0.03).flat, strict=True):
        panels = part.subplot_mosaic([["weights", i] for i in range(3)], width_ratios=[3, 1])
        limit = np.quantile(np.abs(weight[:, unit]), 0.995)
        panels["weights"].imshow(weight[:, unit].reshape(28, 28), cmap="RdBu_r", vmin=-limit, vmax=limit)
        for i, strongest in enumerate(np.argsort(-excitation[:, unit])[:3]):
            panels[i].imshow(pictures[strongest], cmap="gray", vmin=0, vmax=255)
        for axes in panels.values():
            axes.set_axis_off()
    return save_figure(figure, path)


def clearest_units(weight: np.ndarray, count: int) -> list[int]:
    """Return the units of a first layer (784, d_hidden) whose weights are least like noise, and not like each other.

    What is left of a picture after averaging each pixel with its neighbours, as a share of its energy: 1/9 for noise.
    """
    pictures = np.pad(weight.T.reshape(-1, 28, 28), ((0, 0), (1, 1), (1, 1)))
    smooth = sum(pictures[:, i : i + 28, j : j + 28] for i in range(3) for j in range(3)) / 9  # (d_hidden, 28, 28)
    length = np.linalg.norm(weight, axis=0)  # (d_hidden,)
    clearness = (smooth**2).sum(axis=(1, 2)) / length**2
    clearness[length < np.median(length)] = 0  # what a short unit shows hardly matters
    found: list[int] = []
    for unit in np.argsort(-clearness):
        alike = [abs(weight[:, unit] @ weight[:, other]) / (length[unit] * length[other]) for other in found]
        if max(alike, default=0) < 0.3:
            found.append(int(unit))
    return found[:count]


if __name__ == "__main__":
    run(main)
