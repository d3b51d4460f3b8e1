"""The figures of linear_demo.py: lost digits, penalties, Newton against descent, straight borders, weights as pictures.
linear_demo.py 的图：丢失的有效数字与惩罚项、牛顿法与梯度下降、直线边界、画成图片的权重。
"""

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from chapter_02_nn_basics_mlp.linear_models import predict
from utils.plotting import COLOURS, new_figure


def polynomials(rows: list[dict], ridge: dict[float, Tensor], shown: dict[str, float], curves: dict) -> Figure:
    """Draw the errors of two closed forms by degree, three ridge fits, and every weight against the penalty."""
    figure, (left, middle, right) = new_figure(13, 3.8, ncols=3)
    for label, key, colour, power in (("normal equations", "normal", "C0", 2), ("QR", "qr", "C1", 1)):
        degrees, bound = [r["degree"] for r in rows], [2.2e-16 * r["condition"] ** power for r in rows]
        left.plot(degrees, [r[f"{key}_error"] for r in rows], "o-", color=colour, label=label)
        left.plot(degrees, bound, ":", color=colour, label=f"2.2e-16 κ{'²' * (power - 1)}")
    for (name, p), colour in zip(shown.items(), COLOURS, strict=False):
        middle.plot(curves["x"], curves[name], color=colour, label=f"penalty {p:.4g}: {name}")
    middle.plot(curves["x"], curves["truth"], "--", color="0.5", label="truth")
    middle.plot(*curves["points"], "o", color="0.2", markersize=4)
    penalties = [p for p in ridge if p > 0]
    right.plot(penalties, [ridge[p][:-1].tolist() for p in penalties], lw=1)
    right.axvline(shown["chosen"], color="0.5", ls=":", label="chosen")
    right.set_yscale("symlog", linthresh=1)
    _finish(
        left, "QR keeps the digits that XᵀX loses", xlabel="degree", ylabel="largest error of a weight", yscale="log"
    )
    _finish(middle, "Degree 12 through 15 points", xlabel="x", ylabel="y", ylim=(-1.4, 2.5))
    _finish(right, "Ridge path of the 12 weights", xlabel="penalty", ylabel="weight", xscale="log")
    return figure


def race(gaps: dict[str, list[float]], w: Tensor, x: Tensor, y: Tensor) -> Figure:
    """Draw how far each method's loss is above the best, step by step, and the border w (3,) where all arrive."""
    figure, (left, right) = new_figure(9.5, 4, ncols=2)
    for (name, gap), label in zip(gaps.items(), ("Newton", "descent, standardised features", "descent"), strict=True):
        seen = [max(g, 1e-18) for g in gap]  # rounding ends at 1e-16
        left.plot(range(1, len(seen) + 1), seen, "o-" if name == "newton" else "-", label=label)
    _finish(left, "To the same place, at another speed", xlabel="step (1: the start)", ylabel="loss above the best")
    left.set(xscale="log", yscale="log", ylim=(1e-16, 1e3), yticks=[10.0**k for k in range(-16, 1, 4)])
    _regions(right, torch.stack([torch.zeros_like(w), w], dim=1), x, y, "Where both arrive")
    return figure


def borders(panels: dict[str, tuple[Tensor, Tensor, Tensor]]) -> Figure:
    """Draw, for each title, a softmax regression w (3, C) and its points x (N, 2) of classes y (N,)."""
    figure, axes = new_figure(4.25 * len(panels), 4.2, ncols=len(panels))
    for panel, (title, (w, x, y)) in zip(axes, panels.items(), strict=True):
        _regions(panel, w, x, y, title)
    return figure


def templates(weight: Tensor, classes: list[str]) -> Figure:
    """Draw the weights of each class (C, 784) as a picture: brightness where it is blue speaks for the class."""
    rows = (len(classes) + 4) // 5
    figure, panels = new_figure(9, 2 * rows, nrows=rows, ncols=5)
    for axes in panels.flat:
        axes.axis("off")
    for axes, row, name in zip(panels.flat, weight.cpu().view(-1, 28, 28), classes, strict=False):
        limit = row.abs().quantile(0.99).item()
        axes.imshow(row.numpy(), cmap="RdBu", vmin=-limit, vmax=limit)
        axes.set_title(name, fontsize=10)
    return figure


def _regions(axes: Axes, w: Tensor, x: Tensor, y: Tensor, title: str) -> None:
    """Colour the plane by the probabilities of the model w (3, C), with the points on top."""
    (x_lo, y_lo), (x_hi, y_hi) = (x.amin(dim=0) - 0.3).tolist(), (x.amax(dim=0) + 0.3).tolist()
    grid = torch.cartesian_prod(torch.linspace(x_lo, x_hi, 200).to(w), torch.linspace(y_lo, y_hi, 200).to(w))
    colours = torch.tensor([to_rgb(c) for c in COLOURS[: w.shape[1]]]).to(w)  # (C, 3)
    pale = 0.6 + 0.4 * predict(grid, w).softmax(dim=1) @ colours  # (200 * 200, 3), x varies slowest
    picture = pale.view(200, 200, 3).transpose(0, 1)  # (200, 200, 3): rows are y
    axes.imshow(picture.numpy(), origin="lower", extent=(x_lo, x_hi, y_lo, y_hi), aspect="auto")
    axes.scatter(*x.T.numpy(), c=colours[y].numpy(), s=9, edgecolors="white", linewidths=0.3)
    axes.set(xlabel="x1", ylabel="x2")
    axes.set_title(title, fontsize=10)
    axes.grid(False)


def _finish(axes: Axes, title: str, **labels) -> None:
    axes.set(**labels)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
