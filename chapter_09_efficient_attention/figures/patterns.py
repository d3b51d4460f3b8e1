"""Looking at fewer places: windows, what they reach through layers, sinks, and sparse patterns.
少看一些位置：窗口、窗口经过多层能看多远、注意力汇，以及稀疏模式。
"""

import numpy as np
import torch

from chapter_07_attention_mechanism.figures.cells import GREY, WEIGHT_MAP
from chapter_09_efficient_attention.figures import KEY, QUERY, STATE, WEIGHT
from chapter_09_efficient_attention.sparse import big_bird_blocks, choose_blocks, strided_blocks, window_mask
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

N, WINDOW = 16, 3
SINK_SCORES = torch.tensor([4.0, 0.0, 0.0, 0.0])


def patterns() -> Figure:
    """Six masks of sixteen tokens, from the module's own functions; what lies beyond the window is darker."""
    places = torch.arange(N)
    generator = torch.Generator().manual_seed(3)
    q, k = torch.randn(2, N, 4, generator=generator)
    chosen = choose_blocks(q, k, 4, 1).repeat_interleave(4, dim=1)  # (16, 4) -> (16, 16)
    masks = {
        "window of 3": window_mask(places, places, WINDOW),
        "dilated: every second place": window_mask(places, places, WINDOW, dilation=2),
        "window and 2 sinks": window_mask(places, places, WINDOW, n_sinks=2),
        "strided, ℓ = 4": strided_blocks(N, 4),
        "global, window, random": big_bird_blocks(N, 2, 2, 1),
        "own block and the best other": chosen & window_mask(places, places, N),
    }
    figure, panels = new_figure(10, 7.2, nrows=2, ncols=3)
    for axes, (name, mask) in zip(panels.flat, masks.items(), strict=True):
        pattern(axes, mask.numpy())
        axes.set_title(f"{name}: {int(mask.sum())} scores", fontsize=10)
    figure.supxlabel("light: up to 3 places back; dark: further back; grey: not written yet", fontsize=9, color=GREY)
    return figure


def pattern(axes: Axes, mask: np.ndarray) -> None:
    """Draw a mask (N, N): rows are queries, columns are keys; grey is the future."""
    distance = np.subtract.outer(np.arange(N), np.arange(N))
    shade = np.where(mask, np.where(distance <= WINDOW, 0.45, 0.85), 0.0)
    axes.pcolormesh(
        np.ma.masked_where(distance < 0, shade), cmap=WEIGHT_MAP, vmin=0, vmax=1, edgecolors="0.9", linewidth=0.6
    )
    axes.set(aspect="equal", facecolor="0.95", ylim=(N, 0))
    axes.grid(False)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("keys", color=KEY, fontsize=9)
    axes.set_ylabel("queries", color=QUERY, fontsize=9)


def reach(window: int = 2, n_layers: int = 3) -> Figure:
    """What the last token sees through three layers; weights with a first token, without it, and with a sink."""
    figure, (left, right) = new_figure(10.6, 4.0, ncols=2, width_ratios=[1.15, 1])
    n = 8
    left.set(xlim=(-0.8, n + 1.4), ylim=(-0.6, n_layers + 0.5))
    left.set_axis_off()
    seen = {n - 1}
    for depth in range(n_layers + 1):
        y = n_layers - depth
        for place in range(n):
            inside = place in seen
            if inside and depth < n_layers:
                for back in range(window + 1):
                    if place - back >= 0:
                        left.plot([place, place - back], [y, y - 1], color=WEIGHT, linewidth=1, zorder=1)
            style = {"color": KEY if inside else "0.85", "markersize": 13, "zorder": 2}
            left.plot(place, y, "o", **style)
        left.text(n - 0.4, y, f"{len(seen)} place{'s' if len(seen) > 1 else ''}", va="center", fontsize=9)
        seen = {place - back for place in seen for back in range(window + 1)}
    left.set_title("window of 2: what the last token hears of, layer by layer", fontsize=9)
    weights = [
        ("all four keys", SINK_SCORES.softmax(0).tolist(), WEIGHT),
        ("first key gone", [0.0, *SINK_SCORES[1:].softmax(0).tolist()], WEIGHT),
        ("gone, but a sink of 4", SINK_SCORES.softmax(0).tolist(), WEIGHT),
    ]
    for i, (name, parts, colour) in enumerate(weights):
        for j, weight in enumerate(parts):
            if weight:
                sink = i == 2 and j == 0
                right.bar(5.2 * i + j, weight, color=STATE if sink else colour, width=0.8)
        if i != 1:
            right.text(5.2 * i, parts[0] + 0.02, f"{parts[0]:.3f}", ha="center", fontsize=9)
        right.text(5.2 * i + 2, parts[2] + 0.02, f"3 × {parts[2]:.3f}", ha="center", fontsize=9)
        right.text(5.2 * i + 1.5, -0.11, name, ha="center", va="top", fontsize=9)
    right.text(10.4, 1.02, "a sink: it has no value", ha="center", fontsize=8, color=STATE)
    right.set(ylim=(0, 1.1), ylabel="weight")
    right.set_xticks([5.2 * i + j for i in range(3) for j in range(4)], ["1", "2", "3", "4"] * 2 + ["", "2", "3", "4"])
    right.tick_params(axis="x", length=0, labelsize=8, colors=GREY, pad=4)
    right.grid(False, axis="x")
    return figure
