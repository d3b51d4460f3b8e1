"""What a trained model looks at: every head of every layer, what each is for, rollout; and how training went.
训练好的模型看什么：每一层的每个头、各头的分工、注意力展开；以及训练的过程。
"""

import torch
from torch import Tensor

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, WEIGHT_MAP, weight_grid
from chapter_08_transformer_vanilla.attention_analysis import ROLES
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def all_heads(maps: list[Tensor], rows: list[str], columns: list[str]) -> Figure:
    """Draw weights (H, T, S) of each layer: a row of panels a layer, a column a head."""
    n_heads = len(maps[0])
    width, height = 0.9 + 0.17 * len(columns), 0.55 + 0.17 * len(rows)
    figure, panels = new_figure(
        n_heads * width, len(maps) * height + 0.5, nrows=len(maps), ncols=n_heads, squeeze=False
    )
    for i, (line, layer) in enumerate(zip(panels, maps, strict=True)):
        for h, (axes, weights) in enumerate(zip(line, layer, strict=True)):
            shown = rows if h == 0 else [""] * len(rows), columns if i == 0 else [""] * len(columns)
            weight_grid(axes, weights.cpu(), *shown, form=None)
            axes.set_ylabel(f"layer {i + 1}" if h == 0 else "", fontsize=9)
            axes.set_xlabel(f"head {h + 1}" if i == len(maps) - 1 else "", fontsize=9)
            axes.tick_params(axis="x", labelrotation=90)
            for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
                label.set_fontsize(6)
    return figure


def roles(tables: dict[str, Tensor]) -> Figure:
    """Draw for "encoder" and "decoder" the mean weight (L, 5, H) that each head gives to each of ROLES."""
    figure, panels = new_figure(5.4 * len(tables), 4.4, ncols=len(tables), squeeze=False)
    for axes, (name, table) in zip(panels[0], tables.items(), strict=True):
        n_layers, n_roles, n_heads = table.shape
        grid = table.transpose(1, 2).flatten(0, 1).cpu()  # (L, H, 5) -> (L H, 5)
        axes.imshow(grid, cmap=WEIGHT_MAP, vmin=0, vmax=1, aspect="auto")
        for (row, column), value in _cells(grid):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=_ink(value))
        axes.set_xticks(range(n_roles), ROLES, fontsize=8)
        names = [f"{layer + 1}.{head + 1}" for layer in range(n_layers) for head in range(n_heads)]
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set(ylabel="layer.head", title=f"{name}: mean weight on ...")
        axes.tick_params(length=0)
        axes.grid(False)
        for layer in range(1, n_layers):
            axes.axhline(layer * n_heads - 0.5, color=DARK, linewidth=1)
    return figure


def _cells(grid: Tensor):
    return (((row, column), grid[row, column].item()) for row in range(len(grid)) for column in range(grid.shape[1]))


def _ink(value: float) -> str:
    return "white" if value > 0.4 else DARK


def rolled_out(last: Tensor, total: Tensor, tokens: list[str]) -> Figure:
    """Draw the mean of the last layer's heads (T, T) beside the rollout through all layers (T, T)."""
    side = 1.3 + 0.24 * len(tokens)
    figure, panels = new_figure(2 * side, side + 0.3, ncols=2)
    for axes, weights, title in zip(panels, (last, total), ("last layer, mean of heads", "rollout"), strict=True):
        weight_grid(axes, (weights / weights.max()).cpu(), tokens, tokens, form=None, title=title)
        axes.tick_params(axis="x", labelrotation=90)
    return figure


def training(history: list[dict]) -> Figure:
    """Draw losses, BLEU where it was measured, and the rate over training."""
    figure, panels = new_figure(10, 3.1, ncols=3)
    steps = [row["step"] for row in history]
    curve(panels[0], steps, history, "train_loss", GREY, "training, smoothed labels")
    curve(panels[0], steps, history, "validation_loss", DARK, "validation")
    panels[0].set(xlabel="step", ylabel="loss (nats a token)")
    panels[0].legend(frameon=False, fontsize=8)
    curve(panels[1], steps, history, "validation_bleu", DARK, "")
    panels[1].set(xlabel="step", ylabel="BLEU on validation, greedy", ylim=(0, None))
    curve(panels[2], steps, history, "lr", DARK, "")
    panels[2].set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    return figure


def curve(axes: Axes, steps: list[int], history: list[dict], name: str, colour: str, label: str) -> None:
    values = [row.get(name, torch.nan) for row in history]
    axes.plot(steps, values, "o-", markersize=2.5, color=colour, label=label)
