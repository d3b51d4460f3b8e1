"""How a Transformer is put together: steps, one layer, the whole model, norms, and decoding from a cache.
Transformer 的结构：步数、一层、整个模型、归一化，以及借助缓存解码。
"""

import torch

from chapter_07_attention_mechanism.attention import causal_mask
from chapter_07_attention_mechanism.figures.cells import (
    DARK,
    GREY,
    arrow,
    blank,
    boxes,
    tint,
    weight_grid,
    write,
)
from chapter_08_transformer_vanilla.figures import NORM, PLACE, READ, TALK, THINK, WRITTEN
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

WORDS = ["Ein", "Hund", "rennt", "durch", "den", "Schnee"]
TOKENS = [[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]  # the layer's example


def block(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, **how) -> None:
    """Draw a rounded box whose middle is at (x, y), with a text in it, above any line."""
    corner, style = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.15"
    box = FancyBboxPatch(corner, width, height, style, facecolor=tint(colour), edgecolor=colour, zorder=2.5)
    axes.add_patch(box)
    write(axes, x, y, text, **({"zorder": 4} | how))


def plus(axes: Axes, x: float, y: float) -> None:
    axes.add_patch(Circle((x, y), 0.22, facecolor="white", edgecolor=DARK, zorder=3))
    write(axes, x, y - 0.02, "+", zorder=4)


def steps() -> Figure:
    """From the first word to the last: a recurrent network's staircase beside attention's one step."""
    figure, axes = blank(10, 3.9, 18.4, 7.2)
    last = len(WORDS) - 1
    for i, word in enumerate(WORDS):
        for left, height in ((1.0, i), (10.2, 0)):
            x, y = left + 1.4 * i, 1.6 + 0.85 * height
            write(axes, x, 0.3, word, color=READ, fontsize=8)
            arrow(axes, (x, 0.55), (x, y - 0.3), "0.8")
            block(axes, x, y, 0.9, 0.56, f"{height + 1}", GREY)
        if i:
            x, y = 1.0 + 1.4 * i, 1.6 + 0.85 * i
            arrow(axes, (x - 0.95, y - 0.85), (x - 0.08, y - 0.3), READ, 1.8)
    for i in range(last):
        x = 10.2 + 1.4 * i
        arrow(axes, (x, 1.9), (10.1 + 1.4 * last, 1.92), TALK, 1.4, bend=-0.42)
    write(axes, 4.6, 6.9, "recurrent: a word waits for the one before", fontweight="bold")
    write(axes, 3.0, 5.5, f"{last} steps from the\nfirst word to the last", color=READ)
    write(axes, 13.7, 6.9, "attention: all words at once", fontweight="bold")
    write(axes, 13.7, 4.6, "1 step from any word to any other", color=TALK)
    write(axes, 0.1, 3.9, "number in a box: the step in which it can be computed", rotation=90, fontsize=7, color=GREY)
    return figure


def layer() -> Figure:
    """One layer without norms on three tokens of two numbers: what attention adds, and what feed-forward adds."""
    x = torch.tensor(TOKENS)
    heard = x.mean(dim=0).expand_as(x)  # all scores are 0, so all weights are 1/3
    after = x + heard
    thought = torch.stack([torch.zeros(3), torch.relu(after[:, 0] - after[:, 1])], dim=1)  # (3, 2)
    figure, axes = blank(10.5, 4.1, 19, 7.2)
    corner, style = (5.15, 0.3), "round,pad=0,rounding_size=0.15"
    axes.add_patch(FancyBboxPatch(corner, 2.5, 5.4, style, facecolor="none", edgecolor=TALK, linestyle="--"))
    write(axes, 6.4, 6.65, "talk: attention", color=TALK, fontweight="bold")
    write(axes, 6.4, 6.15, "each gets the mean of all", color=TALK, fontsize=8)
    write(axes, 13.6, 6.65, "think: feed-forward", color=THINK, fontweight="bold")
    write(axes, 13.6, 6.15, "(0, relu(a − b)), each alone", color=THINK, fontsize=8)
    for i in range(3):
        y = 4.8 - 1.8 * i
        write(axes, 0.6, y, f"token {i + 1}", color=READ)
        for left, right in ((2.9, 8.55), (10.8, 15.75)):  # the stream itself goes on below what is added to it
            axes.plot(
                [left, left + 0.3, right, right], [y - 0.2, y - 0.75, y - 0.75, y - 0.2], color="0.8", linewidth=3
            )
        boxes(axes, 1.3, y, x[i].tolist(), READ)
        boxes(axes, 5.6, y, heard[i].tolist(), TALK)
        for j in range(3):
            arrow(axes, (2.95, 4.8 - 1.8 * j), (5.5, y), TALK, 0.9)
        arrow(axes, (7.25, y), (8.3, y), TALK)
        plus(axes, 8.55, y)
        boxes(axes, 9.2, y, after[i].tolist(), READ)
        corner = (12.35, y - 0.55)
        axes.add_patch(FancyBboxPatch(corner, 2.3, 1.1, style, facecolor="none", edgecolor=THINK, linestyle="--"))
        arrow(axes, (10.85, y), (12.3, y), THINK)
        boxes(axes, 12.7, y, thought[i].tolist(), THINK)
        arrow(axes, (14.35, y), (15.5, y), THINK)
        plus(axes, 15.75, y)
        boxes(axes, 16.4, y, (after + thought)[i].tolist(), READ)
    write(axes, 9.5, 0.1, "grey: the residual stream, which nothing interrupts", color=GREY, fontsize=8)
    return figure


def model() -> Figure:
    """The encoder-decoder with the shape of everything that flows."""
    figure, axes = blank(9.2, 7.6, 16.2, 13.4)
    tower(axes, 5.0, READ, ["self-attention", "feed-forward"], "Ein Hund bellt. <eos>", "S")
    tower(axes, 13.6, WRITTEN, ["causal self-attention", "cross-attention", "feed-forward"], "<bos> A dog barks.", "T")
    write(axes, 3.5, 8.9, "encoder: reads", color=READ, fontweight="bold", fontsize=11)
    write(axes, 11.2, 13.0, "decoder: writes", color=WRITTEN, fontweight="bold", fontsize=11)
    axes.plot([5.0, 5.0, 8.2, 8.2], [8.1, 9.6, 9.6, 6.45], color=READ, linewidth=2)
    arrow(axes, (8.2, 6.45), (9.8, 6.45), READ, 2)
    write(axes, 6.6, 9.9, "memory (B, S, D)", color=READ)
    write(axes, 8.3, 6.0, "keys, values", color=READ, fontsize=8)
    arrow(axes, (13.6, 10.2), (13.6, 10.75))
    block(axes, 13.6, 11.05, 4.3, 0.62, "head: a score for each token", WRITTEN)
    arrow(axes, (13.6, 11.36), (13.6, 11.95))
    write(axes, 14.7, 11.65, "(B, T, V)", color=GREY, fontsize=8)
    write(axes, 13.6, 12.25, "A dog barks. <eos>", color=WRITTEN, fontweight="bold")
    return figure


def tower(axes: Axes, x: float, colour: str, branches: list[str], text: str, length: str) -> None:
    """Draw one side of the model from its tokens up to its last norm."""
    write(axes, x, 0.35, text, color=colour, fontweight="bold")
    arrow(axes, (x, 0.6), (x, 1.15))
    write(axes, x + 0.7, 0.88, f"(B, {length})", color=GREY, fontsize=8)
    block(axes, x, 1.45, 3.0, 0.62, "√D × embedding", colour)
    write(axes, x - 2.9, 2.35, "positions", color=PLACE)
    arrow(axes, (x - 2.3, 2.35), (x - 0.22, 2.35), PLACE)
    arrow(axes, (x, 1.76), (x, 2.13))
    plus(axes, x, 2.35)
    write(axes, x + 1.0, 2.5, f"(B, {length}, D)", color=GREY, fontsize=8)
    top = 3.1 + 2.1 * len(branches)
    corner, style = (x - 4.1, 3.0), "round,pad=0,rounding_size=0.2"
    axes.add_patch(FancyBboxPatch(corner, 5.2, top - 3.0, style, facecolor="0.97", edgecolor="0.8"))
    write(axes, x + 0.65, 3.3, "× N", color=DARK, fontweight="bold")
    axes.plot([x, x], [2.57, top + 0.35], color="0.75", linewidth=3)
    side = x - 2.1
    for i, name in enumerate(branches):
        y, kind = 4.5 + 2.1 * i, THINK if name == "feed-forward" else TALK
        axes.plot([x, side, side], [y - 1.25, y - 1.25, y + 0.45], color=kind, linewidth=1, zorder=2.2)
        arrow(axes, (side, y + 0.45), (x - 0.22, y + 0.45), kind)
        block(axes, side, y - 0.82, 1.3, 0.42, "norm", NORM, fontsize=8)
        block(axes, side, y - 0.15, 3.4, 0.6, name, kind)
        plus(axes, x, y + 0.45)
    block(axes, x, top + 0.55, 1.5, 0.5, "norm", NORM)


def cache(n_tokens: int = 5) -> Figure:
    """What the fifth step computes: everything again, or one row from kept keys and values."""
    figure, panels = new_figure(10, 3.6, ncols=3, width_ratios=[1, 1, 1.1])
    allowed = causal_mask(n_tokens)
    names = [f"{i + 1}" for i in range(n_tokens)]
    again = torch.where(allowed, 0.6, torch.nan)
    fresh = again.clone()
    fresh[:-1] = torch.where(allowed[:-1], 0.0, torch.nan)
    for axes, weights, title in (
        (panels[0], again, f"no cache: {n_tokens} positions computed"),
        (panels[1], fresh, "cache: 1 position computed"),
    ):
        weight_grid(axes, weights, names, names, form=None)
        axes.set(xlabel=f"keys and values\n{title}", ylabel="queries")
    panels[1].axvspan(-0.5, n_tokens - 1.5, ymin=1 / n_tokens, color=READ, alpha=0.12, linewidth=0)
    note = f"of 1 to {n_tokens - 1} only keys\nand values are kept"
    panels[1].text((n_tokens - 2) / 2, 1.5, note, ha="center", va="center", fontsize=9, color=READ)
    lengths = torch.arange(1, 31)
    panels[2].plot(lengths, lengths * (lengths + 1) // 2, color=GREY, label="without: T (T + 1) / 2")
    panels[2].plot(lengths, lengths, color=READ, label="with: T")
    panels[2].annotate("465", (30, 465), xytext=(-24, -2), textcoords="offset points", color=GREY)
    panels[2].annotate("30", (30, 30), xytext=(-6, 6), textcoords="offset points", color=READ)
    panels[2].set(xlabel="tokens written", ylabel="positions computed in all")
    panels[2].legend(frameon=False, fontsize=8)
    return figure
