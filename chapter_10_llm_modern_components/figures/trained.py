"""A pre-trained model: how it learned, what reading on is worth to it, what its heads look at, its words' neighbours.
预训练好的模型：怎样学成，多读上文值多少，各个头看哪里，每个词的近邻是谁。
"""

from collections.abc import Sequence

from torch import Tensor

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, tint, weight_grid
from chapter_08_transformer_vanilla.figures.inside import head_grid
from chapter_10_llm_modern_components.figures import LEARNED, READ
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

SMALLEST_GAP = 0.055  # between labels, of the height of the axes


def learning(history: Sequence[dict], final: dict, rows: Sequence[dict]) -> Figure:
    """Draw the bits per byte over training, beside those of other programs, and over the tokens read in a window.

    Args:
        history, final: of pretrain.py's results.
        rows: `by_context` of the model that it has trained.
    """
    figure, (left, right) = new_figure(9.4, 3.6, ncols=2, width_ratios=[1.25, 1])
    over_training(left, history, final)
    middles = [(row["from"] * row["to"]) ** 0.5 for row in rows]
    bits, errors = ([row[name] for row in rows] for name in ("bits_per_byte", "std_error"))
    right.errorbar(middles, bits, yerr=errors, fmt="o-", color=READ, markersize=4, capsize=2)
    for i in (0, -1):
        right.annotate(f"{bits[i]:.2f}", (middles[i], bits[i]), (6, 6), textcoords="offset points", fontsize=8)
    right.set_xscale("log", base=2)
    right.set_xticks([row["to"] for row in rows], [str(row["to"]) for row in rows], fontsize=8)
    right.set(xlabel="tokens read before, in the window", ylabel="bits a byte, held-out text")
    return figure


def over_training(axes: Axes, history: Sequence[dict], final: dict) -> None:
    """Draw the losses against passes over the training text; each line's name stands on its right."""
    passes = [final["epochs"] * row["step"] / history[-1]["step"] for row in history]
    labels = {}
    for name, text, colour in (("train", "training", READ), ("validation", "validation", LEARNED)):
        bits = [row[f"{name}_bits_per_byte"] for row in history]
        axes.plot(passes, bits, "o-", markersize=3, color=colour)
        labels[f"{text} {bits[-1]:.2f}"] = bits[-1], colour
    axes.plot(passes[-1], final["bits_per_byte"], "*", markersize=11, color=DARK, clip_on=False, zorder=4)
    labels[f"★ held-out text {final['bits_per_byte']:.2f}"] = final["bits_per_byte"], DARK
    others = (("ngram", f"{final['ngram_order']}-grams of bytes"), ("xz_primed", "xz, behind the training text"))
    for name, text in others:
        bits = final[f"bits_per_byte_{name}"]
        axes.axhline(bits, color=GREY, linestyle="--", linewidth=1)
        labels[f"{text} {bits:.2f}"] = bits, GREY
    axes.set(xlabel="passes over the training text", ylabel="bits a byte", xlim=(0, None))
    low, high = axes.get_ylim()
    place = low
    for text, (bits, colour) in sorted(labels.items(), key=lambda item: item[1][0]):
        place = max(bits, place + SMALLEST_GAP * (high - low))
        how = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8, "color": colour}
        axes.text(1.03, place, text, **how)


def looking(
    first: Tensor,
    even: float,
    head: tuple[str, Tensor, Tensor, Sequence[str]],
    neighbours: dict[str, list[tuple[str, float]]],
) -> Figure:
    """Draw each head's weight on the first token, the words' nearest ones, and one head's map.

    Args:
        first, even: (L, H), and the same of a head that looks at all alike.
        head: its name, its weights (T, T), which places are outlined (T, T), and the tokens.
        neighbours: of each word, with cosines.
    """
    name, weights, outlined, tokens = head
    figure = Figure(figsize=(10.4, 5.8), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 1.25], height_ratios=[1, 1.25])
    first, title = first / even, "weight on the first token\n(1: as if all tokens were alike)"
    head_grid(figure.add_subplot(grid[0, 0]), first, title, top=max(2.0, first.max().item()))
    word_table(figure.add_subplot(grid[1, 0]), neighbours)
    axes = figure.add_subplot(grid[:, 1])
    title = f"head {name}, which copies most\n(framed: behind an earlier token of the same kind)"
    weight_grid(axes, weights, tokens, tokens, form=None)
    axes.text(0.5, -0.02, title, transform=axes.transAxes, ha="center", va="top", fontsize=9)
    axes.tick_params(axis="x", labelrotation=90)
    for t, s in outlined.nonzero().tolist():
        axes.add_patch(Rectangle((s - 0.5, t - 0.5), 1, 1, fill=False, edgecolor=LEARNED, linewidth=1.3))
    return figure


def word_table(axes: Axes, neighbours: dict[str, list[tuple[str, float]]]) -> None:
    """Write a row for each word: the nearest ones, the nearer the darker their ground."""
    columns = max((len(near) for near in neighbours.values()), default=0) + 1
    axes.set(xlim=(0, columns), ylim=(max(len(neighbours), 1), 0))
    axes.set_title("words next to each other in the token table", fontsize=9)
    axes.set_axis_off()
    for y, (word, near) in enumerate(neighbours.items()):
        how = {"va": "center", "fontsize": 8, "parse_math": False}
        axes.text(0, y + 0.5, word, fontweight="bold", color=DARK, **how)
        for x, (other, cosine) in enumerate(near, 1):
            ground = tint(READ, 0.6 * max(cosine, 0.0))
            axes.add_patch(Rectangle((x + 0.02, y + 0.06), 0.96, 0.88, facecolor=ground, edgecolor="none"))
            axes.text(x + 0.5, y + 0.5, other, ha="center", color=DARK, **how)
