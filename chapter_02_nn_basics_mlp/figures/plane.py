"""The figures of networks on the plane: a film of the plane being bent, and decision boundaries that grow.
平面上的网络：平面被掰弯的动画，以及逐渐长出的决策边界。
"""

import numpy as np
import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.network import MLP
from utils.plotting import COLOURS, new_figure

from matplotlib.animation import FuncAnimation
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

PALETTE = torch.tensor([to_rgb(colour) for colour in COLOURS])
TITLES = ("the input plane", "after the first layer", "after the second layer: a straight line will do")
LINES, FINE = 25, 80  # grid lines each way, and points along each of them
Snapshots = list[tuple[int, dict[str, Tensor]]]  # (step, state dict)


@torch.no_grad()
def warp(model: MLP, x: Tensor, y: Tensor, n_frames: int) -> FuncAnimation:
    """Carry a grid on the input plane through a network of two hidden layers, until a line separates x (N, 2)."""
    grid = _grid().to(x)  # (2 * LINES * FINE, 2)
    everything = torch.cat([x, grid])
    stations = [1.15 * view.cpu() / view.cpu().abs().amax(dim=0) for view in views(model, everything, len(x))]
    probabilities = model(grid).softmax(dim=1).cpu()  # (2 * LINES * FINE, 2)

    figure, axes = new_figure(5, 5)
    axes.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), xticks=[], yticks=[], aspect="equal")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    shade = (0.55 + 0.45 * (probabilities @ PALETTE[:2])).view(2 * LINES, FINE, 3)[:, 1:].reshape(-1, 3)
    grid_lines = axes.add_collection(LineCollection([], colors=shade.numpy(), linewidths=0.8))
    colours = PALETTE[y.cpu()].numpy()
    dots = axes.scatter(*stations[0][: len(x)].T, c=colours, s=14, linewidths=0.3, edgecolors="white", zorder=3)
    border = axes.axvline(0, color="black", lw=0)

    def draw(moment: float) -> None:
        station = min(int(moment), len(stations) - 2)
        progress = moment - station
        progress = progress**2 * (3 - 2 * progress)  # starts and ends gently
        points = (1 - progress) * stations[station] + progress * stations[station + 1]
        paths = points[len(x) :].view(2 * LINES, FINE, 2)
        grid_lines.set_segments(torch.stack([paths[:, :-1], paths[:, 1:]], dim=2).reshape(-1, 2, 2).numpy())
        dots.set_offsets(points[: len(x)].numpy())
        border.set_linewidth(2 if moment == len(stations) - 1 else 0)
        axes.set_title(TITLES[round(moment)], fontsize=12)

    ride, last = np.linspace(0, 1, n_frames), len(stations) - 1
    moments = [0] * 10 + [s + t for s in range(last) for t in (*ride, *[1] * 8)] + [last] * 20
    return FuncAnimation(figure, draw, moments)


def _grid() -> Tensor:
    """Points (2 * LINES * FINE, 2) along horizontal lines, then along vertical ones, on a plane of 3.5 by 2."""
    along, lines = torch.linspace(-1, 1, FINE), torch.linspace(-1, 1, LINES)
    level = [torch.stack([1.75 * along, torch.full_like(along, v)], dim=1) for v in lines]  # of (FINE, 2)
    upright = [torch.stack([torch.full_like(along, 1.75 * v), along], dim=1) for v in lines]
    return torch.cat(level + upright)


@torch.no_grad()
def views(model: MLP, points: Tensor, count: int) -> list[Tensor]:
    """Return the points (N, 2) as the plane shows them at the input and after each hidden layer.

    Hidden space has more than two dimensions. The last view's first axis is the one on which the head decides, so that
    its decision boundary is the vertical line at 0; all other axes are those along which the first `count` points, the
    data, spread most, turned so that the picture moves as little as possible.
    """
    found, hidden = [points], points
    for layer in model.hidden[:-1]:
        hidden = layer(hidden)
        flat = principal_plane(hidden, count)  # (N, 2)
        u, _, v = torch.linalg.svd(flat[:count].T @ found[-1][:count])
        found.append(flat @ (u @ v))  # the turn that brings it closest to the view before (Schoenemann 1966)

    hidden = model.hidden[-1](hidden)
    normal = model.head.weight[1] - model.head.weight[0]  # (d_hidden,): from class 0 to class 1
    offset = model.head.bias[1] - model.head.bias[0]
    decision = (hidden @ normal + offset) / normal.norm()  # (N,)
    rest = hidden - torch.outer(hidden @ normal, normal) / normal.norm() ** 2
    second = principal_plane(rest, count)[:, 0]
    second = torch.copysign(second, second * (second * found[-1][:, 1]).sum())
    return [*found, torch.stack([decision, second], dim=1)]


def principal_plane(hidden: Tensor, count: int) -> Tensor:
    """Project (N, D) on the two directions in which the first `count` rows vary most: (N, 2)."""
    centre = hidden[:count].mean(dim=0)
    return (hidden - centre) @ torch.linalg.svd(hidden[:count] - centre, full_matrices=False)[2][:2].T


@torch.no_grad()
def boundaries(rows: dict[str, tuple[nn.Module, Snapshots]], x: Tensor, y: Tensor, side: int = 200) -> Figure:
    """Draw the decision regions of each network, named by its activation, as they were at moments of its training."""
    axis = torch.linspace(-1.1, 1.1, side, device=x.device)
    plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).reshape(-1, 2)  # row by row from the bottom
    n_moments = len(next(iter(rows.values()))[1])
    figure, panels = new_figure(10, 3.7, nrows=len(rows), ncols=n_moments, squeeze=False)
    for row, (name, (model, snapshots)) in zip(panels, rows.items(), strict=True):
        for axes, (step, state) in zip(row, snapshots, strict=True):
            model.load_state_dict(state)
            regions = 0.45 + 0.55 * PALETTE[model(plane).argmax(dim=1).cpu()]  # (side * side, 3)
            axes.imshow(regions.view(side, side, 3).numpy(), origin="lower", extent=(-1.1, 1.1, -1.1, 1.1))
            axes.scatter(*x.cpu().T, c=PALETTE[y.cpu()].numpy(), s=2, linewidths=0)
            axes.set(xticks=[], yticks=[], title=f"step {step:,}")
            axes.grid(False)
        row[0].set_ylabel(name)
    return figure
