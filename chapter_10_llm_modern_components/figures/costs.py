"""What a training costs, drawn: memory to scale, numbers too coarse for a loss, four ways to share the work.
画出训练的代价：按比例画的内存、精度不够的数，以及四种分工方式。
"""

from itertools import product
from math import exp

import torch

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, blank, tint, write
from chapter_10_llm_modern_components.figures import CHANCE, NORM, READ, TALK, THINK
from chapter_10_llm_modern_components.model import ModelConfig
from chapter_10_llm_modern_components.scaling.memory import kept_numbers
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

TIME = 7.5  # where the pipeline in time begins
PROCESSES = ["0.25", "0.5", "0.72", "0.9"]  # greys: no process is a concept of its own
PARTS = {"norms": NORM, "attention": TALK, "feed_forward": THINK}


def memory(c: ModelConfig, n_parameters: int, tokens: int) -> Figure:
    """A training's bytes as bars to scale, without checkpointing and with it; below, one token in one block."""
    figure, (above, below) = new_figure(10, 4.2, nrows=2, height_ratios=[1.8, 1])
    counts = kept_numbers(c)
    states = [(name, n * n_parameters, GREY) for name, n in (("weights", 1), ("gradients", 1), ("Adam's means", 2))]
    inputs, end = (
        ("inputs", tokens * c.n_layers * c.d_model, READ),
        ("log p", tokens * counts["end"], CHANCE),
    )
    block = [(name, tokens * counts[name], colour) for name, colour in PARTS.items()]
    blocks = [(name, c.n_layers * count, colour) for name, count, colour in block]
    for y, parts in ((1, [*states, *blocks, end]), (0, [*states, inputs, *block])):
        ends = stack(above, y, [(name, 4 * count / 1e6, colour) for name, count, colour in parts], 100)
        write(above, ends[-1] + 10, y, f"{ends[-1]:,.1f} MB", ha="left", fontweight="bold")
    write(above, 0, 1.5, ", ".join(f"{name} {4 * count / 1e6:.1f}" for name, count, _ in states), ha="left", fontsize=8)
    write(above, ends[2], -0.55, f"inputs {4 * inputs[1] / 1e6:.1f}", ha="left", fontsize=8)
    above.set_yticks([1, 0], ["plain", "checkpointing"])
    above.set(xlabel=f"MB, {n_parameters:,} parameters, {tokens:,} tokens", xlim=(0, 1190), ylim=(-0.8, 1.75))
    n_block = stack(below, 0, [(name, counts[name], colour) for name, colour in PARTS.items()], 0, "{:,}")[-1]
    below.set_yticks([0], ["a token in a block"])
    below.set(xlabel=f"numbers kept, {n_block:,} in all")
    for axes in (above, below):
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
    return figure


def stack(axes: Axes, y: float, parts: list[tuple], least: float, form: str = "{:.1f}") -> list[float]:
    """Draw (name, size, colour) one behind another, name those of at least this size, and return where each ends."""
    ends, left = [], 0
    for name, size, colour in parts:
        axes.barh(y, size, left=left, color=tint(colour, 0.6), edgecolor="white")
        if size > least:
            write(axes, left + size / 2, y, f"{name.replace('_', '-')}\n{form.format(size)}", fontsize=8)
        left += size
        ends.append(left)
    return ends


def spikes() -> Figure:
    """Two gradients cut to length 1; two logits near 100 that bfloat16 cannot tell apart."""
    figure, (left, right) = new_figure(10, 3.2, ncols=2, width_ratios=[1, 2])
    left.add_patch(Circle((0, 0), 1, facecolor=tint(NORM), edgecolor=NORM))
    arrow(left, (0, 0), (3, 4), GREY)
    arrow(left, (0, 0), (0.6, 0.8), DARK, width=2)
    write(left, 3.05, 4.15, "(3, 4)", ha="left")
    write(left, 1.1, 0.75, "(0.6, 0.8)", ha="left", fontweight="bold")
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
        for mark in (0.0, 0.5, 1.0):
            write(right, mark, y - 0.2, f"{base + mark:g}", fontsize=8, color=GREY)
        text = f"logits {base:g} and {base + 0.2:g}: the first has {p:.2f},\nas bfloat16's numbers {q:.2f}"
        write(right, 1.15, y + 0.15, text, ha="left")
    right.set(xlim=(-0.6, 2.9), ylim=(-0.4, 1.6))
    right.set_axis_off()
    return figure


def parallel() -> Figure:
    """A model of four layers and a batch of four rows, shared by four processes in four ways; a pipeline in time."""
    figure, axes = blank(9, 6.6, 16, 11.7)
    above, below = 6.4, 0.6  # where the panels of a row stand
    panels = [(0.6, above, "data: rows"), (6.1, above, "sharded: rows, and a part\nof each layer's weights")]
    panels += [(11.6, above, "tensor: a part of each layer"), (0.6, below, "pipeline: layers")]
    for x, y, name in panels:
        write(axes, x + 2, y + 4.15, name, va="bottom")
        write(axes, x + 2, y - (0.75 if "sharded" in name else 0.3), "layers", fontsize=8, color=GREY)
        write(axes, x - 0.3, y + 2, "rows", fontsize=8, color=GREY, rotation=90)
    (data, _, _), (sharded, _, _), (tensor, _, _), (pipeline, _, _) = panels
    for row, layer in product(range(4), range(4)):
        cell(axes, data + layer, above + row, row)
        cell(axes, sharded + layer, above + row, row)
        for process in range(4):
            cell(axes, sharded + layer + 0.24 * process, above - 0.4, process, "", 0.22, 0.35)
            cell(axes, tensor + layer + 0.24 * process, above + row, process, width=0.24)
        cell(axes, pipeline + layer, below + row, layer)
        cell(axes, TIME + layer + row, below + 3 - layer, layer, "abcd"[row])
    write(axes, TIME + 3.5, below + 4.15, "pipeline in time: parts a to d of the batch, 3 of 7 ticks idle", va="bottom")
    write(axes, TIME + 3.5, below - 0.3, "ticks", fontsize=8, color=GREY)
    for process in range(4):
        write(axes, TIME - 0.3, below + 3.5 - process, str(process + 1), fontsize=8, color=GREY)
    return figure


def cell(axes: Axes, x: float, y: float, process: int, text: str | None = None, width=0.95, height=0.95) -> None:
    """Draw what a process computes or keeps in its grey, with its number, counted from 1, or another text."""
    axes.add_patch(Rectangle((x, y), width, height, facecolor=PROCESSES[process], edgecolor="white", linewidth=0.5))
    text = str(process + 1) if text is None else text
    write(axes, x + width / 2, y + height / 2, text, color="white" if process < 2 else DARK, fontsize=8)
