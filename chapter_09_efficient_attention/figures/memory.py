"""What a state remembers: the delta rule in the plane, recall against the number of pairs, and random features.
状态记得住什么：平面上的 delta 规则、回忆误差与键值对数目的关系，以及随机特征。
"""

import math

import torch
from torch import Tensor

from chapter_07_attention_mechanism.attention import scaled_dot_product_attention
from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow
from chapter_09_efficient_attention.figures import KEY, STATE, WEIGHT
from chapter_09_efficient_attention.linear import random_directions, random_features, recurrent_delta_rule
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

NEAR_KEYS, NEAR_VALUES = torch.tensor([[1.0, 0.0], [0.8, 0.6]]), torch.tensor([[10.0], [20.0]])
PAIRS = {"opposite": (-0.5, 0.0), "at right angles": (0.0, 0.5), "equal": (0.5, 0.0)}  # keys for the query (0.5, 0)
PAIR_COLOURS = [GREY, DARK, WEIGHT]


def delta_path(n_rounds: int) -> list[list[float]]:
    """Return the states (2) after each writing of the two pairs, again and again, with a rate of 1."""
    state, path, one = torch.zeros(2, 1), [[0.0, 0.0]], torch.ones(1, 1)
    for i in range(2 * n_rounds):
        k, v = NEAR_KEYS[i % 2 : i % 2 + 1], NEAR_VALUES[i % 2 : i % 2 + 1]  # (1, 2), (1, 1)
        state = recurrent_delta_rule(k, k, v, one, torch.zeros(1, 1), state)[1]
        path.append(state[:, 0].tolist())
    return path


def delta() -> Figure:
    """States as points, right answers as lines: adding misses both, the delta rule goes from line to line."""
    figure, axes = new_figure(7.6, 5.0)
    y = torch.tensor([-3.0, 26.0])
    axes.plot([10, 10], y, color=KEY, linewidth=2)
    axes.plot((20 - 0.6 * y) / 0.8, y, color=KEY, linewidth=2, linestyle="--")
    axes.text(9.5, 13, "answers 10\nto k₁ = (1, 0)", color=KEY, ha="right", va="center", fontsize=9)
    axes.text(25.6, 0.6, "answers 20\nto k₂ = (0.8, 0.6)", color=KEY, ha="left", va="center", fontsize=9)
    path = delta_path(5)
    for (start, end), width in zip(zip(path, path[1:], strict=False), [2.2, 2.2] + [1.2] * 8, strict=True):
        arrow(axes, tuple(start), tuple(end), STATE, width)
    for point, label, place, side in (
        (path[1], "first pair: (10, 0)", (9.5, -1.7), "right"),
        (path[2], "second pair:\n(19.6, 7.2)", (21.6, 6.4), "left"),
    ):
        axes.plot(*point, "o", color=STATE, markersize=8, zorder=5)
        axes.text(*place, label, color=STATE, fontsize=9, ha=side, va="center")
    axes.plot(10, 20, "*", color=DARK, markersize=15, zorder=6)
    axes.annotate("both right\n(10, 20)", (10, 20), xytext=(12, 4), textcoords="offset points", fontsize=9)
    total = (NEAR_KEYS * NEAR_VALUES).sum(dim=0).tolist()  # (2)
    arrow(axes, tuple(path[1]), tuple(total), GREY, 1.6)
    axes.plot(*total, "X", color=GREY, markersize=10, zorder=5)
    axes.annotate("added\n(26, 12)", total, xytext=(8, 0), textcoords="offset points", color=GREY, fontsize=9)
    axes.plot(0, 0, "o", color=DARK, markersize=5)
    axes.set(xlim=(-2, 32), ylim=(-3, 25.5), aspect="equal", xlabel="state, first number", ylabel="second number")
    return figure


def measure_recall(counts: list[int], width: int, n_trials: int, generator: torch.Generator) -> dict[str, list[float]]:
    """Return for each number of pairs the squared error of recall relative to |v|^2, mean over pairs and trials."""
    errors = {"sum": [], "delta": [], "softmax": []}
    for n in counts:
        k, v = (torch.randn(n_trials, n, width, generator=generator) for _ in range(2))
        k = k / k.norm(dim=-1, keepdim=True)
        ones, zeros = torch.ones(n_trials, n, 1), torch.zeros(n_trials, n, 1)
        answers = {
            "sum": k @ (k.mT @ v),  # (..., n, d) @ (..., d, d)
            "delta": k @ recurrent_delta_rule(k, k, v, ones, zeros)[1],
            "softmax": scaled_dot_product_attention(k, k, v, scale=float(width))[0],
        }
        for name, answer in answers.items():
            errors[name].append(((answer - v).square().sum() / v.square().sum()).item())
    return errors


def holds(counts: list[int], errors: dict[str, list[float]], width: int) -> Figure:
    """Error of recall against the number of pairs, and what the sum's should be."""
    figure, axes = new_figure(7.0, 4.0)
    axes.plot(counts, [(n - 1) / width for n in counts], "--", color=GREY, linewidth=1.2, label="(n − 1) / 32")
    ways = (("sum", "state, added", STATE, "o"), ("delta", "state, delta rule", DARK, "s"),
            ("softmax", "list, softmax", WEIGHT, "^"))  # fmt: skip
    for name, label, colour, marker in ways:
        axes.plot(counts, errors[name], marker + "-", color=colour, label=label, markersize=6)
    axes.axvline(width, color="0.85", linewidth=1)
    axes.text(width + 1, 1.86, "as many pairs\nas rows", color=GREY, fontsize=8, va="top")
    axes.set(xlabel="pairs of key and value", ylabel="error of recall / size of a value", ylim=(-0.05, 2.05))
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def measure_features(
    counts: list[int], n_draws: int, generator: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    """Return for each pair single estimates relative to the truth (200), and the relative error for m features."""
    q = torch.tensor([0.5, 0.0])
    singles, errors = {}, {}
    for name, key in PAIRS.items():
        k = torch.tensor(key)
        truth = (q @ k).exp()
        found = []
        for m in counts:
            directions = random_directions(m * n_draws, 2, orthogonal=False, generator=generator)
            products = random_features(q, directions) * random_features(k, directions) * len(directions)  # (m n_draws)
            found.append(products.view(n_draws, m).mean(dim=1) / truth)
        singles[name] = found[0][:200]
        errors[name] = [(estimate - 1).square().mean().sqrt().item() for estimate in found]
    return singles, errors


def features(counts: list[int], singles: dict[str, Tensor], errors: dict[str, list[float]]) -> Figure:
    """Estimates from one feature for three pairs; the error against the number of features, measured and derived."""
    figure, (left, right) = new_figure(10.4, 4.0, ncols=2)
    for i, values in enumerate(singles.values()):
        spread = torch.linspace(-0.3, 0.3, len(values))
        left.plot(i + spread, values, "o", color=PAIR_COLOURS[i], markersize=3, alpha=0.6)
    left.axhline(1, color=DARK, linewidth=1.2)
    left.text(-0.42, 1.06, "truth", fontsize=8)
    left.set_xticks(range(3), [f"{name}\nk = ({k[0]:g}, {k[1]:g})" for name, k in PAIRS.items()])
    left.set(yscale="log", ylabel="estimate / truth, one feature each")
    left.set_yticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    left.minorticks_off()
    feature_errors(right, counts, errors)
    return figure


def feature_errors(axes: Axes, counts: list[int], errors: dict[str, list[float]]) -> None:
    """Draw measured errors as points and derived ones as lines; that of opposite vectors is 0."""
    for (name, key), colour in list(zip(PAIRS.items(), PAIR_COLOURS, strict=True))[1:]:
        square = (0.5 + key[0]) ** 2 + key[1] ** 2
        derived = [math.sqrt((math.exp(square) - 1) / m) for m in counts]
        axes.plot(counts, derived, "-", color=colour, linewidth=1.2)
        axes.plot(counts, errors[name], "o", color=colour, markersize=6, label=name)
    axes.set(xscale="log", yscale="log", xlabel="random features m", ylabel="error / truth")
    axes.set_ylim(0.015, 1)
    axes.text(counts[0], 0.018, "opposite: 0 for every m", color=GREY, fontsize=8)
    axes.legend(frameon=False, fontsize=9)
