"""How far back the cells learn: errors by distance, and gradients by lag.
各种单元能学到多远：误差随距离的变化，梯度随间隔的变化。
"""

from collections.abc import Iterable
from statistics import median

from chapter_06_rnn_lstm_seq.figures.colours import CELL_COLOURS, CELL_NAMES
from utils.plotting import new_figure

from matplotlib.figure import Figure

GUESSING = {"adding": 1 / 6, "copy": 7 / 8}
TITLES = {
    "pytorch": "PyTorch's initial weights",
    "memory": "initial weights for long memory",
    "trained": "after training",
}


def draw_errors(rows: list[dict], tasks: dict[str, list[int]], cells: Iterable[str]) -> Figure:
    """Draw each training's error by distance, one row of `rows` a dot, and a line through each cell's medians."""
    figure, panels = new_figure(9, 3.8, ncols=2)
    for axes, (task, distances) in zip(panels, tasks.items(), strict=True):
        for i, cell in enumerate(cells):
            own = [row for row in rows if row["task"] == task and row["cell"] == cell]
            errors = [[row["error"] for row in own if row["distance"] == distance] for distance in distances]
            shifted = [d * 1.03 ** (i - 2) for d in distances]  # side by side where they would hide each other
            axes.plot(shifted, errors, "o", ms=4, color=CELL_COLOURS[cell], alpha=0.7)
            axes.plot(shifted, [median(e) for e in errors], color=CELL_COLOURS[cell], label=CELL_NAMES[cell])
        axes.axhline(GUESSING[task], color="grey", linestyle="--", linewidth=1, label="guessing")
        axes.set_xscale("log", base=2)
        axes.set_xticks(distances, map(str, distances))
    left, right = panels
    left.set(xlabel="length of the sequence (steps)", ylabel="mean squared error", title="adding problem", yscale="log")
    right.set(
        xlabel="steps between symbols and answer", ylabel="share of wrong symbols", title="copy task", ylim=(-0.03, 1)
    )
    right.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_gradients(gradients: dict[str, dict[str, list[float]]], cells: Iterable[str]) -> Figure:
    """Draw how strongly the last answer depends on the state so many steps before, as a share of lag 0's."""
    figure, panels = new_figure(11, 3.6, ncols=len(gradients), sharey=True)
    for axes, (name, curves) in zip(panels, gradients.items(), strict=True):
        for cell in cells:
            axes.plot(curves[cell], color=CELL_COLOURS[cell], label=CELL_NAMES[cell])
        axes.set(xlabel="lag (steps)", title=TITLES[name], yscale="log", ylim=(1e-8, 1e3))
    panels[0].set_ylabel("|dL/dh| at this lag / at lag 0")
    panels[-1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
