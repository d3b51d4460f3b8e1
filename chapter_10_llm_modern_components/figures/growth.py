"""What changes as models and texts grow: the effect of one step, the best size for given work, text read again.
模型和文本变大时什么会变：一步的效果、给定运算量下的最佳大小、重复阅读的文本。
"""

import numpy as np
import torch
from torch.nn import functional as F

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, tint
from chapter_10_llm_modern_components.figures import LEARNED, READ
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.scaling import (
    Law,
    activations,
    effective_tokens,
    initialize_mup_,
    mup_optimizers,
)
from utils.plotting import new_figure
from utils.seed import set_seed

from matplotlib.figure import Figure

WIDTHS, BASE, RATE = (32, 64, 128, 256), 32, 4e-3
EXAMPLE = Law(E=1.0, A=20.0, B=10.0, alpha=0.5, beta=0.5)
UNIQUE, R_STAR = 100, 15.0


def change_in_one_step(width: int, base_width: int) -> float:
    """Return by how much a step of AdamW changes what the first block gives (root mean square)."""
    set_seed(0)
    ids = torch.randint(64, (4, 17))
    sizes = {"n_layers": 2, "n_heads": width // 16, "d_ff": 8 * width // 3 // 8 * 8, "max_length": 16}
    model = LanguageModel(ModelConfig(64, width, **sizes))
    initialize_mup_(model, base_width)
    before = activations(model, ids[:, :-1])[0]  # (B, T, D)
    F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
    for optimizer in mup_optimizers(model, "adamw", RATE, base_width):
        optimizer.step()
    return (activations(model, ids[:, :-1])[0] - before).square().mean().sqrt().item()


def one_step() -> Figure:
    """A unit's change with 4 and 16 inputs; a block's, measured, against the width, in both parametrisations."""
    figure, (left, right) = new_figure(9, 3.2, ncols=2)
    inputs = [4, 16]
    left.bar([0, 1], [0.01 * n for n in inputs], color=tint(READ, 0.6), width=0.55)
    for x, n in enumerate(inputs):
        left.text(x, 0.01 * n + 0.003, f"{n} · 0.01 = {0.01 * n:g}", ha="center", fontsize=9, color=DARK)
    left.set_xticks([0, 1], [f"{n} inputs" for n in inputs])
    left.set(ylabel="change of the output", ylim=(0, 0.19))
    left.grid(False, axis="x")
    for label, base, colour in (("ordinary", None, GREY), ("µP", BASE, LEARNED)):
        changes = [change_in_one_step(width, base or width) for width in WIDTHS]
        right.plot(WIDTHS, changes, "o-", color=colour, label=label)
    right.set_xscale("log", base=2)
    right.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
    right.minorticks_off()
    right.set(xlabel="width", ylabel="change of the first block in a step", ylim=(0, None))
    right.legend(frameon=False)
    return figure


def valley() -> Figure:
    """The three parts of the example's loss for five sizes that cost the same."""
    figure, axes = new_figure(6.4, 3.6)
    sizes = [5, 10, 20, 40, 80]
    names = "E", "20 / √N, of parameters", "10 / √D, of tokens"
    for x, n in enumerate(sizes):
        d, bottom = 100 / n, 0.0
        parts = (EXAMPLE.E, GREY), (EXAMPLE.A / n**EXAMPLE.alpha, LEARNED), (EXAMPLE.B / d**EXAMPLE.beta, READ)
        for (value, colour), name in zip(parts, names, strict=True):
            axes.bar(x, value, bottom=bottom, color=tint(colour, 0.5), width=0.7, label=None if x else name)
            axes.text(x, bottom + value / 2, f"{value:.2f}", ha="center", va="center", fontsize=8, color=DARK)
            bottom += value
        axes.text(x, bottom + 0.15, f"{bottom:.2f}", ha="center", fontsize=9, fontweight="bold" if n == 20 else None)
    axes.set_xticks(range(len(sizes)), [f"N = {n}\nD = {100 / n:g}" for n in sizes])
    axes.set(ylabel="loss", ylim=(0, 14.8))
    axes.grid(False, axis="x")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
    return figure


def passes() -> Figure:
    """What a hundred tokens are worth after 1, 4, 16 and 64 passes, beside as many new ones."""
    figure, axes = new_figure(6.4, 3.2)
    x = np.geomspace(1, 100, 200)
    axes.plot(x, UNIQUE * x, color=GREY, linewidth=1.2, label="new tokens")
    axes.plot(x, effective_tokens(UNIQUE, UNIQUE * x, R_STAR), color=READ, linewidth=2, label="the same 100 again")
    axes.axhline(UNIQUE * (1 + R_STAR), color=READ, linewidth=0.8, linestyle="--")
    for n in (1, 4, 16, 64):
        worth = effective_tokens(UNIQUE, UNIQUE * n, R_STAR)
        axes.plot(n, worth, "o", color=DARK, zorder=4)
        axes.annotate(f"{worth:,.0f}", (n, worth), xytext=(4, -12), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", yscale="log", xlabel="passes", ylabel="worth, in new tokens", ylim=(70, 4000))
    axes.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
    axes.set_yticks([100, 400, 1600], ["100", "400", "1,600"])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure
