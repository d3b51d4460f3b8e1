"""The figures of signals through many layers: their mean square against the theory, and the spread of their sizes.
信号穿过多层的图：均方与理论的对照，以及大小的分布。
"""

import torch
from torch import Tensor

from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

TITLES = {
    "small_normal": "small_normal: both vanish",
    "xavier_normal": "xavier_normal: both fade",
    "kaiming_normal": "kaiming_normal: both live",
    "lsuv": "lsuv: both live",
}


def variances(signals: dict[str, dict]) -> Figure:
    """Draw each scheme's mean squares as dots on the line that the theory predicts; the steady ones once more."""
    figure, (every, steady) = new_figure(10, 4, ncols=2)
    for (name, signal), colour in zip(signals.items(), COLOURS, strict=False):
        layers = range(1, len(signal["measured"]) + 1)
        for axes in (every, steady) if name in ("kaiming_normal", "lsuv") else (every,):
            axes.plot(layers, signal["predicted"], color=colour, lw=1)
            axes.plot(layers, signal["measured"], "o", color=colour, markersize=4, label=name)
    every.set(xlabel="layer", ylabel="mean square of the pre-activations", yscale="log", title="four schemes")
    steady.set(xlabel="layer", ylim=(0, None), title="the two that hold, on a plain axis")
    every.legend(title="dots: measured, lines: predicted", fontsize=8, title_fontsize=8, loc="lower left")
    return figure


def sizes(signals: dict[str, dict]) -> Figure:
    """Draw, for each scheme, the sizes of pre-activations and gradients by layer: median, and nine tenths of them."""
    figure, panels = new_figure(11, 3.6, ncols=len(signals), sharey=True)
    for axes, (name, signal) in zip(panels, signals.items(), strict=True):
        _band(axes, signal["pre_activations"], COLOURS[0], "-", "pre-activations, forwards →")
        _band(axes, signal["gradients"], COLOURS[1], "--", "gradients, ← backwards")
        axes.set(xlabel="layer", title=TITLES[name], xlim=(1, len(signal["gradients"])))
        axes.title.set_fontsize(10)
    panels[0].set(ylabel="size of the numbers", yscale="log")
    panels[1].legend(fontsize=8, loc="lower center", title="median, and 5 % to 95 %", title_fontsize=8)
    return figure


def _band(axes: Axes, layers: list[Tensor], colour: str, style: str, label: str) -> None:
    """Draw the quantiles of the sizes of the numbers in each layer, those left out that are exactly 0 (ReLU's)."""
    levels = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    found = torch.stack([z[z != 0].abs().double().quantile(levels) for z in layers])  # (depth, 3)
    numbers = range(1, len(layers) + 1)
    axes.fill_between(numbers, found[:, 0], found[:, 2], color=colour, alpha=0.25, lw=0)
    axes.plot(numbers, found[:, 1], style, color=colour, lw=2, label=label)
