"""Longer texts than in training: hands that never came round, their new speeds; and scores that stay bounded.
比训练时更长的文本：从没转满一圈的指针，它们的新转速；以及有界的分数。
"""

import numpy as np
import torch

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, tint, write
from chapter_09_efficient_attention.rope import linear_scaling, llama3_scaling
from chapter_10_llm_modern_components.figures import NORM, PLACE, QUERY
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge

SPEEDS = torch.tensor([1.0, 0.1, 0.01, 0.001])  # angles a place of the pairs of a head of 8 numbers
N_TRAINED, FACTOR = 1024, 4


def hands() -> Figure:
    """What each hand showed in training, and where it stands at place 4,096; wavelengths before and after."""
    figure, (left, right) = new_figure(11, 4.3, ncols=2, width_ratios=[1.15, 1])
    left.set(xlim=(-0.4, 12.4), ylim=(-0.6, 9.2), aspect="equal")
    left.set_axis_off()
    by_frequency = llama3_scaling(SPEEDS, FACTOR, 1.0, 4.0, N_TRAINED)
    rows = (("no change", SPEEDS), ("by frequency", by_frequency))
    for i, (name, speeds) in enumerate(rows):
        y = 6.2 - 4.4 * i
        write(left, 0.1, y, name, fontweight="bold", rotation=90)
        for j, speed in enumerate(speeds.tolist()):
            dial(left, 2.1 + 2.9 * j, y, speed, SPEEDS[j].item())
            if i == 0:
                write(left, 2.1 + 2.9 * j, 8.7, f"pair {j + 1}", color=PLACE, fontsize=9)
    write(left, 6.3, -0.4, f"shaded: seen in {N_TRAINED:,} places; hand: at place {FACTOR * N_TRAINED:,}", color=GREY,
          fontsize=8)  # fmt: skip
    pairs = np.arange(1, 5)
    for label, speeds, colour, style in (
        ("before", SPEEDS, GREY, "o-"),
        ("all slower (linear)", linear_scaling(SPEEDS, FACTOR), GREY, "s:"),
        ("by frequency", by_frequency, PLACE, "o-"),
    ):
        right.plot(pairs, (2 * np.pi / speeds).numpy(), style, color=colour, linewidth=2, label=label)
    for n, text in ((N_TRAINED, "trained on"), (FACTOR * N_TRAINED, "wanted")):
        right.axhline(n, color=DARK, linewidth=1, linestyle="--", zorder=0)
        right.text(0.85, n * 1.12, f"{text}: {n:,}", fontsize=8, color=DARK)
    right.set(yscale="log", xlabel="pair", ylabel="places a turn (wavelength)", xlim=(0.8, 4.2))
    right.set_xticks(pairs)
    right.set_yticks([10, 100, 1000, 10000], ["10", "100", "1,000", "10,000"])
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def dial(axes: Axes, x: float, y: float, speed: float, trained: float) -> None:
    """Draw a hand at the last place wanted, over the angles that it showed in training."""
    seen = min(np.degrees(trained * N_TRAINED), 360)
    angle = (speed * FACTOR * N_TRAINED) % (2 * np.pi)
    new = np.degrees(angle) > seen + 0.1
    axes.add_patch(Circle((x, y), 1.1, facecolor="white", edgecolor="0.7"))
    axes.add_patch(Wedge((x, y), 1.1, 0, seen, facecolor=tint(PLACE, 0.35), edgecolor="none"))
    tip = x + 1.1 * np.cos(angle), y + 1.1 * np.sin(angle)
    axes.plot([x, tip[0]], [y, tip[1]], color=DARK if new else PLACE, linewidth=2.6, solid_capstyle="round")
    text = "never seen" if new else f"{speed / trained:.2g} × speed" if speed < trained else ""
    write(axes, x, y - 1.5, text, color=DARK if new else PLACE, fontsize=8, fontweight="bold" if new else "normal")


def bounded() -> Figure:
    """The weight on the first of two keys as all vectors grow, with and without normed queries and keys."""
    figure, (left, right) = new_figure(9.6, 3.4, ncols=2)
    size = np.linspace(0.05, 6, 200)
    raw = size**2 / np.sqrt(2)
    normed = np.full_like(size, np.sqrt(2))
    for axes, turn in ((left, lambda s: s), (right, lambda s: 1 / (1 + np.exp(-s)))):
        axes.plot(size, turn(raw), color=QUERY, linewidth=2.2, label="raw")
        axes.plot(size, turn(normed), color=NORM, linewidth=2.2, label="queries and keys normed")
        axes.set_xlabel("length s of q = (s, 0), k₁ = (s, 0), k₂ = (0, s)")
    left.set_ylabel("score of k₁")
    right.set(ylabel="weight on k₁", ylim=(0.45, 1.03))
    left.legend(frameon=False, fontsize=9)
    for s in (1, 3):
        w = 1 / (1 + np.exp(-(s**2) / np.sqrt(2)))
        right.plot(s, w, "o", color=QUERY)
        right.text(s + 0.12, w - 0.035, f"{w:.3f}", color=QUERY, fontsize=9)
    right.text(4.6, 0.765, "0.804", color=NORM, fontsize=9)
    left.axhline(0, color="0.85", linewidth=1, zorder=0)
    return figure
