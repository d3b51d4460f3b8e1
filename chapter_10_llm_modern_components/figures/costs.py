"""What a training costs, drawn: memory to scale, numbers too coarse for a loss, four ways to share the work.
画出训练的代价：按比例画的内存、精度不够的数，以及四种分工方式。
"""

from math import exp

import torch

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, tint, write
from chapter_10_llm_modern_components.figures import CHANCE, NORM, READ, TALK, THINK
from chapter_10_llm_modern_components.model import ModelConfig
from chapter_10_llm_modern_components.scaling.memory import kept_numbers
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

PROCESSES = COLOURS[:4]


def memory(c: ModelConfig, n_parameters: int, tokens: int) -> Figure:
    """A training's bytes as bars to scale, without checkpointing and with it; below, one token in one block."""
    figure, (above, below) = new_figure(10, 3.6, nrows=2, height_ratios=[1.5, 1])
    counts = kept_numbers(c)
    end, block = counts["end"], sum(counts.values()) - counts["end"]
    states = [("weights", n_parameters), ("gradients", n_parameters), ("Adam's means", 2 * n_parameters)]
    for y, kept in ((1, c.n_layers * block + end), (0, c.n_layers * c.d_model + block + end)):
        left = 0.0
        for part, colour in zip((*states, ("activations", tokens * kept)), (READ, GREY, NORM, THINK), strict=True):
            megabytes = 4 * part[1] / 1e6
            above.barh(y, megabytes, left=left, color=tint(colour, 0.6), edgecolor="white")
            if megabytes > 100:
                write(above, left + megabytes / 2, y, f"{part[0]} {megabytes:.1f}")
            elif y:
                write(above, left + megabytes / 2, 1.62, f"{part[0]}\n{megabytes:.1f}", fontsize=7, va="bottom")
            left += megabytes
    above.set_yticks([1, 0], ["plain", "checkpointing"])
    above.set(xlabel=f"MB, {n_parameters:,} parameters, {tokens:,} tokens", ylim=(-0.5, 2.3))
    left = 0.0
    for name, colour in (("norms", NORM), ("attention", TALK), ("feed_forward", THINK)):
        below.barh(0, counts[name], left=left, color=tint(colour, 0.6), edgecolor="white")
        write(below, left + counts[name] / 2, 0, f"{name.replace('_', '-')} {counts[name]:,}")
        left += counts[name]
    below.set_yticks([0], ["a token in a block"])
    below.set(xlabel=f"numbers kept, {block:,} in all")
    for axes in (above, below):
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
    return figure


def spikes() -> Figure:
    """Two gradients cut to length 1; two logits near 100 that bfloat16 cannot tell apart."""
    figure, (left, right) = new_figure(9.5, 3.4, ncols=2, width_ratios=[1, 1.7])
    left.add_patch(Circle((0, 0), 1, facecolor=tint(NORM), edgecolor=NORM))
    arrow(left, (0, 0), (3, 4), GREY)
    arrow(left, (0, 0), (0.6, 0.8), DARK, width=2)
    write(left, 3.05, 4.15, "(3, 4)", ha="left")
    write(left, 0.75, 0.6, "(0.6, 0.8)", ha="left", fontweight="bold")
    write(left, 1.2, -0.9, "length 1", ha="left", color=NORM)
    left.set(xlim=(-1.3, 4.6), ylim=(-1.3, 4.8), aspect="equal")
    left.set_axis_off()
    for y, base, step in ((1.0, 1.0, 1 / 128), (0.0, 100.0, 1 / 2)):  # between bfloat16's numbers there
        logits = torch.tensor([base, base + 0.2])
        rounded = logits.bfloat16().float()
        p, q = (1 / (1 + exp(z[1] - z[0])) for z in (logits, rounded))
        marks = [-0.5 + step * i for i in range(round(1.5 / step) + 1)]
        right.plot(marks, [y] * len(marks), "|", color=GREY, markersize=9, markeredgewidth=0.6)
        for start, end in zip((logits - base).tolist(), (rounded - base).tolist(), strict=True):
            right.plot(start, y + 0.3, "v", color=CHANCE, markersize=7)
            arrow(right, (start, y + 0.24), (end, y + 0.06), CHANCE)
        write(right, 1.1, y + 0.25, f"{base:g} and {base + 0.2:g}: p = {p:.2f}, rounded {q:.2f}", ha="left")
    right.set(xlim=(-0.6, 3.2), ylim=(-0.4, 1.8))
    right.set_axis_off()
    return figure


def parallel() -> Figure:
    """A model of four layers and a batch of four rows, shared by four processes in four ways."""
    figure, panels = new_figure(11.5, 3.4, ncols=4)
    names = ["data: rows", "sharded: rows, and a share\nof each layer's weights", "tensor: a part of each layer"]
    names.append("pipeline: layers")
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(name, fontsize=9)
        axes.set(xlim=(-0.6, 4.2), ylim=(-0.7, 4.4), aspect="equal")
        axes.set_axis_off()
    grid(panels[0], lambda layer, row: row)
    grid(panels[1], lambda layer, row: row)
    for layer in range(4):
        for part in range(4):
            place = (layer + 0.05 + 0.225 * part, -0.45)
            panels[1].add_patch(Rectangle(place, 0.2, 0.3, facecolor=PROCESSES[part]))
    tensor_grid(panels[2])
    grid(panels[3], lambda layer, row: layer)
    for axes in panels:
        write(axes, 2, -0.6 if axes is not panels[1] else -0.68, "layers", fontsize=8, color=GREY)
        write(axes, -0.3, 2, "rows", fontsize=8, color=GREY, rotation=90)
    return figure


def grid(axes: Axes, process) -> None:
    """Draw layers by rows, each square in the colour of the process that computes it."""
    for layer in range(4):
        for row in range(4):
            colour = PROCESSES[process(layer, row)]
            axes.add_patch(Rectangle((layer, row), 0.95, 0.95, facecolor=tint(colour, 0.6), edgecolor="white"))


def tensor_grid(axes: Axes) -> None:
    """Draw each square in four stripes: every process computes a part of it."""
    for layer in range(4):
        for row in range(4):
            for part, colour in enumerate(PROCESSES):
                place = (layer + 0.2375 * part, row)
                axes.add_patch(Rectangle(place, 0.2375, 0.95, facecolor=tint(colour, 0.6), edgecolor="none"))
