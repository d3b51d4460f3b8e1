"""The figures of universal_approximation.py: polygons on a wave, error by width, a folded line, error by depth.
universal_approximation.py 的图：折线逼近波形、误差随宽度的变化、反复折叠的直线、误差随深度的变化。
"""

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from chapter_02_nn_basics_mlp.constructive import interpolate, sawtooth
from chapter_02_nn_basics_mlp.dataset import periodic_target
from utils.plotting import COLOURS, new_figure


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
    """Draw how each layer folds the line once more, and how many pieces networks make of their units."""
    figure, (*panels, last) = new_figure(12.5, 3.2, ncols=4, width_ratios=(1, 1, 1, 1.4))
    x = torch.linspace(0, 1, 1025, dtype=torch.float64)[:, None]
    for axes, depth in zip(panels, (1, 2, 4), strict=True):
        with torch.no_grad():
            y = sawtooth(depth)(x)
        axes.plot(x[:513], y[:513], color=COLOURS[0])
        axes.plot(x[512:], y[512:], color=COLOURS[1])
        axes.set(xlabel="x", yticks=[0, 1])
        axes.set_title(f"{depth} layer{'s' * (depth > 1)} of 2: {2**depth} pieces", fontsize=10)
    depths, pieces = [row["depth"] for row in folds], [row["sawtooth"] for row in folds]
    last.plot([2 * depth for depth in depths], pieces, "o-", label="sawtooth")
    last.plot([16 * depth for depth in depths], [row["random"] for row in folds], "s-", label="random, layers of 16")
    last.plot([row["width"] for row in wide], [row["regions"] for row in wide], "^-", label="trained, one layer")
    last.set(xscale="log", yscale="log", xlabel="hidden units", ylabel="straight pieces")
    last.legend(fontsize=8, loc="lower right")
    return figure


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
