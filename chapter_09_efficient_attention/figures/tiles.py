"""Exact softmax attention without the square: three running numbers, and tiles.
不存整个方阵的精确 softmax 注意力：三个滚动更新的数，以及分块。
"""

from math import exp, inf

import numpy as np

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, blank, boxes, tint, write
from chapter_09_efficient_attention.figures import KEY, QUERY, VALUE, WEIGHT
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

SCORES, VALUES = [1, 3, 2], [10, 20, 30]


def online_steps() -> list[tuple[float, float, float, float]]:
    """Return after each score: by how much what was there shrank, the maximum, the sum, the weighted sum."""
    m, total, o, steps = -inf, 0.0, 0.0, []
    for score, value in zip(SCORES, VALUES, strict=True):
        new = max(m, score)
        shrink = exp(m - new)
        total, o, m = shrink * total + exp(score - new), shrink * o + exp(score - new) * value, new
        steps.append((shrink, m, total, o))
    return steps


def online() -> Figure:
    """Three scores arriving one after another, and the three numbers after each."""
    figure, axes = blank(9.6, 4.4, 19.2, 8.8)
    rows = (("largest m", 4.7), ("sum ℓ", 3.1), ("weighted sum o", 1.5))
    write(axes, 0.2, 7.5, "arrives", color=GREY, ha="left")
    for name, y in rows:
        write(axes, 0.2, y, name, color=GREY, ha="left")
    for i, (shrink, *numbers) in enumerate(online_steps()):
        left = 3.6 + 4.6 * i
        boxes(axes, left, 7.5, [SCORES[i]], GREY, 1.0)
        boxes(axes, left + 1.0, 7.5, [VALUES[i]], VALUE, 1.0)
        write(axes, left + 0.5, 8.35, "score", color=GREY, fontsize=8)
        write(axes, left + 1.5, 8.35, "value", color=VALUE, fontsize=8)
        arrow(axes, (left + 1.0, 6.8), (left + 1.0, 5.45), GREY)
        for (_, y), number in zip(rows, numbers, strict=True):
            axes.add_patch(Rectangle((left + 0.1, y - 0.5), 1.8, 1.0, facecolor=tint(WEIGHT), edgecolor=WEIGHT))
            write(axes, left + 1.0, y, f"{number:.3f}".rstrip("0").rstrip("."), fontsize=10)
        if i:
            weight = exp(SCORES[i] - numbers[0])
            for (_, y), added in zip(rows[1:], (weight, weight * VALUES[i]), strict=True):
                arrow(axes, (left - 2.6, y), (left - 0.05, y), WEIGHT, 1.4)
                write(axes, left - 1.35, y + 0.32, f"× {shrink:.3f}".replace("1.000", "1"), color=WEIGHT, fontsize=9)
                write(axes, left - 1.35, y - 0.34, f"+ {added:.3f}".replace(".000", ""), color=DARK, fontsize=9)
    *_, total, o = online_steps()[-1]
    arrow(axes, (15.0, 2.3), (16.3, 2.3), DARK)
    boxes(axes, 16.6, 2.3, [f"{o / total:.3f}"], VALUE, 1.8)
    write(axes, 17.5, 3.65, "o / ℓ", fontweight="bold")
    write(axes, 5.9, 0.35, "the maximum rises from 1 to 3: × e¹⁻³", color=GREY, fontsize=9)
    write(axes, 12.4, 0.35, "2 is less than 3: + e²⁻³ = 0.368", color=GREY, fontsize=9)
    return figure


def tiles(n_blocks: int = 8, row: int = 4, column: int = 2) -> Figure:
    """A square of tiles while one of them is at work; numbers moved for blocks of several sizes."""
    figure, (left, right) = new_figure(10.4, 4.2, ncols=2, width_ratios=[1, 1.05])
    tile_square(left, n_blocks, row, column)
    n, width = 4096, 64
    ways = [("scores travel", 4 * n * n, GREY)]
    ways += [(f"blocks of {b}", n // b * 2 * n * width, WEIGHT) for b in (64, 128, 256)]
    for i, (_, moved, colour) in enumerate(ways):
        right.barh(-i, moved / 1e6, color=colour, height=0.6)
        right.text(moved / 1e6 + 1, -i, f"{moved / 1e6:.0f}", va="center", fontsize=10, color=colour)
    right.set_yticks([0, -1, -2, -3], [name for name, *_ in ways])
    right.tick_params(axis="y", length=0)
    right.set(xlabel="million numbers moved, 4,096 tokens of width 64", xlim=(0, 76))
    right.grid(False, axis="y")
    return figure


def tile_square(axes: Axes, n: int, row: int, column: int) -> None:
    """Draw n x n tiles under a causal mask, those before (row, column) done; queries on the left, keys on top."""
    axes.set(xlim=(-2.0, n + 0.3), ylim=(-1.3, n + 1.9), aspect="equal")
    axes.set_axis_off()
    for i, j in np.ndindex(n, n):
        corner = (j + 0.06, n - 1 - i + 0.06)
        if j > i:
            style = {"facecolor": "0.97", "edgecolor": "0.88"}
            axes.plot([j + 0.25, j + 0.75], [n - i - 0.75, n - i - 0.25], color="0.85", linewidth=1)
        elif (i, j) == (row, column):
            style = {"facecolor": WEIGHT, "edgecolor": WEIGHT}
        elif i < row or (i == row and j < column):
            style = {"facecolor": tint(WEIGHT, 0.3), "edgecolor": tint(WEIGHT, 0.6)}
        else:
            style = {"facecolor": "white", "edgecolor": "0.75"}
        axes.add_patch(Rectangle(corner, 0.88, 0.88, **style))
    for i in range(n):
        here = i == row
        axes.add_patch(Rectangle((-0.75, n - 1 - i + 0.06), 0.5, 0.88, facecolor=QUERY if here else tint(QUERY),
                                 edgecolor=QUERY))  # fmt: skip
        here = i == column
        axes.add_patch(Rectangle((i + 0.06, n + 0.25), 0.88, 0.35, facecolor=KEY if here else tint(KEY), edgecolor=KEY))
        axes.add_patch(Rectangle((i + 0.06, n + 0.62), 0.88, 0.35, facecolor=VALUE if here else tint(VALUE),
                                 edgecolor=VALUE))  # fmt: skip
    write(axes, -1.3, n / 2, "blocks of queries", color=QUERY, rotation=90)
    write(axes, n / 2 - 2.1, n + 1.45, "blocks of keys", color=KEY)
    write(axes, n / 2 + 2.1, n + 1.45, "and values", color=VALUE)
    write(
        axes,
        n / 2,
        -0.75,
        "light: done and forgotten; dark: on the chip;\ncrossed out: skipped",
        color=GREY,
        fontsize=8,
    )
