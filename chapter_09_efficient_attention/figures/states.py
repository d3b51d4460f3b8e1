"""A state instead of a list: the order of two products, three forms of one sum, and what fades.
用状态代替列表：两个乘积的先后、同一个和的三种算法，以及衰减。
"""

import torch

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, WEIGHT_MAP, arrow, blank, boxes, tint, write
from chapter_09_efficient_attention.figures import KEY, QUERY, STATE, VALUE, WEIGHT
from chapter_09_efficient_attention.linear.gated import fading, summed
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

QUERIES = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
KEYS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
VALUES = torch.tensor([1.0, 2.0, 3.0])


def block(axes: Axes, x: float, y: float, width: float, height: float, colour: str, text: str, size: str) -> float:
    """Draw a rectangle of `width` x `height` from x on, its middle at y, with its name in it; return where it ends."""
    axes.add_patch(Rectangle((x, y - height / 2), width, height, facecolor=tint(colour, 0.3), edgecolor=colour))
    inside = min(width, height) > 0.9
    write(axes, x + width / 2, y if inside else y + height / 2 + 0.4, text, fontsize=9, fontweight="bold", color=DARK)
    write(axes, x + width / 2, y - height / 2 - 0.4, size, fontsize=8, color=GREY)
    return x + width


def shapes() -> Figure:
    """(Q K^T) V, Q (K^T V) and Linformer as rectangles, with their multiplications for 4,096 tokens of width 64."""
    n, d, r = 3.4, 0.62, 1.1
    figure, axes = blank(10.0, 6.4, 20, 13.4)
    rows = [  # y, name, multiplications
        (10.9, "all scores first", "2 N² d = 2,147 million"),
        (6.4, "a state first", "2 N d² = 34 million"),
        (2.1, "Linformer, r = 256", "2 N r d = 134 million,\nand as many for mixing"),
    ]
    for y, name, count in rows:
        write(axes, 0.1, y + 0.45, name, fontweight="bold", ha="left")
        write(axes, 0.1, y - 0.1, count, color=GREY, ha="left", fontsize=8, va="top")
    y, start = rows[0][0], 5.4
    x = block(axes, start, y, d, n, QUERY, "Q", "N × d") + 0.5
    x = block(axes, x, y, n, d, KEY, "Kᵀ", "d × N") + 0.6
    write(axes, x, y, "=", fontsize=12)
    x = block(axes, x + 0.6, y, n, n, WEIGHT, "Q Kᵀ", "N × N") + 0.9
    write(axes, x, y, "×", fontsize=11)
    block(axes, x + 0.5, y, d, n, VALUE, "V", "N × d")
    y = rows[1][0]
    x = block(axes, start, y, n, d, KEY, "Kᵀ", "d × N") + 0.5
    x = block(axes, x, y, d, n, VALUE, "V", "N × d") + 0.6
    write(axes, x, y, "=", fontsize=12)
    x = block(axes, x + 0.6, y, d, d, STATE, "S", "d × d") + 0.9
    write(axes, x + 0.2, y, "then", fontsize=9, color=GREY)
    x = block(axes, x + 1.0, y, d, n, QUERY, "Q", "N × d") + 0.6
    write(axes, x, y, "×", fontsize=11)
    block(axes, x + 0.5, y, d, d, STATE, "S", "d × d")
    y = rows[2][0]
    x = block(axes, start, y, d, n, QUERY, "Q", "N × d") + 0.5
    x = block(axes, x, y, r, d, KEY, "(E K)ᵀ", "d × r") + 0.6
    write(axes, x, y, "=", fontsize=12)
    x = block(axes, x + 0.6, y, r, n, WEIGHT, "", "N × r") + 0.6
    write(axes, x, y, "×", fontsize=11)
    block(axes, x + 0.5, y, d, r, VALUE, "E V", "r × d")
    return figure


def forms() -> Figure:
    """The example three times: state by state, all scores at once, and in chunks of two."""
    figure, axes = blank(11.4, 4.7, 24, 9.9)
    states = (KEYS * VALUES[:, None]).cumsum(dim=0)  # (3, 2)
    scores = (QUERIES @ KEYS.T).tril()  # (3, 2) @ (2, 3) -> (3, 3)
    outputs = (scores @ VALUES).tolist()
    for x, name in ((3.6, "recurrent"), (12.0, "parallel"), (20.2, "chunked, two and one")):
        write(axes, x, 9.5, name, fontweight="bold")
    for t in range(3):
        y = 7.2 - 2.6 * t
        write(
            axes,
            1.6,
            y + 0.95,
            f"q{t + 1} = ({QUERIES[t, 0]:g}, {QUERIES[t, 1]:g})",
            color=QUERY,
            ha="left",
            fontsize=8,
        )
        write(axes, 3.6, y + 0.95, f"k{t + 1} = ({KEYS[t, 0]:g}, {KEYS[t, 1]:g})", color=KEY, ha="left", fontsize=8)
        write(axes, 5.6, y + 0.95, f"v{t + 1} = {VALUES[t]:g}", color=VALUE, ha="left", fontsize=8)
        boxes(axes, 2.0, y, states[t].tolist(), STATE, 1.0)
        arrow(axes, (4.2, y), (5.3, y), GREY)
        boxes(axes, 5.5, y, [outputs[t]], VALUE, 1.0)
        if t:
            arrow(axes, (1.85, y + 2.5), (1.85, y + 0.1), STATE, 1.6, bend=0.6)
    axes.plot([7.6, 7.6], [0.5, 9.2], color="0.88", linewidth=1)
    axes.plot([16.0, 16.0], [0.5, 9.2], color="0.88", linewidth=1)
    score_grid(axes, 8.9, scores, 3)
    for t in range(3):
        y = 7.2 - 2.6 * t
        arrow(axes, (13.0, y), (13.9, y), GREY)
        boxes(axes, 14.2, y, [outputs[t]], VALUE, 1.0)
    score_grid(axes, 17.3, scores, 2)
    state = states[1]
    arrow(axes, (19.5, 4.0), (18.6, 2.5), STATE, 1.6)
    boxes(axes, 17.3, 2.0, state.tolist(), STATE, 1.0)
    for t in range(3):
        y = 7.2 - 2.6 * t
        arrow(axes, (21.4, y), (22.2, y), GREY)
        boxes(axes, 22.4, y, [outputs[t]], VALUE, 1.0)
    write(axes, 18.4, 1.0, "q3 · S: 5", color=STATE, fontsize=8)
    write(axes, 20.6, 1.0, "3 · v3: 9", color=WEIGHT, fontsize=8)
    write(axes, 3.6, 0.2, "T steps, 2 d² each", color=GREY, fontsize=8)
    write(axes, 12.0, 0.2, "1 step, T d for each token", color=GREY, fontsize=8)
    write(axes, 20.2, 0.2, "T / C steps, C d + 2 d² for each token", color=GREY, fontsize=8)
    return figure


def score_grid(axes: Axes, left: float, scores: torch.Tensor, chunk: int) -> None:
    """Draw the causal scores (3, 3) in boxes; with chunks only those within one."""
    for t in range(3):
        for s in range(3):
            x, y = left + 1.3 * s, 7.2 - 2.6 * t
            if s <= t and s // chunk == t // chunk:
                boxes(axes, x, y, [scores[t, s].item()], WEIGHT, 1.0)
            elif s > t:
                axes.add_patch(Rectangle((x, y - 0.5), 1.0, 1.0, facecolor="0.97", edgecolor="0.9"))
    for s in range(3):
        write(axes, left + 1.3 * s + 0.5, 8.3, f"k{s + 1}", color=KEY, fontsize=8)
    for t in range(3):
        write(axes, left - 0.4, 7.2 - 2.6 * t, f"q{t + 1}", color=QUERY, fontsize=8)


def decay(n: int = 6) -> Figure:
    """How much each earlier token still counts: a constant, a gate that closes once, and two rows of one state."""
    constant = torch.full((n, 1), 0.5)
    closing = torch.ones(n, 1)
    closing[3] = 0
    slow, fast = torch.full((n, 1), 0.9), torch.tensor([1.0, 0.5, 1.0, 0.2, 1.0, 0.5])[:, None]
    tables = [
        ("retention: always 0.5", constant),
        ("gate: 0 at token 4, else 1", closing),
        ("one gate a row: row 1", slow),
        ("row 2 of the same state", fast),
    ]
    figure, panels = new_figure(12, 3.7, ncols=4)
    for axes, (name, gates) in zip(panels, tables, strict=True):
        factors = fading(summed(gates.log()))  # (6, 6)
        axes.imshow(
            factors.masked_fill(torch.ones(n, n).triu(1).bool(), torch.nan).numpy(), cmap=WEIGHT_MAP, vmin=0, vmax=1.3
        )
        axes.set_facecolor("0.95")
        for t in range(n):
            for s in range(t + 1):
                factor = factors[t, s].item()
                text = f"{factor:.2f}".rstrip("0").rstrip(".") or "0"
                axes.text(s, t, text, ha="center", va="center", fontsize=8, color="white" if factor > 0.5 else DARK)
        axes.set_xticks(range(n), [str(i + 1) for i in range(n)])
        axes.set_yticks(range(n), [str(i + 1) for i in range(n)])
        axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
        for labels, colour in ((axes.get_xticklabels(), KEY), (axes.get_yticklabels(), QUERY)):
            for label in labels:
                label.set_color(colour)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(name, fontsize=9)
    return figure
