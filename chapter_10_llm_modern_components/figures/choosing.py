"""How the next token is chosen: filters on two distributions, and a draft that is accepted or rejected.
如何选出下一个词元：两个分布上的各种过滤，以及草稿的接受与拒绝。
"""

import numpy as np
import torch

from chapter_07_attention_mechanism.figures.cells import DARK, tint
from chapter_10_llm_modern_components.figures import CHANCE, DRAFT
from chapter_10_llm_modern_components.generation import Sampler
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WORDS = ["mat", "bed", "floor", "roof", "moon", "of"]
SURE = torch.tensor([0.80, 0.10, 0.04, 0.03, 0.02, 0.01])
UNSURE = torch.tensor([0.25, 0.20, 0.18, 0.15, 0.12, 0.10])
TARGET, PROPOSED = torch.tensor([0.2, 0.4, 0.3, 0.1]), torch.tensor([0.5, 0.2, 0.2, 0.1])


def filters() -> Figure:
    """A sure and an unsure distribution, as they are and after each filter."""
    figure, panels = new_figure(12, 3.9, nrows=2, ncols=6, sharex=True, sharey=True)
    ways = [
        ("the model", Sampler()),
        ("temperature 0.5", Sampler(temperature=0.5)),
        ("temperature 2", Sampler(temperature=2.0)),
        ("top-k, k = 3", Sampler(top_k=3)),
        ("top-p, p = 0.75", Sampler(top_p=0.75)),
        ("min-p, α = 0.2", Sampler(min_p=0.2)),
    ]
    for row, p in zip(panels, (SURE, UNSURE), strict=True):
        for axes, (name, sampler) in zip(row, ways, strict=True):
            after = sampler.probabilities(p.log()).tolist()
            axes.bar(range(6), p.tolist(), color="none", edgecolor="0.75", width=0.8)
            axes.bar(range(6), after, color=[CHANCE if a else "none" for a in after], width=0.8, alpha=0.85)
            if p is SURE:
                axes.set_title(name, fontsize=10)
            kept = sum(a > 0 for a in after)
            if kept < 6:
                axes.text(5.4, 0.9, f"{kept} left", ha="right", va="top", fontsize=9, color=CHANCE)
            axes.set_xticks(range(6), WORDS, rotation=60, fontsize=8)
            axes.tick_params(length=0)
            axes.grid(False)
            axes.set_ylim(0, 1)
    panels[0][0].set_ylabel("sure")
    panels[1][0].set_ylabel("unsure")
    return figure


def speculation() -> Figure:
    """Draft and target on four tokens: what is kept, thrown away and drawn instead; tokens a step."""
    figure, (left, right) = new_figure(11, 4.3, ncols=2, width_ratios=[1.35, 1])
    kept = torch.minimum(TARGET, PROPOSED)
    for i, (p, q) in enumerate(zip(TARGET.tolist(), PROPOSED.tolist(), strict=True)):
        bars(left, 2.3 * i, p, q)
    left.set(ylabel="probability", ylim=(0, 0.62))
    left.set_xticks([2.3 * i + 0.475 for i in range(4)], [f"token {i + 1}" for i in range(4)])
    left.tick_params(axis="x", length=0)
    left.grid(False, axis="x")
    left.text(0.0, 0.525, "draft q", color=DRAFT, fontsize=9, ha="center", fontweight="bold")
    left.text(3.3, 0.425, "what comes out = p", color=CHANCE, fontsize=9, ha="center", fontweight="bold")
    left.text(8.5, 0.58, f"light blue: accepted, {kept.sum():.1f} in all\nwhite: rejected, {1 - kept.sum():.1f}\n"
              f"purple: drawn instead, {1 - kept.sum():.1f}", fontsize=9, color=DARK, va="top", ha="right")  # fmt: skip
    a = np.linspace(0, 0.999, 200)
    for k, shade in ((2, 0.45), (4, 0.75), (8, 1.0)):
        right.plot(a, (1 - a ** (k + 1)) / (1 - a), color=tint(CHANCE, shade), linewidth=2.2)
        right.text(1.015, k + 1 - 0.02 * k, f"k = {k}", color=tint(CHANCE, shade), fontsize=9, va="center")
    at = (1 - 0.7**5) / 0.3
    right.plot(0.7, at, "o", color=DARK, zorder=4)
    right.text(0.68, at + 0.15, f"{at:.2f}", ha="right", fontsize=9)
    right.set(xlabel="chance a that a drafted token is accepted", ylabel="tokens a step of the large model",
              xlim=(0, 1.17), ylim=(0.8, 9.3))  # fmt: skip
    right.set_xticks([0, 0.25, 0.5, 0.75, 1])
    return figure


def bars(axes: Axes, x: float, p: float, q: float) -> None:
    """Draw the draft's bar, split into accepted and rejected, and beside it what comes out."""
    kept = min(p, q)
    axes.bar(x, kept, color=tint(DRAFT, 0.75), width=0.8)
    if q > p:
        axes.bar(x, q - p, bottom=p, color="white", edgecolor=DRAFT, hatch="////", width=0.8, linewidth=1)
    axes.bar(x + 0.95, kept, color=tint(DRAFT, 0.75), width=0.8)
    if p > q:
        axes.bar(x + 0.95, p - q, bottom=kept, color=CHANCE, width=0.8)
        axes.text(x + 0.95, kept + (p - q) / 2, f"{p - q:.1f}", ha="center", va="center", color="white", fontsize=9)
    for place, height in ((x, kept), (x + 0.95, kept)):
        axes.text(place, height / 2, f"{height:.1f}", ha="center", va="center", fontsize=9, color=DARK)
    if q > p:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(x, p + (q - p) / 2, f"{q - p:.1f}", ha="center", va="center", fontsize=9, color=DARK, bbox=box)
