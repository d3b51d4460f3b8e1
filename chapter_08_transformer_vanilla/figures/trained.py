"""What a trained model looks at: every head of every layer, what each is for, rollout; and how training went.
训练好的模型看什么：每一层的每个头、各头的分工、注意力展开；以及训练的过程。
"""

import numpy as np
import torch
from torch import Tensor

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, WEIGHT_MAP, weight_grid
from chapter_08_transformer_vanilla.attention_analysis import CROSS_ROLES, ROLES
from chapter_08_transformer_vanilla.figures import READ
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle


def all_heads(maps: list[Tensor], rows: list[str], columns: list[str]) -> Figure:
    """Draw weights (H, T, S) of each layer: a row of panels a layer, a column a head."""
    n_heads = len(maps[0])
    single = max(map(len, [*rows, *columns])) == 1  # characters need less room, and need not be turned
    margin, gap, size = (0.35, 0.35, 8) if single else (0.9, 0.55, 6)
    width, height = margin + 0.17 * len(columns), gap + 0.17 * len(rows)
    figure, panels = new_figure(
        n_heads * width, len(maps) * height + 0.5, nrows=len(maps), ncols=n_heads, squeeze=False
    )
    for i, (line, layer) in enumerate(zip(panels, maps, strict=True)):
        for h, (axes, weights) in enumerate(zip(line, layer, strict=True)):
            shown = rows if h == 0 else [""] * len(rows), columns if i == 0 else [""] * len(columns)
            weight_grid(axes, weights.cpu(), *shown, form=None)
            axes.set_ylabel(f"layer {i + 1}" if h == 0 else "", fontsize=9)
            axes.set_xlabel(f"head {h + 1}" if i == len(maps) - 1 else "", fontsize=9)
            axes.tick_params(axis="x", labelrotation=0 if single else 90)
            for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
                label.set_fontsize(size)
    return figure


def roles(found: dict[str, dict]) -> Figure:
    """Draw for "encoder", "decoder" and "cross" what each head looks at, and at how many tokens.

    Args:
        found: for each, the names of its `roles`, the `weights` (L, R, H) on them, the effective number of `tokens`
            (L, H), and as `uniform` (R,) and `uniform_tokens` the same of a head that looks everywhere alike, as
            `survey_heads` returns them.
    """
    widths = [len(part["roles"]) + 2.4 for part in found.values()]
    n_rows = max(part["tokens"].numel() for part in found.values()) + 1
    figure, panels = new_figure(0.68 * sum(widths), 1.2 + 0.25 * n_rows, ncols=len(found), width_ratios=widths)
    for axes, (name, part) in zip(panels, found.items(), strict=True):
        n_layers, n_roles, n_heads = part["weights"].shape
        grid = part["weights"].transpose(1, 2).flatten(0, 1)  # (L, R, H) -> (L H, R)
        grid = torch.cat([part["uniform"][None], grid]).cpu().numpy()  # (1 + L H, R)
        axes.imshow(grid, cmap=WEIGHT_MAP, vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(grid):
            ink = "white" if value > 0.4 else DARK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)
        tokens = [part["uniform_tokens"], *part["tokens"].flatten().tolist()]
        for row, value in enumerate(tokens):
            width = 1.1 * value / max(tokens)
            axes.add_patch(
                Rectangle((n_roles - 0.4, row - 0.35), width, 0.7, color=GREY if row == 0 else READ, alpha=0.4)
            )
            axes.text(n_roles + 1.15, row, f"{value:.1f}", ha="right", va="center", fontsize=7, color=DARK)
        axes.set_xlim(-0.5, n_roles + 1.3)
        shown = [(ROLES if name != "cross" else CROSS_ROLES)[role] for role in part["roles"]]
        axes.set_xticks([*range(n_roles), n_roles + 0.4], [*shown, "tokens in all"], rotation=90, fontsize=8)
        names = [f"{layer + 1}.{head + 1}" for layer in range(n_layers) for head in range(n_heads)]
        axes.set_yticks(range(len(tokens)), ["uniform", *names], fontsize=7)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.set_xlabel("cross-attention" if name == "cross" else name, fontsize=10, fontweight="bold")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        for layer in range(n_layers):
            axes.axhline(layer * n_heads + 0.5, color=DARK, linewidth=0.8)
    return figure


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
