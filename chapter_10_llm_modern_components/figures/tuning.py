"""What a stage of training changes: the assistant's own tokens, two thin matrices; and the levels of four bits.
一个训练阶段改动什么：助手自己的词元、两个瘦长的矩阵；以及四位的档位。
"""

import numpy as np
import torch
from torch import nn

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, blank, tint, write
from chapter_10_llm_modern_components.figures import CHANCE, LEARNED, READ
from chapter_10_llm_modern_components.model_compression import LoRALinear, int4_levels, nf4_levels
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

TOKENS = ["user", "2", "+", "3", "?", "end", "assistant", "5", "end"]
LOSSES = [4, 2, 3, 2, 1, 0.1, 0.7, 0.1]  # of all tokens but the first
N_LEARNED = 2
SPECIAL = ("user", "assistant", "end")


def own_lines() -> Figure:
    """A conversation as tokens, those that are learned in red; below each the loss, and both means."""
    figure, axes = blank(9, 2.35, 15.6, 4.07)
    for i, token in enumerate(TOKENS):
        colour = LEARNED if i >= len(TOKENS) - N_LEARNED else READ
        x, width = 0.2 + 1.7 * i, 1.6
        axes.add_patch(Rectangle((x, 2.3), width, 1.1, facecolor=tint(colour, 0.25), edgecolor=colour, linewidth=1.3))
        text = f"<{token}>" if token in SPECIAL else token
        write(axes, x + width / 2, 2.85, text, fontsize=8.5 if token in SPECIAL else 12)
        if i:
            write(axes, x + width / 2, 1.7, f"{LOSSES[i - 1]:g}", color=colour, fontsize=10)
    write(axes, 1.0, 1.7, "loss", color=GREY)
    everything, own = sum(LOSSES) / len(LOSSES), sum(LOSSES[-N_LEARNED:]) / N_LEARNED
    write(axes, 0.2, 0.7, f"mean of all: {everything:.2f}", color=READ, ha="left", fontsize=10)
    write(axes, 15.4, 0.7, f"mean of what is learned: {own:.2f}", color=LEARNED, ha="right", fontsize=10)
    write(axes, 0.2, 3.75, "read", color=READ, ha="left", fontweight="bold")
    write(axes, 12.1, 3.75, "learned", color=LEARNED, ha="left", fontweight="bold")
    return figure


def lora() -> Figure:
    """A frozen matrix and the two that are trained, to scale for a width of 16 and a rank of 2; a worked example."""
    figure, axes = blank(9, 3.6, 16.7, 6.68)
    for x, y, width, height, colour, name in (
        (0.8, 0.3, 5.6, 5.6, GREY, "W, frozen"),
        (9.0, 0.3, 0.7, 5.6, LEARNED, "B"),
        (10.3, 5.2, 5.6, 0.7, LEARNED, "A"),
    ):
        axes.add_patch(Rectangle((x, y), width, height, facecolor=tint(colour, 0.3), edgecolor=colour, linewidth=1.4))
        write(axes, x + width / 2, y + height / 2, name, color=DARK, fontsize=11)
    write(axes, 7.7, 3.1, "+", fontsize=18)
    write(axes, 3.6, 6.35, "16 × 16 = 256 numbers", color=GREY)
    write(axes, 12.4, 6.35, "trained: 2 × (16 + 16) = 64 numbers", color=LEARNED)
    layer = LoRALinear(nn.Linear(2, 2, bias=False), rank=1, alpha=1.0)
    with torch.no_grad():
        for tensor, values in (
            (layer.base.weight, [[1.0, 0], [0, 1]]),
            (layer.a, [[3.0, 1]]),
            (layer.b, [[1.0], [2]]),
        ):
            tensor.copy_(torch.tensor(values))
        x = torch.ones(1, 2)
        inner, total = (x @ layer.a.T).item(), layer(x)[0].tolist()
    lines = [f"x = (1, 1):  A x = {inner:g}", f"B · {inner:g} = ({inner:g}, {2 * inner:g})", "W x = (1, 1)"]
    for i, line in enumerate(lines):
        write(axes, 10.5, 3.9 - 0.9 * i, line, ha="left", fontsize=10)
    write(axes, 10.5, 0.9, f"y = ({total[0]:g}, {total[1]:g})", ha="left", fontsize=11, fontweight="bold")
    return figure


def adaptation(before: tuple[float, float], after: dict[str, tuple[float, float]]) -> Figure:
    """What a model knew and still knows, against what it has learned anew: an arrow from before for each way to learn.

    Args:
        before: exact match on the old tasks, and on the new ones.
        after: the same for each way.
    """
    figure, axes = new_figure(5.2, 4.2)
    axes.plot(*before, "o", color=GREY, markersize=8, label="before")
    for (name, end), colour in zip(after.items(), COLOURS * len(after), strict=False):
        axes.annotate("", end, before, arrowprops={"arrowstyle": "-|>", "color": tint(colour, 0.6), "shrinkB": 5})
        axes.plot(*end, "o", color=colour, markersize=8, label=name)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="exact match, old tasks", ylabel="exact match, new tasks")
    axes.legend(frameon=False, fontsize=9, loc="best")
    return figure


def levels() -> Figure:
    """The density of a normal distribution's draws over their largest, and below it both sets of sixteen levels."""
    figure, axes = new_figure(8, 3.6)
    x = np.linspace(-1, 1, 401)
    spread = 1 / 2.4  # the largest of 64 draws is about 2.4 standard deviations out
    axes.fill_between(x, np.exp(-((x / spread) ** 2) / 2), color=tint(CHANCE, 0.35), linewidth=0)
    axes.text(0, 1.03, "density of weights", ha="center", color=CHANCE, fontsize=9)
    for y, name, values in ((-0.2, "int4", int4_levels()[1:]), (-0.5, "NF4", nf4_levels())):
        ticks(axes, y, values.tolist())
        axes.text(-1.06, y, name, ha="right", va="center", fontsize=10)
    axes.set(xlim=(-1.25, 1.1), ylim=(-0.7, 1.12), xlabel="weight, as a share of the largest in its group", yticks=[])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    return figure


def ticks(axes: Axes, y: float, values: list[float]) -> None:
    axes.plot([-1, 1], [y, y], color="0.8", linewidth=1, zorder=0)
    axes.vlines(values, y - 0.1, y + 0.1, color=LEARNED, linewidth=1.8)
