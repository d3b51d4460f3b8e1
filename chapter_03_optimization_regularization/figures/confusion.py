"""How a training went, and which classes its network confuses.
训练过程，以及网络把哪些类别弄混。
"""

import numpy as np
from torch import Tensor

from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def training_and_confusion(history: list[dict], counts: Tensor, classes: list[str]) -> Figure:
    """Draw the training loss by epoch, and beside it the confusion of the classes."""
    figure, (loss, table) = new_figure(10, 4.4, ncols=2, width_ratios=[1, 1.1])
    loss.plot([row["epoch"] for row in history], [row["train_loss"] for row in history], color=COLOURS[0])
    loss.set(xlabel="epoch", ylabel="training loss (nats), labels smoothed")
    draw_confusion(table, counts, classes)
    return figure


def confusion(counts: Tensor, classes: list[str]) -> Figure:
    """Draw the confusion of the classes alone."""
    figure, axes = new_figure(5.6, 4.8)
    draw_confusion(axes, counts, classes)
    return figure


def draw_confusion(axes: Axes, counts: Tensor, classes: list[str]) -> None:
    """Draw counts (K, K), true class by answer, as shares of the true class; what is below 0.5 % stays empty."""
    counts = counts.cpu().numpy()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(shares > 0.005):
        shade = "white" if shares[i, j] > 0.4 else "0.2"
        axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=7, color=shade)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set(xlabel="network's answer", ylabel="true class (each row: 100 %)")
    axes.grid(False)
