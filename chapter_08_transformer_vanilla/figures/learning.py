"""What is learned from, and how: norms and gradients, pieces, forcing, smoothed labels, rates, lengths, tied weights.
学什么、怎么学：归一化与梯度、片段、教师强制、平滑标签、学习率、长度与权重共享。
"""

from math import log

import torch
import torch.nn.functional as F

from chapter_03_optimization_regularization.optimizers.schedules import cosine, inverse_sqrt, warmup
from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, blank, boxes, tint, write
from chapter_07_attention_mechanism.vocab import merge_pair
from chapter_08_transformer_vanilla.figures import NORM, READ, TALK, WRITTEN
from chapter_08_transformer_vanilla.figures.structure import block, plus
from chapter_08_transformer_vanilla.tokenizer import learn_merges_by_definition
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

CORPUS = {"hund": 5, "hunde": 3, "bund": 2, "bunt": 1}
EMBEDDINGS = {"dog": [2.0, 1.0], "cat": [2.0, -1.0], "runs": [-1.0, 2.0], "the": [-1.0, -1.0]}
HIDDEN = [1.0, 1.0]
HYPOTHESES = {"a dog": 0.5, "a dog barks loudly": 0.7}  # and the probability of each of its words


def norms(gradients: dict[str, list[float]], changes: dict[str, dict[int, float]], lr: float) -> Figure:
    """Where norms stand; the gradient all along the stream; how far one step of Adam moves the output.

    Args:
        gradients: for "pre" and "post", from what enters the first layer to what leaves the last; "pre_straight" and
            "post_straight" without those that come through branches.
        changes: for "pre" and "post", by the number of layers, relative to the output.
    """
    figure, (left, middle, right) = new_figure(11, 3.7, ncols=3, width_ratios=[1.05, 1, 1])
    left.set(xlim=(0, 8), ylim=(0.2, 7.3), aspect="equal")
    left.set_axis_off()
    for x, name in ((2.4, "post"), (6.6, "pre")):
        branch(left, x, name)
    for name, style in (("post", "--"), ("pre", "-")):
        row = gradients[name]
        middle.plot(range(len(row)), row, style, marker="o", markersize=3, color=NORM, label=f"{name}-norm")
        straight = gradients[f"{name}_straight"]
        middle.plot(range(len(row)), straight, style, color="0.6", label=f"{name}-norm, stream alone")
        depths = list(changes[name])
        right.plot(depths, list(changes[name].values()), style, marker="o", color=NORM, label=f"{name}-norm")
    middle.set(xlabel="layers passed (0: the input)", ylabel="norm of the gradient", ylim=(0, None))
    right.set(xlabel="layers", ylabel="relative change of the output", ylim=(0, None))
    right.set_xscale("log", base=2)
    right.set_xticks(depths, [str(depth) for depth in depths])
    middle.set_title(f"{len(row) - 1} layers, before the first step", fontsize=9)
    right.set_title(f"one step of Adam at a rate of {lr:g}", fontsize=9)
    for axes in (middle, right):
        axes.legend(frameon=False, fontsize=8)
    return figure


def branch(axes: Axes, x: float, name: str) -> None:
    """Draw a branch beside the stream, its norm before it or behind the sum."""
    write(axes, x - 0.6, 7.0, f"{name}-norm", fontweight="bold")
    axes.plot([x, x], [0.5, 6.3], color="0.75", linewidth=4, zorder=1)
    arrow(axes, (x, 6.2), (x, 6.55), "0.6", 3)
    axes.plot([x, x - 1.5, x - 1.5, x - 0.2], [1.0, 1.0, 4.4, 4.4], color=TALK, linewidth=1)
    if name == "pre":
        block(axes, x - 1.5, 1.9, 1.5, 0.6, "norm", NORM)
    block(axes, x - 1.5, 3.2, 1.5, 0.7, "branch f", TALK)
    plus(axes, x, 4.4)
    if name == "post":
        block(axes, x, 5.4, 1.5, 0.6, "norm", NORM, zorder=5)


def pieces(n_merges: int = 4) -> Figure:
    """Byte-pair encoding by hand: the corpus after each merge, the new piece filled."""
    merges = learn_merges_by_definition(CORPUS, n_merges)
    figure, axes = blank(10.5, 2.9, 21, 5.7)
    words = {word: tuple(word) for word in CORPUS}
    for column in range(n_merges + 1):
        left = 1.9 + 3.9 * column
        if column:
            pair = merges[column - 1]
            count = sum(
                CORPUS[word] * sum(both == pair for both in zip(parts, parts[1:], strict=False))
                for word, parts in words.items()
            )
            words = {word: merge_pair(parts, pair) for word, parts in words.items()}
            write(axes, left + 1.4, 5.3, f"{pair[0]} + {pair[1]}", fontweight="bold", fontsize=9)
            write(axes, left + 1.4, 4.75, f"stands {count} times", color=GREY, fontsize=8)
        else:
            write(axes, left + 1.4, 5.3, "characters", fontweight="bold")
        for row, (word, parts) in enumerate(words.items()):
            y, x = 3.9 - 1.0 * row, left
            if not column:
                write(axes, 0.8, y, f"{CORPUS[word]} ×", color=GREY)
            for part in parts:
                new = column and part == "".join(merges[column - 1])
                width = 0.62 * len(part)
                face, edge = (READ, READ) if new else (tint(READ), READ)
                corner = (x + 0.03, y - 0.36)
                axes.add_patch(Rectangle(corner, width - 0.06, 0.72, facecolor=face, edgecolor=edge))
                write(axes, x + width / 2, y, part, color="white" if new else DARK, fontsize=9)
                x += width
    return figure


def forcing() -> Figure:
    """Training gives the right words, writing the model's own; and how the share of right words falls."""
    figure, (left, right) = new_figure(10.5, 3.5, ncols=2, width_ratios=[1.9, 1])
    left.set(xlim=(0, 17), ylim=(0, 7.4))
    left.set_axis_off()
    rows = [
        (5.5, "training", ["<bos>", "a", "dog", "barks"], ["a", "cat", "barks", "<eos>"]),
        (1.7, "writing", ["<bos>", "a", "cat", "meows"], ["a", "cat", "meows", "<eos>"]),
    ]
    for y, name, given, said in rows:
        write(left, 0.2, y, name, fontweight="bold", ha="left")
        for i, (token, answer) in enumerate(zip(given, said, strict=True)):
            x = 4.4 + 3.1 * i
            arrow(left, (x, y - 0.1), (x, y + 0.45))
            for word, height, colour in ((token, y - 0.6, WRITTEN), (answer, y + 0.95, GREY)):
                block(left, x, height, 2.2, 0.9, word, colour, color="#B00020" if word in ("cat", "meows") else DARK)
            if name == "writing" and i < 3:
                arrow(left, (x + 1.1, y + 0.9), (x + 2.1, y - 0.3), WRITTEN, 1.3)
        write(left, 2.6, y + 0.95, "says", color=GREY, fontsize=8)
        write(left, 2.6, y - 0.6, "is given", color=WRITTEN, fontsize=8)
    left.set_title("the reference is: a dog barks (red: wrong)", fontsize=9)
    for recover, style in ((0.95, "-"), (0.7, "--"), (0.0, ":")):
        shares = [1.0]
        for _ in range(20):
            shares.append(0.95 * shares[-1] + recover * (1 - shares[-1]))
        right.plot(shares, style, color=WRITTEN, label=f"{recover:g} right after a slip")
    right.set(xlabel="word", ylabel="share of right words", ylim=(0, 1.02))
    right.legend(frameon=False, fontsize=8)
    right.set_title("0.95 right after a right word", fontsize=9)
    return figure


def smoothing(share: float = 0.1, n_tokens: int = 4) -> Figure:
    """Labels, smoothed labels, and the loss against the lead of the right logit, with and without smoothing."""
    figure, (left, right) = new_figure(9.5, 3.1, ncols=2, width_ratios=[1, 1.5])
    label = F.one_hot(torch.tensor(0), n_tokens).double()
    target = (1 - share) * label + share / n_tokens
    ticks = torch.arange(n_tokens)
    left.bar(ticks - 0.2, label, width=0.36, color="0.8", label="label")
    bars = left.bar(ticks + 0.2, target, width=0.36, color=WRITTEN, label="smoothed")
    left.bar_label(bars, fmt="%.3f", fontsize=8)
    left.set_xticks(ticks, ["dog", "cat", "runs", "the"])
    left.set(ylabel="wanted probability", ylim=(0, 1.15))
    left.legend(frameon=False, fontsize=8)
    leads = torch.linspace(0, 10, 201, dtype=torch.float64)
    logits = leads[:, None] * label  # (201, 1) * (V,) -> (201, V)
    for smoothed, colour, name in ((0.0, "0.6", "label"), (share, WRITTEN, "smoothed")):
        goals = torch.zeros(len(leads), dtype=torch.long)
        losses = F.cross_entropy(logits, goals, label_smoothing=smoothed, reduction="none")  # (201,)
        right.plot(leads, losses, color=colour, label=name, linewidth=2)
    best = log(target[0] / target[1])
    lowest = -(target * target.log()).sum().item()
    right.plot(best, lowest, "o", color=WRITTEN)
    right.annotate(
        f"lead {best:.2f}, loss {lowest:.2f}",
        (best, lowest),
        (best + 0.3, lowest + 0.4),
        color=WRITTEN,
        arrowprops={"arrowstyle": "-", "color": WRITTEN},
    )
    right.set(xlabel="lead of the right logit over the others", ylabel="loss (nats)", ylim=(0, None))
    right.legend(frameon=False, fontsize=8)
    return figure


def schedules(max_steps: int = 5000, share: float = 0.05) -> Figure:
    """The Transformer's first schedule beside warmup and cosine, each as a share of its peak."""
    figure, axes = new_figure(6.4, 2.9)
    steps = range(max_steps)
    early = round(share * max_steps)
    first = warmup(inverse_sqrt(early), early - 1)  # step 0 gets 1 / early
    ours = warmup(cosine(max_steps - early), early)
    axes.plot(steps, [first(step) for step in steps], color="0.6", label="Noam: 1 / √t after warmup")
    axes.plot(steps, [ours(step) for step in steps], color=DARK, label="ours: half a cosine after warmup")
    axes.axvline(early, color=GREY, linewidth=1, linestyle=":")
    axes.text(early + 40, 0.02, f"warmup: {early} steps", color=GREY, fontsize=8)
    axes.set(xlabel="step", ylabel="rate / peak rate", ylim=(0, 1.05))
    axes.legend(frameon=False, fontsize=8)
    return figure


def lengths() -> Figure:
    """Two hypotheses: their log-probabilities word by word, and what is left after dividing by the length's power."""
    figure, (left, right) = new_figure(9.5, 3.0, ncols=2, width_ratios=[1.5, 1])
    for i, (words, p) in enumerate(HYPOTHESES.items()):
        n, colour = len(words.split()), ("0.6", WRITTEN)[i]
        totals = [k * log(p) for k in range(n + 1)]
        left.plot(range(n + 1), totals, "o-", color=colour, label=f"{words}: {p:g} a word")
        left.annotate(
            f"{totals[-1]:.3f}", (n, totals[-1]), (8, 2 if i else -10), textcoords="offset points", color=colour
        )
        score = totals[-1] / ((5 + n) / 6)
        bar = right.bar(words.replace("barks", "\nbarks"), score, color=colour, width=0.6)
        right.bar_label(bar, [f"{score:.3f}"], fontsize=9, padding=2)
    left.set(xlabel="words", ylabel="log-probability (nats)", xlim=(-0.2, 4.9), ylim=(-1.7, 0.08))
    left.set_xticks(range(5))
    left.legend(frameon=False, fontsize=8, loc="lower left")
    right.set(ylabel="divided by (5 + L) / 6", ylim=(-1.45, 0))
    return figure


def tying() -> Figure:
    """One table of vectors for both ends: a token's own vector going in, and the score of each going out."""
    table, hidden = torch.tensor(list(EMBEDDINGS.values())), torch.tensor(HIDDEN)
    scores = table @ hidden  # (V, D) @ (D,) -> (V,)
    p = scores.softmax(dim=0)
    figure, axes = blank(9.5, 3.5, 16, 5.9)
    write(axes, 7.2, 5.5, "one table E", fontweight="bold", color=READ)
    write(axes, 2.3, 5.5, "going in: look up a row", color=READ)
    write(axes, 12.0, 5.5, "coming out: E h", color=WRITTEN)
    write(axes, 1.2, 3.9, "dog", color=READ, fontweight="bold")
    write(axes, 3.5, 4.25, "is read as (2, 1)", color=READ, fontsize=8)
    arrow(axes, (1.9, 3.9), (5.1, 3.9), READ, 1.5)
    for i, (token, row) in enumerate(EMBEDDINGS.items()):
        y = 3.9 - 1.0 * i
        write(axes, 5.7, y, token, color=READ)
        boxes(axes, 6.4, y, row, READ)
        boxes(axes, 11.0, y, [scores[i].item()], WRITTEN)
        axes.add_patch(Rectangle((12.6, y - 0.25), 2.4 * p[i].item(), 0.5, color=WRITTEN, alpha=0.8))
        write(axes, 12.75 + 2.4 * p[i].item(), y, f"{p[i]:.3f}", ha="left", fontsize=8)
        arrow(axes, (8.15, y), (10.85, y), WRITTEN, 0.9)
    write(axes, 9.5, 4.95, "h = (1, 1)", color=WRITTEN, fontweight="bold")
    write(axes, 11.4, 4.6, "score", color=GREY, fontsize=8)
    write(axes, 13.4, 4.6, "softmax", color=GREY, fontsize=8)
    return figure
