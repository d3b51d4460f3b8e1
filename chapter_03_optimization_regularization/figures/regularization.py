"""The figures of exp_regularization.py: train against test, weights that become zero, confidence against accuracy.
exp_regularization.py 的图：训练与测试的差距、变成零的权重、把握与正确率。
"""

import numpy as np
import torch
from torch import nn

from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure

BLUE, RED, GREEN = COLOURS[:3]
LEAST = 0.002  # of the predictions: what lies in an emptier bin is chance


def gaps(table: list[dict], n_pictures: int) -> Figure:
    """Draw each arm's accuracy on the test and on the training pictures, and the gap between them as a line."""
    rows = sorted(table, key=lambda row: row["test_accuracy"])
    places = np.arange(len(rows))
    test, train = ([100 * row[f"{part}_accuracy"] for row in rows] for part in ("test", "train"))
    base = next(row["test_accuracy"] for row in table if row["arm"] == "nothing")
    figure, axes = new_figure(8.4, 0.36 * len(rows) + 1.3)
    axes.axvline(100 * base, color="0.6", lw=1, ls="--", zorder=1)
    axes.hlines(places, test, train, color="0.8", lw=4, zorder=2)
    spread = [100 * row["test_accuracy_std"] for row in rows]
    axes.errorbar(
        test, places, xerr=spread, fmt="o", color=BLUE, capsize=3, zorder=4, label="test, ± spread over seeds"
    )
    axes.plot(train, places, "o", color=RED, mfc="white", mew=1.6, zorder=3, label=f"the {n_pictures:,} trained on")
    for place, row in zip(places, rows, strict=True):
        middle = 50 * (row["test_accuracy"] + row["train_accuracy"])
        axes.text(middle, place + 0.16, f"{100 * row['gap']:.1f}", ha="center", va="bottom", fontsize=7.5, color="0.35")
    axes.set_yticks(places, [f"{row['arm']} ({row['steps']})" for row in rows])
    axes.set(
        xlabel="accuracy (%); in grey the gap in points, in brackets the training steps", ylim=(-0.6, len(rows) - 0.2)
    )
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower right", fontsize=8, framealpha=0.95)
    return figure


def sparsity(rows: list[dict], networks: list[nn.Module]) -> Figure:
    """Draw accuracy against the share of zeros, and how the weights are spread, by L1's strength."""
    figure, (curve, weights) = new_figure(9.6, 3.9, ncols=2)
    zeros, test, spread = (
        np.array([100 * row[n] for row in rows]) for n in ("zeros", "test_accuracy", "test_accuracy_std")
    )
    colours = [BLUE, *COLOURS[2:], RED][: len(rows) - 1] + [RED]
    curve.plot(zeros, test, color="0.7", lw=1.2, zorder=1)
    for x, y, error, row, colour in zip(zeros, test, spread, rows, colours, strict=True):
        curve.errorbar(x, y, yerr=error, fmt="o", color=colour, capsize=3)
        curve.annotate(f"{row['strength']:g}", (x, y), xytext=(7, 5), textcoords="offset points", fontsize=9)
    curve.set(xlabel="weights that are exactly 0 (%)", ylabel="test accuracy (%)", xlim=(-4, 104))
    curve.set_title("the number is L1's strength", fontsize=10)

    edges = np.linspace(-0.4, 0.4, 82)  # 0 is the middle of a bin
    for row, network, colour in zip(rows, networks, colours, strict=True):
        values = torch.cat([p.detach().flatten() for p in network.parameters() if p.ndim >= 2]).cpu().numpy()
        share = 100 * np.histogram(values, edges)[0] / len(values)
        weights.stairs(share, edges, color=colour, lw=1.3, label=f"{row['strength']:g}")
    weights.set(yscale="log", xlabel="weight", ylabel="share of the weights in each bin (%)", ylim=(1e-2, 100))
    weights.legend(title="strength", fontsize=8, title_fontsize=8)
    return figure


def calibration(diagrams: dict[str, list[dict]], masks: list[dict], table: list[dict]) -> Figure:
    """Draw how often predictions of each confidence are right, and what averaging over masks does to the loss."""
    figure, (diagram, curve) = new_figure(9.6, 4.1, ncols=2)
    by_arm = {row["arm"]: row for row in table}
    errors = [by_arm["nothing"], by_arm["dropout"], masks[-1]]
    names = ["nothing", "dropout, all units at once", f"dropout, mean of {masks[-1]['masks']} masks"]
    diagram.plot([20, 100], [20, 100], color="0.6", lw=1, ls="--")
    for name, rows, error, colour in zip(names, diagrams.values(), errors, [RED, BLUE, GREEN], strict=True):
        label = f"{name}: {100 * error['calibration_error']:.1f} points off"
        rows = [row for row in rows if row["share"] >= LEAST]
        x, y = ([100 * row[key] for row in rows] for key in ("confidence", "accuracy"))
        diagram.plot(x, y, color=colour, lw=1.5, label=label)
        diagram.scatter(x, y, s=[6 + 400 * row["share"] for row in rows], color=colour, alpha=0.55, lw=0)
    diagram.set(xlabel="confidence (%)", ylabel="accuracy (%)", xlim=(20, 104), ylim=(20, 104))
    diagram.set_title("the larger a dot, the more predictions it stands for", fontsize=10)
    diagram.legend(loc="upper left", fontsize=8)

    counts, losses, spread = (np.array([row[n] for row in masks]) for n in ("masks", "test_loss", "test_loss_std"))
    curve.fill_between(counts, losses - spread, losses + spread, color=GREEN, alpha=0.15, lw=0)
    curve.plot(counts, losses, ".-", color=GREEN)
    whole, ends = by_arm["dropout"]["test_loss"], (counts[0], counts[-1])
    curve.plot(ends, [whole, whole], color=BLUE, ls="--")
    curve.text(counts[-1], whole, "all units at once", ha="right", va="bottom", color=BLUE, fontsize=9)
    curve.set(xlabel="masks averaged", ylabel="test loss (nats)")
    return figure
