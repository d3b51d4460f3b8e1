"""Boxes and arrows, of which the schemes in the theory are made.
示意图用到的方框与箭头。
"""

from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DARK = "#333333"


def blank_axes(
    width: float, height: float, xlim: tuple[float, float], ylim: tuple[float, float]
) -> tuple[Figure, Axes]:
    """Return a figure to draw a scheme on, in units of our own."""
    figure, axes = new_figure(width, height)
    axes.set(xlim=xlim, ylim=ylim)
    axes.axis("off")
    return figure, axes


def node(axes: Axes, x: float, y: float, text: str, colour: str, size: float = 9) -> None:
    """Write a text into a rounded box around (x, y)."""
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": colour, "linewidth": 1.6}
    axes.text(x, y, text, ha="center", va="center", fontsize=size, bbox=box, zorder=3)


def arrow(axes: Axes, start: tuple, end: tuple, colour: str, label: str = "", curve: float = 0, **style) -> None:
    """Draw an arrow; its label stands by its middle, above it or to its right."""
    look = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0} | style
    axes.annotate("", end, start, arrowprops=look | {"connectionstyle": f"arc3,rad={curve}"}, zorder=2)
    if label:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        across = abs(end[0] - start[0]) > abs(end[1] - start[1])
        place = {"ha": "center", "va": "bottom"} if across else {"ha": "left", "va": "center"}
        axes.text(x + (0 if across else 0.06), y + (0.06 if across else 0), label, color=colour, fontsize=9, **place)
