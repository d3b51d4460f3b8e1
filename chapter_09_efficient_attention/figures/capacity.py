"""What a trained memory holds: the map of recall against bytes, and recall against the number of pairs.
训练出来的记忆装得下多少：回忆准确率对照字节数的地图，以及准确率随键值对数目的变化。
"""

import re

from chapter_07_attention_mechanism.figures.cells import DARK, GREY
from chapter_09_efficient_attention.figures import STATE, WEIGHT
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

STYLES = {  # a mechanism's name in the results: what is written beside it, colour, marker
    "mha": ("softmax", WEIGHT, "^"),
    "hybrid": ("delta, then softmax", DARK, "*"),
    "gated_delta": ("gated delta rule", COLOURS[1], "P"),
    "delta": ("delta rule", STATE, "s"),
    "gla": ("a gate a channel (GLA)", COLOURS[0], "p"),
    "mamba2": ("one gate (Mamba-2)", COLOURS[5], "v"),
    "linear": ("linear", GREY, "o"),
    "local": ("window", COLOURS[2], "D"),
}


def draw_capacity(final: dict) -> Figure:
    """Recall of the most pairs against the bytes kept; recall against the pairs, for a middle number of heads."""
    matches = [re.fullmatch(r"recall_(\w+?)_(\d+)_heads_(\d+)", key) for key in final]
    found = [(match[1], int(match[2]), int(match[3])) for match in matches if match]
    pairs, all_heads = sorted({n for _, _, n in found}), sorted({h for _, h, _ in found}, reverse=True)
    middle = all_heads[len(all_heads) // 2]
    figure, (left, right) = new_figure(10.4, 4.6, ncols=2, width_ratios=[1.5, 1])
    for name in STYLES:
        heads = sorted({h for mechanism, h, _ in found if mechanism == name}, reverse=True)
        if heads:
            draw_map(left, final, name, heads, pairs[-1])
            draw_pairs(right, final, name, middle, pairs)
    guessed = [final[f"recall_most_frequent_{n}"] for n in pairs]
    left.axhline(guessed[-1], color=GREY, linestyle=":", linewidth=1)
    right.plot(pairs, guessed, ":", color=GREY, label="the most frequent value")
    left.set(xscale="log", xlabel=f"kept after {pairs[-1]} pairs (kB)", ylabel=f"share right of {pairs[-1]} pairs")
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:g}")
    left.minorticks_off()
    right.set_xscale("log", base=2)
    right.set_xticks(pairs, map(str, pairs))
    right.set(xlabel="pairs of key and value", ylabel=f"share right, {middle} heads")
    for axes in (left, right):
        axes.set_ylim(-0.03, 1.05)
    figure.legend(*right.get_legend_handles_labels(), frameon=False, fontsize=9, ncols=5, loc="outside lower center")
    return figure


def draw_map(axes: Axes, final: dict, name: str, heads: list[int], n_pairs: int) -> None:
    """Draw a mechanism's sizes of memory as points, their spread over seeds as bars, with a line between them."""
    _, colour, marker = STYLES[name]
    keys = [f"recall_{name}_{h}_heads_{n_pairs}" for h in heads]
    kilobytes, accuracies = [final[f"{key}_bytes"] / 1000 for key in keys], [final[key] for key in keys]
    spread = [final[f"{key}_std"] for key in keys]
    size = 13 if marker == "*" else 8
    axes.errorbar(kilobytes, accuracies, spread, marker=marker, color=colour, markersize=size, capsize=2, linewidth=1.2)
    if name == "linear":  # the lowest of the states, so that what is written below them fits for all
        for x, y, h in zip(kilobytes, accuracies, heads, strict=True):
            text = f"{h} heads" if h > 1 else "1 head"
            axes.annotate(text, (x, y), (7, -13), textcoords="offset points", fontsize=8, color=GREY)


def draw_pairs(axes: Axes, final: dict, name: str, n_heads: int, pairs: list[int]) -> None:
    """Draw how a mechanism's recall falls as the pairs become more."""
    label, colour, marker = STYLES[name]
    accuracies = [final[f"recall_{name}_{n_heads}_heads_{n}"] for n in pairs]
    size = 9 if marker == "*" else 6
    axes.plot(pairs, accuracies, marker=marker, color=colour, markersize=size, linewidth=1.2, label=label)
