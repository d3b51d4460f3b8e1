"""What the model is made of: all of its matrices to scale, and a block of 2019 beside one of today.
模型的构成：按比例画出它的所有矩阵，以及 2019 年的块与今天的块的对照。
"""

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, blank, tint, write
from chapter_10_llm_modern_components.figures import KEY, NORM, PLACE, TALK, THINK, VALUE
from chapter_10_llm_modern_components.model import LanguageModel

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

OLD = [  # name, a line below it, colour; from below to the top, "+" is where a block adds to the stream
    ("token table", "+ learned places", PLACE),
    ("LayerNorm", "mean and spread", NORM),
    ("attention", "keys and values for each head", TALK),
    ("+", "", GREY),
    ("LayerNorm", "mean and spread", NORM),
    ("GELU network", "two matrices, 4 D wide", THINK),
    ("+", "", GREY),
    ("LayerNorm", "", NORM),
]
NEW = [
    ("token table", "no places", GREY),
    ("RMSNorm", "size alone", NORM),
    ("attention", "heads share keys and values", TALK),
    ("+", "", GREY),
    ("RMSNorm", "size alone", NORM),
    ("SwiGLU network", "three matrices, 8/3 D wide", THINK),
    ("+", "", GREY),
    ("RMSNorm", "", NORM),
]
HEIGHTS = [0.7, 2.45, 3.95, 5.1, 6.2, 7.7, 8.85, 10.35]


def blocks() -> Figure:
    """GPT-2's block and today's, side by side."""
    figure, axes = blank(10.4, 6.5, 20.8, 13.0)
    for left, title, parts in ((2.6, "GPT-2 (2019)", OLD), (12.4, "today (Llama, Qwen)", NEW)):
        column(axes, left, title, parts)
    for y, text, colour in ((4.2, "turn queries and keys (RoPE)", PLACE), (3.7, "norm queries and keys", NORM)):
        side(axes, 17.2, y, text, colour)
    side(axes, 17.2, 7.7, "or a few of\nmany experts", THINK)
    return figure


def column(axes: Axes, left: float, title: str, parts: list[tuple[str, str, str]]) -> None:
    """Draw one model from below to the top, the stream as a grey line through its additions."""
    middle, stream = left + 2.4, left - 0.7
    write(axes, middle, 12.6, title, fontweight="bold", fontsize=11)
    axes.add_patch(FancyBboxPatch((left - 1.5, 1.72), 6.6, 7.68, boxstyle="round,pad=0.05,rounding_size=0.3",
                                  facecolor="0.975", edgecolor="0.8", zorder=0))  # fmt: skip
    write(axes, left + 4.9, 9.1, "× layers", color=GREY, fontsize=8, ha="right")
    axes.plot([stream, stream], [0.7, HEIGHTS[-1]], color="0.7", linewidth=2.5, zorder=1)
    axes.plot([stream, left], [0.7, 0.7], color="0.7", linewidth=2.5, zorder=1)
    arrow(axes, (stream, HEIGHTS[-1]), (left, HEIGHTS[-1]), "0.6", 1.6)
    for y, (name, note, colour) in zip(HEIGHTS, parts, strict=True):
        if name == "+":
            axes.plot([middle, middle], [y - 0.7, y], color="0.6", linewidth=1.4, zorder=0.5)
            arrow(axes, (middle, y), (stream + 0.28, y), "0.6", 1.4)
            axes.add_patch(Circle((stream, y), 0.26, facecolor="white", edgecolor="0.5", zorder=3))
            write(axes, stream, y, "+", fontsize=10, zorder=4)
            continue
        small = not note
        height = 0.8 if small else 1.05
        box = {"boxstyle": "round,pad=0.02,rounding_size=0.15", "facecolor": tint(colour, 0.3), "edgecolor": colour}
        axes.add_patch(FancyBboxPatch((left, y - height / 2), 4.8, height, zorder=2, **box))
        write(axes, middle, y if small else y + 0.2, name, fontweight="bold", zorder=4)
        write(axes, middle, y - 0.27, note, fontsize=8, color=DARK, zorder=4)
        if "Norm" in name and not small:
            axes.plot([stream, left], [y, y], color="0.6", linewidth=1.4, zorder=0.5)
            arrow(axes, (middle, y + 0.54), (middle, y + 0.96), "0.6", 1.4)
    arrow(axes, (middle, 10.75), (middle, 11.3), "0.6", 1.4)
    again = "the token table again" if "2019" in title else "the token table again, or another"
    write(axes, middle, 11.6, f"logits: {again}", color=DARK, fontsize=8)


def side(axes: Axes, left: float, y: float, text: str, colour: str) -> None:
    """Write what was added beside a part of today's block."""
    axes.plot([left, left + 0.45], [y, y], color=colour, linewidth=1.6)
    write(axes, left + 0.6, y, text, color=colour, fontsize=8, ha="left", fontweight="bold")


def matrices(model: LanguageModel, n_kept: int = 256) -> Figure:
    """All matrices of a model to scale, one row a layer, with the keys and values that each layer keeps of a text."""
    c, block = model.config, model.blocks[0]
    attention, (d_model, d_ff) = block.attention, block.feed_forward.down_proj.weight.shape
    q, kv = attention.n_heads * attention.d_head, attention.n_kv_heads * attention.d_head
    layer = [("q", q, TALK), ("k", kv, TALK), ("v", kv, TALK), ("out", q, TALK)]
    layer += [("gate", d_ff, THINK), ("up", d_ff, THINK), ("down", d_ff, THINK)]
    gap, step = 46, d_model + 62
    width, height = c.n_tokens + 60, (c.n_layers + 1) * step + 60
    figure, axes = blank(11.4, 11.4 * height / width, width, height)
    y = c.n_layers * step + 60
    box(axes, 30, y, c.n_tokens, d_model, GREY, f"token table: {c.n_tokens:,} × {d_model}, first and last")
    for number in range(c.n_layers):
        x, y = 30, (c.n_layers - 1 - number) * step + 30
        for name, columns, colour in layer:
            box(axes, x, y, columns, d_model, colour, name if number == 0 else "")
            x += columns + gap
        x += 2 * gap
        for name, colour in (("keys", KEY), ("values", VALUE)):
            box(axes, x, y, kv, n_kept, colour, "")
            if number == 0:
                write(axes, x + kv / 2, y + n_kept / 2, name, fontsize=8, rotation=90)
            x += kv + 8
    x += 70
    total = sum(p.numel() for p in model.parameters())
    kept = 2 * c.n_layers * kv * n_kept
    write(axes, x, 4.5 * step, f"layers 1 to {c.n_layers}", color=GREY, ha="left", fontsize=9)
    write(axes, x, 3.5 * step, f"{total / 1e6:.1f} million", ha="left", fontsize=13, fontweight="bold")
    write(axes, x, 3.1 * step, "numbers learned", ha="left", fontsize=9)
    write(axes, x, 1.9 * step, f"{kept / 1e6:.1f} million", ha="left", fontsize=13, fontweight="bold", color=KEY)
    write(axes, x, 1.5 * step, f"kept of {n_kept} tokens", ha="left", fontsize=9, color=KEY)
    return figure


def box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, text: str) -> None:
    """Draw a rectangle to scale with its name in the middle."""
    axes.add_patch(Rectangle((x, y), width, height, facecolor=tint(colour, 0.4), edgecolor=colour))
    write(axes, x + width / 2, y + height / 2, text, fontsize=9)
