"""Scaling laws drawn: rates by width, valleys of equal work, the law beside what was measured, repeated data.
画出缩放定律：各宽度的学习率、等运算量的谷底、定律与实测的对照，以及重复数据。
"""

import math

import numpy as np

from chapter_07_attention_mechanism.figures.cells import DARK, GREY
from chapter_10_llm_modern_components.scaling import Law, Parabola
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw_laws(
    final: dict, grid: list[dict], valleys: dict[float, Parabola], law: Law, largest: dict, repeated: list[dict]
) -> Figure:
    """Draw a training's loss (nats a byte) as a dot, in four panels; what a fit says is a line."""
    figure, ((rates, sizes), (beside, passes)) = new_figure(10.5, 7.6, nrows=2, ncols=2)
    draw_rates(rates, final)
    draw_valleys(sizes, grid, valleys)
    draw_law(beside, grid, law, largest)
    draw_passes(passes, repeated)
    return figure


def draw_rates(axes: Axes, final: dict) -> None:
    """Draw loss against the learning rate: a line a width, dashed in the ordinary parametrisation."""
    names = [name.removesuffix("_tuning") for name in final if name.endswith("_tuning") and name != "lr_tuning"]
    widths = sorted({int(name.rsplit("_", 1)[1]) for name in names})
    for i, width in enumerate(widths):
        for kind, style in (("ordinary", "--"), ("mup", "-")):
            rate, loss = zip(*final[f"{kind}_{width}_tuning"], strict=True)
            label = f"width {width}" if kind == "mup" else None
            axes.plot(rate, loss, style, color=COLOURS[i % len(COLOURS)], marker=".", label=label, linewidth=1.3)
    losses = [loss for name in names for _, loss in final[f"{name}_tuning"]]
    lowest = min(loss for loss in losses if math.isfinite(loss))  # a training may have failed
    axes.set(xscale="log", xlabel="learning rate (dashed: ordinary, solid: µP)", ylabel="loss (nats a byte)")
    axes.set_ylim(lowest * 0.98, lowest * 1.35)
    axes.axvline(final[f"mup_{widths[0]}_lr"], color=GREY, linewidth=1)
    axes.legend(frameon=False, fontsize=8)


def draw_valleys(axes: Axes, grid: list[dict], valleys: dict[float, Parabola]) -> None:
    """Draw loss against parameters, a colour a budget, with the parabola and its bottom."""
    for i, budget in enumerate(dict.fromkeys(row["budget"] for row in grid)):
        rows, colour = [row for row in grid if row["budget"] == budget], COLOURS[i % len(COLOURS)]
        n = np.array([row["parameters"] for row in rows])
        axes.plot(n, [row["loss"] for row in rows], "o", color=colour, markersize=5, label=f"{budget:.1e} operations")
        if budget in valleys:
            line = np.geomspace(n.min(), n.max(), 50)
            axes.plot(line, valleys[budget](line), color=colour, linewidth=1.2)
            axes.plot(valleys[budget].best, valleys[budget].lowest, "v", color=DARK, markersize=6, zorder=4)
    axes.set(xscale="log", xlabel="parameters", ylabel="loss (nats a byte)")
    axes.legend(frameon=False, fontsize=8)


def draw_law(axes: Axes, grid: list[dict], law: Law, largest: dict) -> None:
    """Draw measured against predicted losses: those fitted, those not seen, and the forecast."""
    groups = (
        ("fitted", [row for row in grid if not row["unseen"]], COLOURS[0], "o"),
        ("not seen", [row for row in grid if row["unseen"]], COLOURS[1], "s"),
        ("forecast", [largest], COLOURS[2], "*"),
    )
    for label, rows, colour, marker in groups:
        predicted = [law(row["parameters"], row["tokens"]) for row in rows]
        axes.plot(predicted, [row["loss"] for row in rows], marker, color=colour, label=label, markersize=7, alpha=0.8)
    ends = [min(row["loss"] for row in (*grid, largest)), max(row["loss"] for row in grid)]
    axes.plot(ends, ends, color=GREY, linewidth=1)
    axes.set(xlabel="predicted loss (nats a byte)", ylabel="measured loss (nats a byte)")
    axes.legend(frameon=False, fontsize=8)


def draw_passes(axes: Axes, repeated: list[dict]) -> None:
    """Draw loss against how often the same data was read, equally many bytes in all."""
    passes = [row["tokens"] / row["setting"]["unique"] for row in repeated]
    axes.plot(passes, [row["loss"] for row in repeated], "o-", color=COLOURS[3])
    axes.set_xscale("log", base=2)
    axes.set(xlabel="passes over the same data", ylabel="loss (nats a byte)")
