"""Learning from rewards: comparisons, groups of answers, the best policy, a teacher's doubts; curves of trainings.
从奖励中学习：两两比较、一组回答、最优策略、教师的犹豫；以及训练曲线。
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, tint
from chapter_10_llm_modern_components.alignment import bradley_terry_loss, group_advantages
from chapter_10_llm_modern_components.figures import CHANCE, LEARNED, REWARD
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

ANSWERS = [1.0, 0.0, 0.0, 0.0]  # rewards of four answers to one question
REFERENCE, FACTORS = [0.2, 0.5, 0.3], [4.0, 1.0, 1.0]  # of three answers, and the exponentials of reward / beta
LOGITS = [4.0, 2.0, 0.0]
LABELS = {  # of the columns of a history
    "reward": "share of right answers",
    "length": "tokens an answer",
    "mixed_groups": "share of groups with both",
    "entropy": "entropy (nats a token)",
    "kl": "KL to the reference (nats)",
    "score": "judge's score (log-odds)",
    "pair_accuracy": "pair accuracy",
    "chosen_gain": "gain of chosen answers (nats)",
    "rejected_gain": "gain of rejected answers (nats)",
    "loss": "loss (nats)",
}


def bradley_terry() -> Figure:
    """The chance that the first answer wins, and the loss if it does, against the difference of rewards."""
    figure, (left, right) = new_figure(9, 3.4, ncols=2)
    gaps = np.linspace(-4, 4, 161)
    left.plot(gaps, 1 / (1 + np.exp(-gaps)), color=CHANCE, linewidth=2.2)
    losses = [bradley_terry_loss(torch.tensor([gap]), torch.zeros(1)).item() for gap in gaps.tolist()]
    right.plot(gaps, losses, color=LEARNED, linewidth=2.2)
    for gap in (0.0, 1.0):
        chance = 1 / (1 + math.exp(-gap))
        mark(left, gap, chance, CHANCE, below=True)
        mark(right, gap, -math.log(chance), LEARNED, below=False)
    left.set(xlabel="difference of rewards", ylabel="chance that the first wins", ylim=(-0.05, 1.05))
    right.set(xlabel="difference of rewards", ylabel="loss, if it wins (nats)", ylim=(-0.1, 4.2))
    return figure


def mark(axes: Axes, x: float, y: float, colour: str, below: bool) -> None:
    """Put a dot on a curve, and its height to the right, on the side where the curve does not go on."""
    place = (6, -12) if below else (6, 5)
    axes.plot(x, y, "o", color=colour)
    axes.annotate(f"{y:.3f}", (x, y), xytext=place, textcoords="offset points", fontsize=9, color=DARK)


def groups() -> Figure:
    """The advantages of four answers to a question, one of them right; and the same divided by their spread."""
    figure, panels = new_figure(8, 3.2, ncols=2, sharey=True)
    rewards = torch.tensor([ANSWERS])
    for axes, divide, title in zip(panels, (False, True), ("less the mean", "divided by the spread"), strict=True):
        advantages = group_advantages(rewards, divide)[0].tolist()
        axes.bar(range(4), advantages, color=[REWARD if a > 0 else tint(REWARD, 0.4) for a in advantages], width=0.7)
        for i, a in enumerate(advantages):
            text = f"{a:+.2f}".replace("-", "−")
            axes.text(i, a + (0.06 if a > 0 else -0.06), text, ha="center", va="bottom" if a > 0 else "top", fontsize=9)
        names = [f"answer {i + 1}\nreward {reward:g}" for i, reward in enumerate(ANSWERS)]
        axes.set_xticks(range(4), names, fontsize=8)
        axes.set(title=title, ylim=(-1.0, 2.1))
        axes.axhline(0, color=GREY, linewidth=1)
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
    panels[0].set_ylabel("advantage")
    return figure


def tilt() -> Figure:
    """Three answers: what the reference gives them, that times the exponential of the reward, and the best policy."""
    figure, panels = new_figure(9, 3.1, ncols=3, sharey=True)
    products = [p * factor for p, factor in zip(REFERENCE, FACTORS, strict=True)]
    best = [product / sum(products) for product in products]
    titles = ("reference", "times exp(r / β)", f"divided by Z = {sum(products):g}: best policy")
    for axes, values, title in zip(panels, (REFERENCE, products, best), titles, strict=True):
        axes.bar(range(3), values, color=[REWARD, tint(CHANCE, 0.6), tint(CHANCE, 0.6)], width=0.7)
        for i, value in enumerate(values):
            axes.text(i, value + 0.02, f"{round(value, 2):g}", ha="center", fontsize=9)
        axes.set_xticks(range(3), [f"answer {i + 1}" for i in range(3)], fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 0.92)
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
    panels[0].set_ylabel("probability")
    return figure


def doubts() -> Figure:
    """A teacher's probabilities for three tokens at temperatures 1 and 2."""
    figure, panels = new_figure(6.5, 3, ncols=2, sharey=True)
    for axes, temperature in zip(panels, (1, 2), strict=True):
        p = (torch.tensor(LOGITS) / temperature).softmax(dim=0).tolist()
        axes.bar(range(3), p, color=CHANCE, alpha=0.85, width=0.7)
        for i, value in enumerate(p):
            axes.text(i, value + 0.02, f"{value:.3f}", ha="center", fontsize=9)
        axes.set_xticks(range(3), [f"logit {z:g}" for z in LOGITS], fontsize=9)
        axes.set(title=f"temperature {temperature}", ylim=(0, 1))
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
    panels[0].set_ylabel("probability")
    return figure


def training_curves(histories: dict[str, list[dict]], columns: Sequence[str]) -> Figure:
    """Draw columns of trainings' histories against the step, a panel a column and a colour a training.

    Beside the faint values themselves stands the mean of each with the eight before it.
    """
    n_rows = math.ceil(len(columns) / 3)
    n_columns = math.ceil(len(columns) / n_rows)
    figure, panels = new_figure(3.4 * n_columns, 3 * n_rows, nrows=n_rows, ncols=n_columns, squeeze=False)
    for axes in panels.flat[len(columns) :]:
        axes.set_axis_off()
    for axes, column in zip(panels.flat, columns, strict=False):
        for (name, rows), colour in zip(histories.items(), COLOURS * len(histories), strict=False):
            steps, values = [row["step"] for row in rows], [row[column] for row in rows]
            smooth = [sum(part) / len(part) for part in (values[max(0, i - 8) : i + 1] for i in range(len(values)))]
            axes.plot(steps, values, color=tint(colour, 0.35), linewidth=0.8)
            axes.plot(steps, smooth, color=colour, linewidth=2, label=name)
        axes.set(xlabel="step", ylabel=LABELS[column])
    for text in panels[0, 0].legend(frameon=False, fontsize=8).get_texts():
        text.set_parse_math(False)  # a file's name is no formula
    return figure
