"""Who looks at whom: masks, heads, self- and cross-attention, what it costs, and what weights do not tell.
谁看谁：掩码、多头、自注意力与交叉注意力、开销，以及权重说明不了什么。
"""

import torch
from torch import Tensor

from chapter_07_attention_mechanism.attention import (
    causal_mask,
    local_mask,
    masked_softmax,
    scaled_dot_product_attention,
)
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
    weight_grid,
    write,
)
from utils.plotting import new_figure

from matplotlib.figure import Figure

THINGS = {"red disc": [2, 0, 2, 0], "blue star": [0, 2, 0, 2], "red star": [2, 0, 0, 2]}  # red, blue, disc, star


def masks(scores: Tensor, masks: dict[str, Tensor], names: list[str]) -> Figure:
    """Draw the weights (T, S) that the same scores (T, S) become under each mask."""
    columns = (len(masks) + 1) // 2
    figure, panels = new_figure(2.6 * columns, 5.2, nrows=2, ncols=columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, (title, mask) in zip(panels.flat, masks.items(), strict=False):
        axes.set_axis_on()
        allowed = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
        allowed = (allowed if allowed.dtype == torch.bool else allowed > -torch.inf).expand_as(scores)
        weights = masked_softmax(scores, mask).masked_fill(~allowed, torch.nan)
        weight_grid(axes, weights, names, names, title=title)
        for t, s in torch.nonzero(~allowed).tolist():
            axes.plot([s - 0.5, s + 0.5], [t + 0.5, t - 0.5], color="0.8", linewidth=0.8)
    return figure


def heads() -> Figure:
    """One head over all four numbers beside two heads over two each: colour and shape."""
    x = torch.tensor(list(THINGS.values()), dtype=torch.float32)  # (3, 4)
    names = [name.replace(" ", "\n") for name in THINGS]
    figure, panels = new_figure(9.5, 2.85, ncols=4, width_ratios=[1.25, 1, 1, 1])
    left, *panels = panels
    left.set(xlim=(-1.7, 4.1), ylim=(-0.7, 3.6), aspect="equal")
    left.set_axis_off()
    for j, (name, numbers) in enumerate(THINGS.items()):
        y = 2 - j
        write(left, -0.85, y, name, color=KEY)
        boxes(left, 0, y, numbers[:2], OTHERS[0])
        boxes(left, 2, y, numbers[2:], OTHERS[2])
    for i, word in enumerate(("red", "blue", "disc", "star")):
        write(left, 0.4 + 0.8 * i + (0.4 if i > 1 else 0), 2.65, word, fontsize=8)
    write(left, 0.8, 3.2, "head 1", color=OTHERS[0], fontweight="bold")
    write(left, 2.8, 3.2, "head 2", color=OTHERS[2], fontweight="bold")
    parts = {"one head, all four numbers": x, "head 1: colour": x[:, :2], "head 2: shape": x[:, 2:]}
    for axes, (title, part) in zip(panels, parts.items(), strict=True):
        weight_grid(axes, scaled_dot_product_attention(part, part, part)[1], names, names, title=title)
    return figure


def self_and_cross() -> Figure:
    """Arrows from keys to queries: of one sequence, of one sequence that may not look ahead, of two."""
    figure, panels = new_figure(9, 2.5, ncols=3)
    words, others = ["der", "Hund", "bellt"], ["the", "dog"]
    cases = [
        ("self-attention", words, words, torch.ones(3, 3, dtype=torch.bool)),
        ("causal self-attention", words, words, causal_mask(3)),
        ("cross-attention", words, others, torch.ones(2, 3, dtype=torch.bool)),
    ]
    for axes, (title, below, above, mask) in zip(panels, cases, strict=True):
        axes.set(xlim=(-0.6, 2.6), ylim=(-0.35, 1.35), title=title)
        axes.set_axis_off()
        shift = (len(below) - len(above)) / 2
        for s, word in enumerate(below):
            write(axes, s, -0.15, word, color=KEY, fontweight="bold")
        for t, word in enumerate(above):
            write(axes, t + shift, 1.15, word, color=QUERY, fontweight="bold")
            for s in range(len(below)):
                if mask[t, s]:
                    arrow(axes, (s, 0.0), (t + shift, 1.0), WEIGHT)
        write(axes, -0.55, 0.5, f"{len(above)} × {len(below)}\nweights", color=GREY, fontsize=8)
    return figure


def sorting(numbers: list[int]) -> Figure:
    """The two lookups that sort a list, as tables: which places hold the last number, and which one comes next.

    What has been written is counted against what was read: the mean of their values is 0 when nothing is left.
    """
    written = [-1, *sorted(numbers)]  # -1 stands for the sign
    tokens = torch.tensor([torch.inf, *numbers, *written])  # infinity stands for BOS
    values = torch.tensor([0.0] + [1.0] * len(numbers) + [-1.0] * len(written))
    last = torch.tensor(written)[:, None]  # (T, 1)
    seen = causal_mask(len(written), len(tokens))  # (T, S): of what is written, no more than there is so far
    same = masked_softmax(9.0 * (tokens == last), seen & (values != 0))  # (T, S)
    rank = torch.where(tokens == torch.inf, -200.0, torch.where(tokens > last, -3 * tokens, -400.0))  # (T, S)
    following = masked_softmax(rank, seen & (values >= 0))
    names = ["bos", *map(str, numbers), "sort", *map(str, sorted(numbers))]
    answers = [f"{name} →" for name in names[len(numbers) + 1 :]]
    figure, panels = new_figure(10.5, 2.9, ncols=2)
    for axes, weights, title in (
        (panels[0], same, "which places hold my number?"),
        (panels[1], following, "which number is the next greater one?"),
    ):
        weight_grid(axes, weights.masked_fill(~seen, torch.nan), answers, names)
        axes.axvline(len(numbers) + 0.5, color=GREY, linewidth=1)
        axes.set_xlabel(title, fontsize=10)
    end = len(names) - 0.3  # behind the last column
    write(panels[0], end, -0.85, "mean of\nthe values", ha="left", color=VALUE, fontsize=8)
    for t, mean in enumerate((same @ values).tolist()):
        write(panels[0], end, t, f"{mean:.2f}".replace("-0.00", "0.00"), ha="left", color=VALUE)
    for s, value in enumerate(values.tolist()):
        write(panels[0], s, -1.1, {1: "1", -1: "−1", 0: ""}[value], color=VALUE, fontsize=8)
    return figure


def cost(lengths: list[int], window: int = 8) -> Figure:
    """Who looks at whom among eight tokens, counted; and how the count grows with the length."""
    figure, panels = new_figure(10, 2.9, ncols=4, width_ratios=[1, 1, 1, 1.5])
    everyone = torch.ones(8, 8, dtype=torch.bool)
    for axes, (title, mask) in zip(
        panels, {"full": everyone, "causal": causal_mask(8), "window of 1": local_mask(8, 1)}.items(), strict=False
    ):
        weight_grid(axes, 0.55 * mask, [""] * 8, [""] * 8, form=None, title=f"{title}: {int(mask.sum())} scores")
        axes.set(xlabel="keys", ylabel="queries")
        axes.xaxis.label.set_color(KEY)
        axes.yaxis.label.set_color(QUERY)
    counts = {
        "full": [t * t for t in lengths],
        "causal": [t * (t + 1) // 2 for t in lengths],
        f"window of {window}": [int(local_mask(t, window).sum()) for t in lengths],
    }
    for (label, values), colour in zip(counts.items(), (WEIGHT, OTHERS[0], OTHERS[1]), strict=True):
        panels[3].plot(lengths, values, "o-", markersize=3, color=colour, label=label)
    panels[3].set_xscale("log", base=2)
    panels[3].set_xticks(lengths, map(str, lengths), fontsize=8)
    panels[3].set(yscale="log", xlabel="length (tokens)", ylabel="scores")
    panels[3].legend(frameon=False, fontsize=8)
    return figure


def explanation() -> Figure:
    """Two sets of weights that share no token, and the same output from both."""
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    output = weights @ values  # (2, 3) @ (3, 2) -> (2, 2)
    figure, axes = blank(7, 2.7, 11, 4.3)
    for j, name in enumerate(("token 1", "token 2", "token 3")):
        y = 3.0 - j
        write(axes, 0.8, y, name, color=KEY)
        boxes(axes, 1.7, y, values[j].tolist(), VALUE)
    write(axes, 2.5, 3.9, "values", color=VALUE)
    for i, (title, colour) in enumerate((("weights A", WEIGHT), ("weights B", WEIGHT))):
        x = 4.4 + 1.8 * i
        write(axes, x + 0.4, 3.9, title, color=colour)
        for j in range(3):
            boxes(axes, x, 3.0 - j, [weights[i, j].item()], colour)
    for i in range(2):
        y = 2.6 - 1.2 * i
        boxes(axes, 8.9, y, output[i].tolist(), VALUE)
    write(axes, 9.7, 3.9, "output", color=VALUE)
    write(axes, 9.7, 3.3, "from A", fontsize=8, color=DARK)
    write(axes, 9.7, 0.75, "from B", fontsize=8, color=DARK)
    return figure
