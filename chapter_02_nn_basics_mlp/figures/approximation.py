"""The figures of universal_approximation.py: polygons on a wave, error by width, a folded line, error by depth.
universal_approximation.py 的图：折线逼近波形、误差随宽度的变化、反复折叠的直线、误差随深度的变化。
"""

import math

import torch

from chapter_02_nn_basics_mlp.constructive import interpolate, sawtooth
from chapter_02_nn_basics_mlp.dataset import periodic_target
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator


def polygons(side: float) -> Figure:
    """Draw the wave and the constructed networks with 4 to 64 knots."""
    figure, panels = new_figure(11, 5.4, nrows=2, ncols=2, sharex=True, sharey=True)
    x = torch.linspace(-side, side, 2401, dtype=torch.float64)[:, None]
    truth = periodic_target(x)
    for axes, count in zip(panels.flat, (4, 8, 16, 64), strict=True):
        knots = torch.linspace(-side, side, count, dtype=torch.float64)
        network = interpolate(periodic_target, knots)
        with torch.no_grad():
            y = network(x)
        axes.fill_between(x[:, 0], y[:, 0], truth[:, 0], color=COLOURS[4], alpha=0.5, lw=0)
        axes.plot(x, truth, color="0.6", lw=3)
        axes.plot(x, y, color=COLOURS[0], lw=1.4)
        axes.plot(knots, periodic_target(knots), "o", color=COLOURS[1], markersize=5 if count < 64 else 3, zorder=3)
        axes.set(xlabel="x", ylabel="y")
        axes.label_outer()
        error = (y - truth).abs().max().item()
        axes.set_title(f"{count} knots, {count - 1} hidden units: largest error {error:.2g}", fontsize=10)
    return figure


def rates(rows: list[dict], final: dict) -> Figure:
    """Draw largest error against width on logarithmic axes, with the fitted slopes."""
    figure, axes = new_figure(6.5, 4.5)
    widths = [row["width"] for row in rows]
    lines = [
        ("trained", "trained_slope", "trained from random weights", COLOURS[1]),
        ("constructed", "constructive_slope", "constructed", COLOURS[0]),
        ("polished", "polished_slope", "constructed, then trained", COLOURS[2]),
    ]
    for key, slope, label, colour in lines:
        label = f"{label}: slope {final[slope]:.2f}".replace("-", "−")
        axes.plot(widths, [row[key] for row in rows], "o-", color=colour, label=label)
    axes.plot(widths, [row["trained_each"] for row in rows], "_", color=COLOURS[1], markersize=10)
    axes.set(xscale="log", yscale="log", xlabel="hidden units", ylabel="largest error on [−3, 3]")
    axes.set_xticks(widths, map(str, widths))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(fontsize=9)
    return figure


def sawteeth(folds: list[dict], wide: list[dict]) -> Figure:
    """Draw a strip folded once more by each layer, its graph, and how many pieces networks make of their units."""
    figure = Figure(figsize=(12.5, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.6, 1))
    strips, graphs = left.subplots(2, 4, sharex="row", sharey="row", height_ratios=(1, 1.7))
    for depth, (strip, graph) in enumerate(zip(strips, graphs, strict=True)):
        _folded_strip(strip, depth)
        corners = torch.arange(2**depth + 1, dtype=torch.float64) / 2**depth
        with torch.no_grad():
            y = sawtooth(depth)(corners[:, None])[:, 0] if depth else corners
        for ply in range(2**depth):
            graph.plot(corners[ply : ply + 2], y[ply : ply + 2], color=COLOURS[ply % 2], lw=2)
        strip.set_title(
            "the strip $0 \\leq x \\leq 1$" if depth == 0 else f"layer {depth}: folded, stretched", fontsize=9
        )
        graph.set_title(f"{2**depth} piece{'s' * (depth > 0)}", fontsize=9)
        graph.set(xlabel="$x$", xticks=[0, 0.5, 1], yticks=[0, 1])
    graphs[0].set_ylabel("place on the folded strip")
    last = right.subplots()
    lines = {
        "sawtooth": ([(2 * row["depth"], row["sawtooth"]) for row in folds], "o-", "0.2"),
        "random, layers of 16": ([(16 * row["depth"], row["random"]) for row in folds], "s-", COLOURS[3]),
        "trained, one layer": ([(row["width"], row["regions"]) for row in wide], "^-", COLOURS[2]),
    }
    for label, (points, style, colour) in lines.items():
        last.plot(*zip(*points, strict=True), style, color=colour, label=label)
    last.set(xscale="log", yscale="log", xlabel="hidden units", ylabel="straight pieces")
    last.legend(fontsize=8, loc="lower right")
    return figure


def _folded_strip(axes: Axes, depth: int) -> None:
    """Draw the strip after so many folds seen from its edge: blue where it runs to the right, orange where back."""
    gap = 1 / 8  # between two plies
    for ply in range(2**depth):
        axes.plot([0, 1], [ply * gap] * 2, color=COLOURS[ply % 2], lw=2.5, solid_capstyle="butt")
        if ply + 1 < 2**depth:  # the bend at which the next ply begins
            angle = torch.linspace(-math.pi / 2, math.pi / 2, 30) * (1 if ply % 2 == 0 else -1)
            end = torch.tensor(1.0 if ply % 2 == 0 else 0.0)
            x, y = end + 0.04 * angle.cos() * (1 if ply % 2 == 0 else -1), (ply + 0.5) * gap + gap / 2 * angle.sin()
            axes.plot(x, y, color="0.45", lw=1.5)
    axes.set(ylim=(-0.1, 1.0), xlim=(-0.08, 1.08), xticks=[0, 1], yticks=[])
    axes.spines["left"].set_visible(False)
    axes.grid(False)


def depth(squares: list[dict], deep: list[dict]) -> Figure:
    """Draw what depth buys at equal parameters: in construction, and in training."""
    figure, (left, right) = new_figure(9.5, 3.8, ncols=2)
    for name, label in (("wide", "one layer"), ("deep", "layers of 3 units")):
        left.plot([row["parameters"] for row in squares], [row[name] for row in squares], "o-", label=label)
    left.set(xlabel="parameters", ylabel="largest error on [0, 1]", yscale="log")
    left.set_title("x², constructed", fontsize=10)
    left.legend()
    depths = [row["depth"] for row in deep]
    right.plot(depths, [row["rms"] for row in deep], "o-", color=COLOURS[1])
    right.plot(depths, [row["rms_each"] for row in deep], "_", color=COLOURS[1], markersize=10)
    right.set(xlabel="hidden layers", ylabel="root mean square error", xticks=depths)
    right.set_ylim(bottom=0)
    right.set_title(f"Ring wave, trained: {deep[0]['parameters']:,} parameters, or nearly", fontsize=10)
    return figure
