"""The figures of linear_demo.py: lost digits, penalties, Newton against descent, straight borders, weights as pictures.
linear_demo.py 的图：丢失的有效数字与惩罚项、牛顿法与梯度下降、直线边界、画成图片的权重。
"""

import torch
from torch import Tensor

from chapter_02_nn_basics_mlp.linear_models import predict
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure


def polynomials(rows: list[dict], errors: dict[str, list[float]], shown: dict[str, float], curves: dict) -> Figure:
    """Draw the errors of two closed forms by degree, three ridge fits, and three errors against the penalty."""
    figure, (left, middle, right) = new_figure(13, 3.9, ncols=3)
    for label, key, colour, power in (("normal equations", "normal", "C0", 2), ("QR", "qr", "C1", 1)):
        degrees, bound = [r["degree"] for r in rows], [2.2e-16 * r["condition"] ** power for r in rows]
        left.plot(degrees, [r[f"{key}_error"] for r in rows], "o-", color=colour, label=label)
        left.plot(degrees, bound, ":", color=colour, label=f"2.2e-16 κ{'²' * (power - 1)}")
    left.set(xlabel="degree", ylabel="largest error of a weight", yscale="log")
    _finish(left, "QR keeps the digits that XᵀX loses")

    labels = {"none": "no penalty", "chosen": f"penalty {shown['chosen']:.2g}", "strongest": "penalty 1,000"}
    colours = dict(zip(shown, (COLOURS[3], COLOURS[2], COLOURS[4]), strict=True))
    middle.plot(curves["x"], curves["truth"], "--", color="0.4", label="truth")
    for name, label in labels.items():
        middle.plot(curves["x"], curves[name], color=colours[name], label=label, lw=2 if name == "chosen" else 1.3)
    middle.plot(*curves["points"], "o", color="0.2", markersize=4, label="measured")
    middle.set(xlabel="x", ylabel="y", ylim=(-1.5, 2.4))
    _finish(middle, "Degree 12 through 15 points", ncols=2)

    penalties = errors["penalty"]
    right.plot(penalties, errors["points"], ":", color="0.2", label="the 15 points it was fitted to")
    right.plot(penalties, errors["again"], color=COLOURS[5], label="the same 15 measured again")
    right.plot(penalties, errors["truth"], "--", color="0.4", label="truth")
    for name in ("chosen", "strongest"):
        i = penalties.index(shown[name])
        right.plot(shown[name], errors["truth"][i], "o", color=colours[name], markersize=7, zorder=4)
    right.axvline(shown["chosen"], color=colours["chosen"], lw=1)
    right.text(shown["chosen"] * 1.4, 0.04, "chosen: least error\nmeasured again", fontsize=8, color=colours["chosen"])
    right.set(xlabel="penalty", ylabel="error (root mean square)", xscale="log", ylim=(0, 0.95))
    _finish(right, "Too little chases noise, too much goes blind")
    return figure


def race(gaps: dict[str, list[float]], w: Tensor, x: Tensor, y: Tensor) -> Figure:
    """Draw how far each method's loss is above the best, step by step, and the border w (3,) where all arrive."""
    figure, (left, right) = new_figure(9.5, 4, ncols=2)
    for (name, gap), label in zip(gaps.items(), ("Newton", "descent, standardised features", "descent"), strict=True):
        positive = [max(g, 1e-18) for g in gap]  # rounding ends at 1e-16
        left.plot(range(1, len(positive) + 1), positive, "o-" if name == "newton" else "-", label=label)
    left.set(xlabel="step (1: the start)", ylabel="loss above the best", xscale="log", yscale="log")
    left.set(ylim=(1e-16, 1e3), yticks=[10.0**k for k in range(-16, 1, 4)])
    _finish(left, "To the same place, at another speed")
    _regions(right, torch.stack([torch.zeros_like(w), w], dim=1), x, y, "Where both arrive")
    return figure


def borders(panels: dict[str, tuple[Tensor, Tensor, Tensor]]) -> Figure:
    """Draw, for each title, a softmax regression w (3, C) and its points x (N, 2) of classes y (N,)."""
    figure, axes = new_figure(4.25 * len(panels), 4.2, ncols=len(panels))
    for panel, (title, (w, x, y)) in zip(axes, panels.items(), strict=True):
        _regions(panel, w, x, y, title)
    return figure


def templates(weight: Tensor, averages: Tensor, classes: list[str]) -> Figure:
    """Draw each class's weights (C, 784) over its average picture (C, 784): brightness where it is red speaks for it.

    Every class has a scale of its own: the deepest colour is its largest weight but for one in a hundred.
    """
    figure, panels = new_figure(1.24 * len(classes), 2.75, nrows=2, ncols=len(classes), squeeze=False)
    for column, row, average, name in zip(panels.T, weight.cpu(), averages.cpu(), classes, strict=True):
        limit = row.abs().quantile(0.99).item()
        column[0].imshow(row.view(28, 28).numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
        column[1].imshow(average.view(28, 28).numpy(), cmap="gray")
        column[0].set_title(name, fontsize=9.5)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(False)
    panels[0, 0].set_ylabel("weights", fontsize=10)
    panels[1, 0].set_ylabel("average picture", fontsize=10)
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


def _finish(axes: Axes, title: str, ncols: int = 1) -> None:
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, ncols=ncols)
