"""The parts of a block: two norms in the plane, a gate that multiplies, and tokens sent to experts.
块的各个部件：平面上的两种归一化、会做乘法的门，以及分派给专家的词元。
"""

import numpy as np
import torch
from torch.nn import functional as F

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, boxes, tint, write
from chapter_10_llm_modern_components.blocks import balance_loss, rms_norm
from chapter_10_llm_modern_components.figures import CHANCE, NORM, THINK
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

POINTS = torch.tensor([[3.0, 4.0], [4.2, 1.2], [-1.6, 3.4], [-3.6, -1.0], [0.6, -3.2], [-2.2, -3.8]])
ROUTES = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])  # of four tokens, over two experts
INPUTS = (3.0, 2.0)  # two numbers to multiply


def minus(x: float, form: str = ".2f") -> str:
    return f"{x:{form}}".replace("-", "−")


def norms() -> Figure:
    """Where LayerNorm and RMSNorm send points of the plane."""
    figure, panels = new_figure(9.6, 4.7, ncols=2)
    ends = {
        "LayerNorm: two points are left": F.layer_norm(POINTS, (2,)).tolist(),
        "RMSNorm: a circle is left": rms_norm(POINTS, torch.ones(2), 1e-5).tolist(),
    }
    for axes, (title, normed) in zip(panels, ends.items(), strict=True):
        axes.set(xlim=(-5, 5), ylim=(-5, 5), aspect="equal", title=title)
        axes.set_axis_off()
        axes.axhline(0, color="0.88", linewidth=1, zorder=0)
        axes.axvline(0, color="0.88", linewidth=1, zorder=0)
        if title.startswith("RMS"):
            axes.add_patch(Circle((0, 0), 2**0.5, fill=False, edgecolor=NORM, linewidth=2))
        else:
            axes.plot([-5, 5], [5, -5], color=tint(NORM, 0.5), linewidth=2, zorder=0)
            axes.plot([-5, 5], [-5, 5], color="0.8", linestyle=":", linewidth=1.2, zorder=0)
            write(axes, 3.5, -4.4, "mean 0", color=NORM, fontsize=8, rotation=-45)
        for i, (point, end) in enumerate(zip(POINTS.tolist(), normed, strict=True)):
            colour = DARK if i == 0 else GREY
            arrow(axes, point, end, colour, 1.6 if i == 0 else 0.9)
            axes.plot(*point, "o", color=colour, markersize=5)
        for end in normed:
            axes.plot(*end, "o", color=NORM, markersize=9, zorder=5)
        write(axes, 3.0, 4.5, "(3, 4)", fontsize=10)
        text = ", ".join(f"{x:.2f}".replace(".00", "") for x in normed[0]).replace("-", "−")
        where = (2.8, 1.75) if title.startswith("RMS") else (-2.35, 1.15)
        write(axes, *where, f"({text})", color=NORM, fontweight="bold", fontsize=10)
    return figure


def gates() -> Figure:
    """Two gated units that multiply 3 and 2; x · x from two gated units, and from two and four units with a ReLU."""
    figure, (left, right) = new_figure(11, 4.2, ncols=2, width_ratios=[1.25, 1])
    left.set(xlim=(0, 15.5), ylim=(0.3, 9.0), aspect="equal")
    left.set_axis_off()
    (a, b), total = INPUTS, 0.0
    write(left, 0.9, 8.6, "token", color=GREY)
    boxes(left, 0.4, 5.8, [a], GREY, 1.0)
    boxes(left, 0.4, 3.2, [b], GREY, 1.0)
    for i, sign in enumerate((1, -1)):
        y = 6.9 - 4.6 * i
        opened = F.silu(torch.tensor(sign * a)).item()
        arrow(left, (1.5, 5.8), (3.9, y + 0.75), THINK, 1.4)
        arrow(left, (1.5, 3.2), (3.9, y - 0.75), GREY, 1.4)
        boxes(left, 4.0, y + 0.75, [minus(sign * a, "g")], THINK, 1.0)
        boxes(left, 4.0, y - 0.75, [b], GREY, 1.0)
        write(left, 4.5, y + 1.65, "gate", color=THINK, fontsize=8)
        write(left, 4.5, y - 1.6, "up", color=GREY, fontsize=8)
        arrow(left, (5.1, y + 0.75), (6.9, y + 0.75), THINK, 1.4)
        write(left, 6.0, y + 1.15, "silu", color=THINK, fontsize=8)
        boxes(left, 7.0, y + 0.75, [minus(opened)], THINK, 1.2)
        arrow(left, (8.3, y + 0.7), (9.2, y + 0.15), THINK, 1.2)
        arrow(left, (5.1, y - 0.75), (9.2, y - 0.15), GREY, 1.2)
        total += sign * opened * b
        write(left, 9.5, y, "×", fontsize=13)
        boxes(left, 9.9, y, [minus(opened * b)], THINK, 1.3)
        arrow(left, (11.3, y), (13.3, 4.9 if i == 0 else 4.3), DARK, 1.4)
        write(left, 12.5, 6.4 if i == 0 else 2.7, "× 1" if i == 0 else "× (−1)", fontsize=8)
    boxes(left, 13.5, 4.6, [f"{total:.3g}"], THINK, 1.3)
    write(left, 14.15, 5.65, "down", color=DARK, fontsize=8)
    x = np.linspace(-3, 3, 241)
    knots = {2: [0.0], 4: [0.0, 1.5]}  # a ReLU to the right and one to the left of each
    for n, style in ((2, ":"), (4, "--")):
        units = np.stack([np.maximum(s * x - c, 0) for c in knots[n] for s in (1, -1)], axis=1)  # (241, n)
        best = np.linalg.lstsq(units, x * x, rcond=None)[0]
        right.plot(x, units @ best, style, color=GREY, linewidth=2, label=f"{n} units with ReLU")
    t = torch.from_numpy(x)
    right.plot(
        x,
        (F.silu(t) * t - F.silu(-t) * t).numpy(),
        color=THINK,
        linewidth=2.5,
        label="2 gated units: x · x exactly",
        zorder=1,
    )
    right.set(xlabel="x", ylabel="what comes out")
    right.legend(frameon=False, fontsize=9, loc="upper center")
    return figure


def experts() -> Figure:
    """Four tokens sent to two experts; what is sent where, the mean probabilities, and the loss they give."""
    figure, (left, right) = new_figure(11, 4.1, ncols=2, width_ratios=[1.35, 1])
    left.set(xlim=(0.3, 15.2), ylim=(0.5, 9), aspect="equal")
    left.set_axis_off()
    chosen = ROUTES.argmax(dim=1)
    write(left, 4.9, 8.3, "router's probabilities", color=CHANCE, fontsize=9)
    for j in range(2):
        ys = [7.0 - 1.8 * t for t in range(4) if chosen[t] == j]
        style = {"boxstyle": "round,pad=0.02,rounding_size=0.25", "facecolor": tint(THINK, 0.12), "edgecolor": THINK}
        left.add_patch(FancyBboxPatch((10.0, min(ys) - 0.75), 2.0, max(ys) - min(ys) + 1.5, zorder=0, **style))
        share, mean = (chosen == j).float().mean(), ROUTES[:, j].mean()
        write(left, 12.4, sum(ys) / len(ys) + 0.45, f"expert {j + 1}", color=THINK, fontweight="bold", ha="left")
        write(left, 12.4, sum(ys) / len(ys) - 0.3, f"f = {share:.2f}\nP = {mean:.2f}", fontsize=9, ha="left", va="top")
    for t, row in enumerate(ROUTES.tolist()):
        y = 7.0 - 1.8 * t
        left.add_patch(Circle((1.2, y), 0.5, facecolor="white", edgecolor=GREY))
        write(left, 1.2, y, f"{t + 1}")
        arrow(left, (1.8, y), (3.5, y), GREY)
        boxes(left, 3.7, y, row, CHANCE, 1.2, form="{:.1f}")
        arrow(left, (6.3, y), (10.4, y), CHANCE, 0.8 + 2.4 * max(row))
        left.add_patch(Circle((11.0, y), 0.5, facecolor=tint(THINK, 0.45), edgecolor=THINK, zorder=3))
        write(left, 11.0, y, f"{t + 1}", zorder=4)
    loss_bars(right)
    return figure


def loss_bars(axes: Axes) -> None:
    """The balance loss of three batches of four tokens, each expert's part in a shade of its own."""
    all_to_one = torch.tensor([[0.9, 0.1]]).repeat(4, 1)
    even = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).repeat(2, 1)
    for i, p in enumerate((all_to_one, ROUTES, even)):
        chosen = p.argmax(dim=1, keepdim=True)
        total = balance_loss(p, chosen).item()
        first = 2 * ((chosen == 0).float().mean() * p[:, 0].mean()).item()
        axes.barh(-i, first, color=CHANCE, height=0.55)
        axes.barh(-i, total - first, left=first, color=tint(CHANCE, 0.45), height=0.55)
        axes.text(total + 0.03, -i, f"{total:.3g}", va="center", fontsize=10)
    axes.set_yticks([0, -1, -2], ["all to one", "the picture", "half and half"])
    axes.set_axisbelow(True)
    axes.axvline(1, color=GREY, linestyle=":", linewidth=1.2)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="balance loss 2 (f₁ P₁ + f₂ P₂)", xlim=(0, 2.05))
    axes.grid(False, axis="y")
