"""Encoder, decoder or both: who sees whom, what a position is asked, and how a sentence appears out of masks.
编码器、解码器或两者都要：谁看得见谁，每个位置要回答什么，句子怎样从掩码里显现。
"""

from collections import Counter
from math import exp

import torch

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, blank, tint, weight_grid, write
from chapter_08_transformer_vanilla.figures import READ, WRITTEN
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

PAIR = ["Ein", "Hund", "bellt", "a", "dog", "barks"]
N_READ = 3  # of them
NATS = {"a": [1.1], " dog": [0.2, 1.6, 0.3, 0.1], " barks": [0.3, 1.9, 0.5, 0.4, 0.1, 0.1]}  # for each character
SENTENCE = "an old man sat in the garden and read books".split()
HIDDEN = {2: "<mask>", 5: "green", 8: "read"}  # the positions that are asked, and what stands there instead
CORPUS = [
    "the dog barks at the moon all night".split(),
    "the dog growls at the man all day".split(),
    "the dog howls at the moon all night".split(),
    "the cat meows at the door all day".split(),
    "the cat meows at the door all day".split(),
]
WRONG = "#B00020"


def pictures() -> dict[str, Figure]:
    """All drawings of this file, by the names of their files."""
    return {f.__name__: f() for f in (families, units, objectives, unmasking)}


def word_box(axes: Axes, x: float, y: float, width: float, text: str, colour, height: float = 0.8, **how) -> None:
    """Draw a word in a tinted box whose left edge is x, and whose middle is at height y."""
    corner = (x, y - height / 2)
    axes.add_patch(Rectangle(corner, width, height, facecolor=tint(colour), edgecolor=colour, linewidth=1))
    write(axes, x + width / 2, y, text, parse_math=False, **how)


def families() -> Figure:
    """Three masks over the same six words: all read, all written, and the first half read."""
    figure, panels = new_figure(10.5, 4.1, ncols=3)
    n = len(PAIR)
    kinds = [
        ("encoder", n, "all see all", "understands a text"),
        ("decoder", 0, "none sees a later one", "goes on with a text"),
        ("both", N_READ, "three are read, three are written", "makes one text of another"),
    ]
    positions = torch.arange(n)
    for axes, (name, n_read, rule, use) in zip(panels, kinds, strict=True):
        seen = (positions <= positions[:, None]) | (positions < n_read)  # (T, T)
        weight_grid(axes, torch.where(seen, 0.3, torch.nan), PAIR, PAIR, form=None)
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            for position, label in enumerate(labels):
                label.set_color(READ if position < n_read else WRITTEN)
        axes.set_title(f"{name}: {use}", fontsize=10, fontweight="bold", pad=10)
        axes.set_xlabel(f"{rule}\n{seen.sum()} pairs")
        if 0 < n_read < n:
            for x, y, text in ((1, 1, "encoder"), (1, 4, "cross-\nattention"), (4, 5, "decoder")):
                axes.text(x, y, text, ha="center", va="center", fontsize=9, color=DARK, fontweight="bold")
            axes.axhline(n_read - 0.5, color=DARK, linewidth=1.5)
            axes.axvline(n_read - 0.5, color=DARK, linewidth=1.5)
    panels[0].set_ylabel("who looks")
    return figure


def units() -> Figure:
    """The same text in characters and in pieces: a piece costs what its characters cost together."""
    figure, axes = blank(9.5, 2.4, 19, 4.6)
    left, width, total = 3.0, 1.0, sum(map(sum, NATS.values()))
    x = left
    for piece, costs in NATS.items():
        span = width * len(costs)
        word_box(axes, x + 0.05, 1.4, span - 0.1, piece.replace(" ", "␣"), WRITTEN)
        write(axes, x + span / 2, 0.65, f"{sum(costs):.1f}", color=GREY, fontsize=8)
        for i, (letter, cost) in enumerate(zip(piece, costs, strict=True)):
            word_box(axes, x + i * width + 0.05, 3.9, width - 0.1, letter.replace(" ", "␣"), WRITTEN)
            write(axes, x + (i + 0.5) * width, 3.15, f"{cost:.1f}", color=GREY, fontsize=8)
        axes.plot([x + 0.1, x + 0.1, x + span - 0.1, x + span - 0.1], [2.7, 2.5, 2.5, 2.7], color="0.75", linewidth=1)
        x += span
    n_characters = sum(map(len, NATS))
    for y, name, n in ((3.9, "characters", n_characters), (1.4, "pieces", len(NATS))):
        loss = total / n
        write(axes, left - 0.3, y, name, ha="right", fontweight="bold")
        write(axes, left - 0.3, y - 0.75, "nats", ha="right", color=GREY, fontsize=8)
        write(axes, x + 0.4, y, f"{total:.1f} / {n} = {loss:.1f} nats a token", ha="left")
        write(axes, x + 0.4, y - 0.75, f"perplexity {exp(loss):.2f}", ha="left")
    return figure


def objectives() -> Figure:
    """What each position is asked: the next word everywhere, or the hidden word at few; and how many these are."""
    figure, (axes, bar) = new_figure(11, 4.3, nrows=2, height_ratios=[4.4, 1])
    axes.set(xlim=(0, 19.3), ylim=(0.2, 7.3))
    axes.set_axis_off()
    width = 1.7
    for i, (word, following) in enumerate(zip(SENTENCE, [*SENTENCE[1:], "<eos>"], strict=True)):
        x = 2.2 + width * i
        word_box(axes, x + 0.08, 4.9, width - 0.16, word, WRITTEN)
        arrow(axes, (x + width / 2, 5.4), (x + width / 2, 6.1), WRITTEN)
        write(axes, x + width / 2, 6.4, following, color=WRITTEN)
        given = HIDDEN.get(i, word)
        word_box(axes, x + 0.08, 1.3, width - 0.16, given, READ, color=WRONG if given != word else DARK)
        if i in HIDDEN:
            arrow(axes, (x + width / 2, 1.8), (x + width / 2, 2.5), READ)
            write(axes, x + width / 2, 2.8, word, color=READ)
    for y, name, colour, asked in ((4.9, "causal", WRITTEN, "every position"), (1.3, "masked", READ, "few positions")):
        write(axes, 0.1, y + 2.1, f"{name}: {asked} answer{'s' * (name == 'causal')}", ha="left", fontweight="bold")
        write(axes, 2.0, y + 1.5, "answers", ha="right", color=colour, fontsize=8)
        write(axes, 2.0, y, "is shown", ha="right", color=colour, fontsize=8)
    for i, text in zip(HIDDEN, ("hidden", "another word", "as it was"), strict=True):
        write(axes, 2.2 + width * (i + 0.5), 0.5, text, color=GREY, fontsize=8)
    start = 0
    for count, colour, alpha in ((850, "0.88", 1), (120, READ, 0.85), (15, WRONG, 1), (15, READ, 0.45)):
        bar.barh(0, count, left=start, color=colour, alpha=alpha, height=0.5)
        start += count
    label = {"va": "center", "fontsize": 9}
    bar.text(0, 0.55, "masked: of 1,000 positions", fontweight="bold", color=DARK, **label)
    bar.text(425, 0, "850 do not answer", ha="center", color=DARK, **label)
    bar.text(910, 0, "120 are hidden", ha="center", color="white", **label)
    bar.text(870, 0.55, "15 show another word,", ha="right", color=WRONG, **label)
    bar.text(1000, 0.55, "15 are as they were", ha="right", color=READ, **label)
    bar.set(xlim=(0, 1000), ylim=(-0.3, 0.75))
    bar.set_axis_off()
    return figure


def best_guesses(shown: list[str | None]) -> list[tuple[str, float]]:
    """Return for each position the best word and its share, among the sentences of CORPUS that fit what is shown."""
    fitting = [s for s in CORPUS if all(w in (None, v) for w, v in zip(shown, s, strict=True))]
    best = [Counter(words).most_common(1)[0] for words in zip(*fitting, strict=True)]
    return [(word, count / len(fitting)) for word, count in best]


def unmasking(per_step: int = 2) -> Figure:
    """Eight masks become a sentence in four steps: the surest guesses stay, the others are made anew."""
    n = len(CORPUS[0])
    n_steps = n // per_step
    figure, axes = blank(10.5, 4.5, 21, 9)
    shown, fresh, at_once = [None] * n, [], best_guesses([None] * n)
    for step in range(n_steps + 1):
        y, guesses = 8.3 - 1.4 * step, best_guesses(shown)
        write(axes, 2.6, y, f"step {step}" if step else "all hidden", ha="right", fontweight="bold")
        for i, (word, share) in enumerate(guesses):
            x = 2.9 + 2.2 * i
            if shown[i] is None:
                word_box(axes, x, y, 2.0, "", GREY, 1.1)
                write(axes, x + 1, y + 0.18, word, color=GREY, style="italic")
                write(axes, x + 1, y - 0.28, f"{share:.2f}", color=GREY, fontsize=7)
            else:
                word_box(axes, x, y, 2.0, word, WRITTEN, 1.1, fontweight="bold" if i in fresh else "normal")
        fresh = sorted((i for i in range(n) if shown[i] is None), key=lambda i: -guesses[i][1])[:per_step]
        for i in fresh:
            shown[i] = guesses[i][0]
    write(axes, 2.6, 0.75, "in one step", ha="right", fontweight="bold")
    for i, (word, _) in enumerate(at_once):
        fits = any(s[i] == word and s[1] == at_once[1][0] for s in CORPUS)  # with the animal
        word_box(axes, 2.9 + 2.2 * i, 0.75, 2.0, word, WRITTEN, 1.1, color=DARK if fits else WRONG)
    return figure
