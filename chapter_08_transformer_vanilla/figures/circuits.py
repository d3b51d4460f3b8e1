"""Two layers that copy, weight by weight, and what the head would say after each of them.
会照抄的两层注意力：每一个权重，以及每层之后输出层会说什么。
"""

import torch

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, tint, weight_grid, write
from chapter_08_transformer_vanilla.figures import READ, WRITTEN
from chapter_08_transformer_vanilla.induction import copying_layers, copying_stream
from utils.plotting import new_figure

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

TOKENS = ["<bos>", "k", "d", "m"]
TEXT = [0, 1, 2, 3, 1, 2, 3]  # <bos>, and the others twice
FOLLOWING = [*TEXT[1:], 1]


def pictures() -> dict[str, Figure]:
    """All drawings of this file, by the names of their files."""
    return {f.__name__: f() for f in (induction, lens)}


@torch.no_grad()
def run_layers() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the stream (T, D) before, between and behind the two layers, and the weights (T, T) of both."""
    x = copying_stream(TEXT, len(TOKENS))
    streams, maps = [x[0]], []
    for layer in copying_layers(len(TOKENS), len(TEXT)):
        x, _, (weights, _) = layer(x, need_weights=True)
        streams.append(x[0])
        maps.append(weights[0, 0])
    return streams, maps


def induction() -> Figure:
    """Both layers' weights: each position looks at the one before it; then at the one that stands after its like."""
    (_, noted, _), maps = run_layers()
    figure, panels = new_figure(10.5, 4.5, ncols=2)
    words = [TOKENS[token] for token in TEXT]
    before = [TOKENS[row[len(TOKENS) :].argmax()] for row in noted[:, : 2 * len(TOKENS)]]
    keys = [words, [f"{word}\n({last})" for word, last in zip(words, before, strict=True)]]
    keys[1][0] = words[0]
    titles = [
        "layer 1: who stands before me?\n",
        "layer 2: who stands after one like me?\n(in brackets: what layer 1 has noted)",
    ]
    for axes, weights, columns, title in zip(panels, maps, keys, titles, strict=True):
        hidden = torch.ones_like(weights).triu(1).bool()
        weight_grid(axes, weights.masked_fill(hidden, torch.nan), [f"{word} →" for word in words], columns)
        axes.set_xlabel(title)
    for t, row in enumerate(maps[1]):
        fetched = words[row.argmax()]
        found = fetched != words[0]
        text = f"fetches {fetched}" if found else "nothing"
        panels[1].text(
            len(words) - 0.35, t, text, va="center", fontsize=9, color=WRITTEN if found else GREY, clip_on=False
        )
    return figure


def lens() -> Figure:
    """What the head makes of the stream before, between and behind the layers, at each position."""
    streams, _ = run_layers()
    names = "embedding", "after layer 1", "after layer 2"
    p = [x[:, : len(TOKENS)].softmax(dim=-1) for x in streams]  # (T, V) each: the table of rows is the identity
    return lens_rows(dict(zip(names, p, strict=True)), TOKENS, [TOKENS[token] for token in TEXT], FOLLOWING)


def lens_rows(rows: dict[str, torch.Tensor], tokens: list[str], text: list[str], following: list[int | None]) -> Figure:
    """Draw the likeliest token and its probability at each position; a row for each p (T, V), the first at the foot.

    Args:
        tokens: how each of the V tokens is shown.
        text: what is read at each of the T positions.
        following: which token comes next; None: unknown.
    """
    width = 1.0 if len(text) < 10 else 0.5  # inches for a position
    figure, axes = new_figure(2.5 + width * len(text), 0.8 + 0.6 * len(rows))
    axes.set(xlim=(-2.0 / width, len(text) + 0.1), ylim=(-0.65, len(rows) + 0.65))
    axes.set_axis_off()
    for row, (name, p) in enumerate(rows.items()):
        write(axes, -0.15, row + 0.5, name, ha="right", fontweight="bold")
        for t, (best, token) in enumerate(zip(*p.max(dim=-1), strict=True)):
            right = token == following[t]
            colour = WRITTEN if right else GREY
            box = Rectangle((t + 0.04, row + 0.06), 0.92, 0.88, facecolor=tint(colour), edgecolor=colour)
            axes.add_patch(box)
            weight = "bold" if right else "normal"
            write(axes, t + 0.5, row + 0.62, tokens[token], parse_math=False, fontweight=weight, fontsize=10)
            write(axes, t + 0.5, row + 0.25, f"{best:.2f}", fontsize=8, color=DARK)
    write(axes, -0.15, -0.4, "reads", ha="right", color=READ)
    write(axes, -0.15, len(rows) + 0.35, "what comes next", ha="right", color=WRITTEN)
    for t, (token, after) in enumerate(zip(text, following, strict=True)):
        write(axes, t + 0.5, -0.4, token, color=READ, fontweight="bold", parse_math=False)
        shown = "?" if after is None else tokens[after]
        write(axes, t + 0.5, len(rows) + 0.35, shown, color=WRITTEN, fontweight="bold", parse_math=False)
    return figure
