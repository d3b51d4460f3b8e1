"""One colour for one concept, and numbers in boxes: the parts that the chapter's pictures are made of.
同一概念用同一种颜色，数字写在方格里：本章图片的基本部件。
"""

from collections.abc import Sequence

import numpy as np

from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

QUERY, KEY, VALUE, WEIGHT = COLOURS[1], COLOURS[0], COLOURS[2], "#6F3FA0"  # orange, blue, green, purple
DARK, GREY = "0.2", "0.55"
OTHERS = [COLOURS[3], COLOURS[4], COLOURS[5]]  # pink, yellow, light blue: what is none of these four
WEIGHT_MAP = LinearSegmentedColormap.from_list("weight", ["white", "#B79AD6", WEIGHT, "#35155C"])


def tint(colour: str, share: float = 0.18) -> tuple[float, float, float]:
    """Return the colour, mixed with so much white that dark numbers can be read on it."""
    return tuple(1 - share * (1 - part) for part in to_rgb(colour))


def blank(width: float, height: float, x: float, y: float) -> tuple[Figure, Axes]:
    """Return a figure of so many inches whose axes go from (0, 0) at the lower left to (x, y), without a frame."""
    figure, axes = new_figure(width, height)
    axes.set(xlim=(0, x), ylim=(0, y), aspect="equal")
    axes.set_axis_off()
    return figure, axes


def boxes(axes: Axes, x: float, y: float, values: Sequence, colour: str, size: float = 0.8, form: str = "{:g}") -> None:
    """Draw values in a row of boxes whose left edge is x, and whose middle is at height y; two a unit, at size 0.5."""
    for i, value in enumerate(values):
        text = value if isinstance(value, str) else form.format(value)
        left = (x + i * size, y - size / 2)
        axes.add_patch(Rectangle(left, size, size, facecolor=tint(colour), edgecolor=colour, linewidth=1))
        axes.text(x + (i + 0.5) * size, y, text, ha="center", va="center", fontsize=9, color=DARK, parse_math=False)


def write(axes: Axes, x: float, y: float, text: str, **how) -> None:
    """Write text whose middle is at (x, y)."""
    axes.text(x, y, text, **({"ha": "center", "va": "center", "fontsize": 9, "color": DARK} | how))


def arrow(axes: Axes, start: tuple, end: tuple, colour: str = GREY, width: float = 1.0, bend: float = 0.0) -> None:
    """Draw an arrow; `bend` curves it."""
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0, "color": colour, "linewidth": width}
    axes.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", **style))


def weight_grid(
    axes: Axes, weights, rows: Sequence[str], columns: Sequence[str], form: str | None = "{:.2f}", title: str = ""
) -> None:
    """Draw weights (T, S) as a table: a row for each query, a column for each key; with `form` as numbers too.

    NaN is a place that may not be looked at.
    """
    weights = np.asarray(weights, dtype=float)
    axes.imshow(weights, cmap=WEIGHT_MAP, vmin=0, vmax=1, aspect="equal")
    if form:
        for (t, s), weight in np.ndenumerate(weights):
            colour = "white" if weight > 0.4 else DARK
            axes.text(
                s,
                t,
                "" if np.isnan(weight) else form.format(weight),
                ha="center",
                va="center",
                fontsize=8,
                color=colour,
            )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    for labels, colour in ((axes.get_xticklabels(), KEY), (axes.get_yticklabels(), QUERY)):
        for label in labels:
            label.set(color=colour, fontsize=8, parse_math=False)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(False, which="major")
    axes.grid(True, which="minor", color="0.85", linewidth=0.6, alpha=1)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, fontsize=9)
