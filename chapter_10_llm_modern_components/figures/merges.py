"""How bytes grow into tokens, merge by merge, and how often each merge is made.
字节如何一次次合并成词元，以及每种合并做了多少次。
"""

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, blank, tint, write
from chapter_07_attention_mechanism.vocab import GLUE
from chapter_10_llm_modern_components.bpe import ByteTokenizer, merge_steps
from chapter_10_llm_modern_components.figures import READ
from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

LABELLED = [2, 16, 128, 1024]  # merges whose tokens are written beside the curve


def draw_merge_steps(tokenizer: ByteTokenizer, word: str) -> Figure:
    """Draw the bytes of a word in the first row, and below them the tokens after each merge, the new ones in colour.

    Each token is as wide as it has bytes. On the right stands what was merged, and the merge's number.
    """
    steps = merge_steps(word.encode(), tokenizer.merges)
    columns, rows = len(steps[0]), len(steps)
    figure, axes = blank(0.55 * columns + 2.6, 0.55 * rows + 0.2, columns + 4.7, rows + 0.3)
    for row, ids in enumerate(steps):
        y, left = rows - row - 0.75, 0.1
        new = set(ids) - set(steps[row - 1]) if row else set()
        for token, name in zip(ids, tokenizer.show(ids), strict=True):
            width, colour = len(tokenizer.tokens[token]), READ if token in new else GREY
            box = Rectangle((left + 0.04, y), width - 0.08, 0.8, facecolor=tint(colour), edgecolor=colour)
            axes.add_patch(box)
            write(axes, left + width / 2, y + 0.4, name, color=DARK, parse_math=False)
            left += width
        text = f"{columns} bytes"
        if new:
            (token,) = new
            a, b = tokenizer.show(tokenizer.merges[token - 256])
            text = f"merge {token - 255}: {a} + {b}"
        write(axes, columns + 0.4, y + 0.4, text, ha="left", fontsize=8, color=GREY, parse_math=False)
    return figure


def draw_merge_counts(histories: dict[str, list[dict]]) -> Figure:
    """Draw how often each merge is made in the text it was learned from, against its number; a curve a corpus.

    `histories` are those of tokenizer_train.py's results: rows of "merge", "token" and "count".
    """
    figure, axes = new_figure(6, 3.8)
    sides = [((5, 5), "left"), ((-5, -12), "right")]  # of the curve, where labels stand
    for i, (name, rows) in enumerate(histories.items()):
        axes.plot([row["merge"] for row in rows], [row["count"] for row in rows], color=COLOURS[i], label=name)
        offset, side = sides[i % 2]
        for row in rows:
            if row["merge"] in LABELLED:
                place, token = (row["merge"], row["count"]), row["token"]
                text = token if token.strip(GLUE) else f"{len(token)} spaces"
                how = {"color": COLOURS[i], "fontsize": 8, "ha": side, "parse_math": False}
                axes.plot(*place, "o", ms=4, color=COLOURS[i])
                axes.annotate(text, place, xytext=offset, textcoords="offset points", **how)
    axes.set(xscale="log", yscale="log", xlabel="number of the merge", ylabel="times that it is made")
    axes.legend(frameon=False)
    return figure
