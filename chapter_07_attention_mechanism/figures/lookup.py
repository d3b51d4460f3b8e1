"""Why attention, and what it computes: the bottleneck, the soft lookup, scores, scale and temperature.
为什么需要注意力，它算的是什么：瓶颈、软查表、打分、缩放与温度。
"""

from itertools import product

import numpy as np
import torch
from torch import Tensor

from chapter_07_attention_mechanism.attention import AdditiveScore, masked_softmax, scaled_dot_product_attention
from chapter_07_attention_mechanism.figures.cells import (
    DARK,
    GREY,
    KEY,
    OTHERS,
    QUERY,
    VALUE,
    WEIGHT,
    arrow,
    blank,
    boxes,
    write,
)
from utils.plotting import new_figure

from matplotlib.figure import Figure

Q = torch.tensor([2.0, 1.0])
K = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -2.0]])
V = torch.tensor([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]])
TOKENS = ["der", "Hund", "bellt"]


def bottleneck() -> Figure:
    """Two sequences whose averaging reader ends in the same number, though on the way its states differ."""
    figure, axes = blank(8.2, 3.65, 12, 5.25)
    for row, inputs in enumerate(([8, 4, 6], [0, 8, 6])):
        y, state = 3.9 - 2.7 * row, 0.0
        for i, x in enumerate(inputs):
            left = 1.2 + 1.9 * i
            state = 0.5 * state + 0.5 * x
            boxes(axes, left, y + 0.75, [x], GREY)
            arrow(axes, (left + 0.4, y + 0.33), (left + 0.4, y - 0.15))
            boxes(axes, left, y - 0.6, [state], KEY)
            if i:
                arrow(axes, (left - 1.05, y - 0.6), (left - 0.05, y - 0.6), KEY)
        arrow(axes, (5.9, y - 0.6), (7.05, y - 0.6), DARK)
        boxes(axes, 7.2, y - 0.6, [state], KEY)
        boxes(axes, 9.3, y - 0.6, [state_at(inputs, t) for t in range(3)], KEY)
        write(axes, 0.5, y + 0.75, "reads", color=GREY)
        write(axes, 0.5, y - 0.6, "state", color=KEY)
    write(axes, 7.6, 4.65, "one vector:\nthe same", fontweight="bold")
    write(axes, 10.5, 4.65, "all states:\nnot the same", fontweight="bold")
    return figure


def state_at(inputs: list[float], t: int) -> float:
    """Return the state of the averaging reader h <- h/2 + x/2 after step t."""
    state = 0.0
    for x in inputs[: t + 1]:
        state = 0.5 * state + 0.5 * x
    return state


def lookup() -> Figure:
    """The lookup of the running example as a table, from the query to the mean."""
    scores = K @ Q
    output, weights = scaled_dot_product_attention(Q[None], K, V, scale=1.0)
    weights, output = weights[0], output[0]
    figure, axes = blank(9, 3.7, 14.4, 5.9)
    heads = [(1.0, ""), (2.9, "key"), (5.1, "score q·k"), (7.6, "weight"), (10.4, "value"), (12.9, "weight × value")]
    for x, text in heads:
        write(axes, x, 4.45, text, color=GREY)
    write(axes, 1.0, 5.3, "query", color=QUERY, fontweight="bold")
    boxes(axes, 2.1, 5.3, Q.tolist(), QUERY)
    for j, token in enumerate(TOKENS):
        y = 3.7 - j
        write(axes, 1.0, y, token, color=KEY, fontweight="bold")
        boxes(axes, 2.1, y, K[j].tolist(), KEY)
        boxes(axes, 4.7, y, [scores[j].item()], GREY)
        arrow(axes, (3.8, y), (4.6, y))
        arrow(axes, (5.6, y), (6.4, y))
        axes.barh(y, 2.4 * weights[j].item(), left=6.5, height=0.62, color=WEIGHT, alpha=0.85)
        write(axes, 6.6 + 2.4 * weights[j].item(), y, f"{weights[j]:.3f}", ha="left", color=WEIGHT)
        boxes(axes, 9.6, y, V[j].tolist(), VALUE)
        boxes(axes, 12.1, y, (weights[j] * V[j]).tolist(), WEIGHT, form="{:.2f}")
    axes.plot([11.9, 13.9], [1.12, 1.12], color=DARK, linewidth=1)
    write(axes, 10.9, 0.55, "context:", color=VALUE, fontweight="bold")
    boxes(axes, 12.1, 0.55, output.tolist(), VALUE, form="{:.2f}")
    return figure


def additive_example() -> AdditiveScore:
    """Return an additive score whose matrices are the identity and whose v is (1, 1)."""
    score = AdditiveScore(2, 2, 2)
    with torch.no_grad():
        for linear in (score.query, score.key):
            linear.weight.copy_(torch.eye(2))
        score.key.bias.zero_()
        score.v.weight.fill_(1.0)
    return score


@torch.no_grad()
def scores() -> Figure:
    """The score of every key of the plane for one query: a slope, and a terrace."""
    figure, panels = new_figure(9, 3.9, ncols=2)
    axis = torch.linspace(-3, 3, 121)
    plane = torch.cartesian_prod(axis, axis)  # (N, 2)
    additive = additive_example()
    ways = [  # title, score, the largest size of one
        ("dot product: q · k", lambda keys: keys @ Q, 9),
        ("additive: v · tanh(q + k)", lambda keys: additive(Q[None, None], additive.prepare(keys[None]))[0, 0], 2),
    ]
    for axes, (title, score, largest) in zip(panels, ways, strict=True):
        values = score(plane).view(121, 121).T
        image = axes.contourf(axis, axis, values, levels=20, cmap="Greys", vmin=-largest, vmax=3 * largest)
        figure.colorbar(image, ax=axes, shrink=0.85, label="score")
        axes.arrow(0, 0, *Q.tolist(), color=QUERY, width=0.04, head_width=0.2, length_includes_head=True)
        axes.text(2.05, 1.15, "q", color=QUERY, fontsize=12, fontweight="bold")
        for (x, y), value, token in zip(K.tolist(), score(K).tolist(), TOKENS, strict=True):
            axes.plot(x, y, "o", color=KEY, markeredgecolor="white", markersize=8)
            label = {"fontsize": 9, "bbox": {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1}}
            axes.text(x, y - 0.25, f"{token}: {value:.2f}", color=KEY, ha="center", va="top", **label)
        axes.set(title=title, xlabel="first number of the key", ylabel="second number", aspect="equal")
        axes.grid(False)
    return figure


def scaling(widths: list[int], count: int = 2000, n_keys: int = 8) -> tuple[Figure, dict[str, list[float]]]:
    """How dot products spread with the width, and what becomes of the largest of eight weights."""
    generator = torch.Generator().manual_seed(0)
    largest = {"raw": [], "scaled": []}
    for d in widths:
        q = torch.randn(count, 1, d, generator=generator)
        k = torch.randn(count, n_keys, d, generator=generator)
        for name, scale in (("raw", 1.0), ("scaled", None)):
            weights = scaled_dot_product_attention(q, k, k, scale=scale)[1]  # (count, 1, n_keys)
            largest[name].append(weights.max(dim=-1).values.mean().item())
    figure, (left, right) = new_figure(9, 3.4, ncols=2)
    products = [sum(signs) for signs in product([-1, 1], repeat=4)]  # q_i k_i is 1 or -1: 16 equally likely cases
    values, counts = np.unique(products, return_counts=True)
    left.bar(values, counts, width=0.9, color=GREY)
    for value, many in zip(values, counts, strict=True):
        left.text(value, many + 0.1, f"{many} of 16", ha="center", fontsize=9)
    left.set(xlabel="q · k of vectors of four signs", ylabel="cases", ylim=(0, 7.2), xticks=values)
    left.annotate("", (2, 6.75), (-2, 6.75), arrowprops={"arrowstyle": "<->", "color": DARK})
    left.text(0, 6.85, "−√4 to √4", ha="center", fontsize=9)
    right.plot(widths, largest["raw"], "o-", color=OTHERS[0], label="softmax(q · k)")
    right.plot(widths, largest["scaled"], "o-", color=WEIGHT, label="softmax(q · k / √d)")
    right.axhline(1 / n_keys, color=GREY, linestyle="--", linewidth=1)
    right.text(widths[0], 1 / n_keys - 0.055, "equal weights", fontsize=8, color=GREY)
    right.set_xscale("log", base=2)
    right.set_xticks(widths, map(str, widths))
    right.set(xlabel="width d", ylabel=f"largest of {n_keys} weights, on average", ylim=(0, 1.02))
    right.legend(frameon=False, fontsize=9, loc="center right")
    return figure, largest


def temperature(values: Tensor, taus: list[float]) -> Figure:
    """Softmax of the same scores at several temperatures, with the entropy of each."""
    figure, panels = new_figure(9, 2.9, ncols=len(taus), sharey=True)
    for axes, tau in zip(panels, taus, strict=True):
        weights = masked_softmax(values / tau)
        entropy = torch.special.entr(weights).sum().item()
        axes.bar(range(len(values)), weights.tolist(), color=WEIGHT, alpha=0.85)
        for j, weight in enumerate(weights.tolist()):
            axes.text(j, weight + 0.02, f"{weight:.3f}", ha="center", fontsize=9, color=WEIGHT)
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values.tolist()])
        axes.set(title=f"temperature {tau:g}: entropy {entropy:.2f} nats", xlabel="score", ylim=(0, 1.12))
        axes.title.set_fontsize(9)
    panels[0].set_ylabel("weight")
    return figure
