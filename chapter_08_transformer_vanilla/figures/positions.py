"""Positions: clocks of many hands, the rotation that shifts them, and how alike two positions are.
位置：多根指针的钟、平移它们的旋转，以及两个位置有多相似。
"""

import numpy as np

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow
from chapter_08_transformer_vanilla.figures import PLACE, READ
from chapter_08_transformer_vanilla.positional_encoding import angular_frequencies, shift_matrix, sinusoidal_encoding
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

SENTENCE = ["Ein", "Hund", "rennt", "durch", "den", "tiefen", "Schnee", "."]
SIGNED = LinearSegmentedColormap.from_list("signed", ["#2F3E55", "white", PLACE])  # -1, 0, 1
HANDS = LinearSegmentedColormap.from_list("hands", ["#5B1540", PLACE, "#EBCBDD"])  # from the fastest to the slowest


def clocks(d_model: int = 16, n_positions: int = 100) -> Figure:
    """A clock over each word of a sentence, with a hand for each pair of numbers; below, the table of all positions."""
    figure, _ = new_figure(10, 5.1)
    figure.clear()
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.75])
    table = sinusoidal_encoding(n_positions, d_model).numpy()  # (N, D)
    for position, (axes, word) in enumerate(zip(top.subplots(1, len(SENTENCE)), SENTENCE, strict=True)):
        dial(axes, table[position])
        axes.set_title(f"position {position}", fontsize=8, color=GREY, pad=2)
        axes.text(0, -1.45, word, ha="center", color=READ, fontweight="bold")
    axes = bottom.subplots()
    axes.imshow(table.T, cmap=SIGNED, aspect="auto", vmin=-1, vmax=1, interpolation="nearest")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.add_patch(Rectangle((-0.5, -0.5), len(SENTENCE), d_model, fill=False, edgecolor=DARK, linewidth=1.2))
    axes.set_yticks(range(d_model), [f"{f} {i}" for i in range(d_model // 2) for f in ("sin", "cos")], fontsize=7)
    for row, label in enumerate(axes.get_yticklabels()):
        label.set_color(HANDS(row // 2 / (d_model / 2)))
        label.set_fontweight("bold")
    axes.set(xlabel="position in the sequence (framed: the clocks above)", ylabel="hand")
    return figure


def dial(axes: Axes, code: np.ndarray) -> None:
    """Draw one position's code (D,) as a clock: each hand points to (sin, cos), the faster the longer."""
    n_hands = len(code) // 2
    axes.set(xlim=(-1.12, 1.12), ylim=(-1.62, 1.12), aspect="equal")
    axes.set_axis_off()
    axes.add_patch(Circle((0, 0), 1.05, facecolor="0.975", edgecolor="0.8"))
    for hour in range(12):
        angle = np.pi * hour / 6
        axes.plot(*np.outer((np.sin(angle), np.cos(angle)), (0.97, 1.03)), color="0.7", linewidth=1)
    for i in reversed(range(n_hands)):
        length = 0.95 - 0.62 * i / (n_hands - 1)
        x, y = length * code[2 * i : 2 * i + 2]
        axes.plot([0, x], [0, y], color=HANDS(i / n_hands), linewidth=1.4 + 0.35 * i, solid_capstyle="round")
    axes.add_patch(Circle((0, 0), 0.06, color=DARK, zorder=5))


def shift(distance: int = 3) -> Figure:
    """A shift as one rotation for all positions; the matrix that does it; the product of two codes by distance."""
    figure, (left, middle, right) = new_figure(11, 3.7, ncols=3, width_ratios=[1, 1, 1.1])
    circle(left, distance)
    matrix = shift_matrix(distance, 6).numpy()
    middle.imshow(matrix, cmap=SIGNED, vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if value < -0.5 else DARK if value else "0.75"
        middle.text(column, row, f"{value:.2f}" if value else "0", ha="center", va="center", fontsize=8, color=colour)
    middle.set_title(f"the matrix that moves every position by {distance}\n(width 6: three hands)", fontsize=9)
    middle.set_axis_off()
    table = sinusoidal_encoding(200, 64)
    products = (table @ table.T).numpy()  # (200, D) @ (D, 200) -> (200, 200)
    distances = np.arange(-40, 41)
    for position, style in ((60, "-"), (120, "--")):
        curve = products[position, position + distances]
        width = 3.5 if style == "-" else 1.2
        label = f"from position {position}"
        right.plot(distances, curve, style, color=PLACE if style == "-" else DARK, linewidth=width, label=label)
    right.set(xlabel="distance (positions)", ylabel="product of the two codes", title="alike when near (width 64)")
    right.title.set_fontsize(9)
    right.legend(frameon=False, fontsize=8)
    return figure


def circle(axes: Axes, distance: int) -> None:
    """Draw the fastest hand at each position, and two moves by the same distance."""
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
    axes.set_title(
        f"the fastest hand turns by 1 per position:\nfrom any position, {distance} more is the same turn", fontsize=9
    )
    axes.set_axis_off()
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.8"))
    turn = float(angular_frequencies(2)[0])
    for position in range(6):
        x, y = sinusoidal_encoding(1, 2, position)[0].tolist()
        axes.plot([0, x], [0, y], color=PLACE, linewidth=1, alpha=0.5)
        axes.plot(x, y, "o", color=PLACE, markersize=5)
        axes.text(1.16 * x, 1.16 * y, f"{position}", ha="center", va="center", fontweight="bold")
        if position in (1, 4):
            side = {"ha": "left" if x > 0 else "right", "fontsize": 8, "color": PLACE}
            axes.text(1.3 * x, 1.16 * y - 0.02, f"({x:.2f}, {y:.2f})", va="center", **side)
    for position, radius, at in ((1, 0.62, 8), (2, 0.4, 20)):
        angles = turn * np.linspace(position, position + distance, 40)
        path = radius * np.array([np.sin(angles), np.cos(angles)])  # (2, 40)
        axes.plot(*path[:, :-2], color=DARK, linewidth=1.2)
        arrow(axes, tuple(path[:, -3]), tuple(path[:, -1]), DARK, 1.2)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axes.text(*path[:, at], f"{position} → {position + distance}", fontsize=8, ha="center", va="center", bbox=box)
