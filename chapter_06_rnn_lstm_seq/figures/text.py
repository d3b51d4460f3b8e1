"""What goes on inside the language model as it reads.
语言模型阅读时内部发生了什么。
"""

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.figures.colours import CELL_COLOURS, CELL_NAMES
from utils.plotting import new_figure

from matplotlib.figure import Figure

GATES = {"f": "forget gate", "i": "input gate", "o": "output gate"}
DASHES = {"rnn": (0, (4, 2)), "lstm": (0, (4, 4)), "gru": (4, (4, 4))}  # the last two fill each other's gaps
COLUMNS = 64  # characters in a row of coloured text


def draw_gates(text: str, rows: list[tuple[str, dict[str, Tensor]]]) -> Figure:
    """Draw how far the gates of some units are open at each character: (unit's name, its trace, (T,) each)."""
    figure, panels = new_figure(11, 4.6, nrows=len(GATES), sharex=True)
    for axes, (key, name) in zip(panels, GATES.items(), strict=True):
        gates = torch.stack([trace[key] for _, trace in rows])  # (units, T)
        image = axes.imshow(gates.numpy(), aspect="auto", vmin=0, vmax=1, cmap="viridis")
        axes.set_title(name, fontsize=10)
        axes.set_yticks(range(len(rows)), [unit for unit, _ in rows], fontsize=8)
        axes.grid(False)
    panels[-1].set_xticks(range(len(text)), [shown(character) for character in text], fontsize=7, family="monospace")
    panels[-1].set_xlabel("character just read")
    figure.colorbar(image, ax=panels, label="how far open (0 to 1)", shrink=0.6)
    return figure


def draw_tracking(text: str, rows: list[tuple[str, int, int, float, Tensor]]) -> Figure:
    """Print the text once a row, coloured by a cell: (what it follows, layer, unit, correlation, values (T,))."""
    n_lines = -(-len(text) // COLUMNS)
    figure, panels = new_figure(9, 0.26 * n_lines * len(rows) + 0.5 * len(rows), nrows=len(rows), squeeze=False)
    for axes, (signal, layer, unit, r, values) in zip(panels[:, 0], rows, strict=True):
        limit = values.abs().max().clamp(min=1e-6)
        grid = torch.full((n_lines * COLUMNS,), torch.nan)
        grid[: len(text)] = values / limit
        image = axes.imshow(grid.view(n_lines, COLUMNS).numpy(), aspect="auto", vmin=-1, vmax=1, cmap="coolwarm")
        for i, character in enumerate(text):
            axes.text(
                i % COLUMNS, i // COLUMNS, shown(character), ha="center", va="center", fontsize=7, family="monospace"
            )
        axes.set_title(f"layer {layer + 1}, cell {unit}: {signal} (correlation {r:+.2f})", fontsize=9)
        axes.set_axis_off()
    figure.colorbar(image, ax=panels, label="cell / its largest value", shrink=0.5)
    return figure


def draw_distances(curves: dict[str, tuple[str, Tensor]]) -> Figure:
    """Draw by distance how strongly the last prediction depends on a character: name -> (cell, (T,))."""
    figure, axes = new_figure(6.5, 3.8)
    for name, (cell, curve) in curves.items():
        trained = name == "trained"
        label = f"{CELL_NAMES[cell]}, {'trained' if trained else 'not trained'}"
        style = "-" if trained else DASHES[cell]
        axes.plot((curve / curve[0]).tolist(), linestyle=style, color=CELL_COLOURS[cell], label=label)
    axes.set(
        yscale="log", ylim=(1e-12, 10), xlabel="distance (characters)", ylabel="gradient / that of the last character"
    )
    axes.legend(frameon=False, fontsize=9)
    return figure


def shown(character: str) -> str:
    return {"\n": "⏎", " ": "·"}.get(character, character)
