"""What is kept of a token: shared heads, latents, eight bits, pages; and rotary positions.
一个词元留下什么：共用的头、潜向量、八位整数、分页；以及旋转位置编码。
"""

import numpy as np
import torch

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, blank, boxes, tint, write
from chapter_09_efficient_attention.figures import KEY, LATENT, PLACE, QUERY, VALUE, WEIGHT
from chapter_09_efficient_attention.grouped import grouped_attention
from chapter_09_efficient_attention.kv_cache import quantize
from chapter_09_efficient_attention.rope import rotary
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, FancyBboxPatch, Rectangle

QUERIES = torch.tensor([[2.0, 0.0], [0.0, 2.0]])  # of two heads, which share these:
SHARED_KEYS, SHARED_VALUES = torch.eye(2), torch.tensor([[10.0], [0.0]])
LATENTS, UP_K, UP_V = torch.tensor([[2.0], [1.0]]), torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [1.0]])
QUERY_OF_LATENTS = torch.tensor([1.0, 0.5])
NUMBERS = torch.tensor([0.5, -1.27, 0.024])
TABLES = {"text A": [3, 0, 5], "text B": [1, 4]}  # the blocks of the pool that belong to each
LENGTHS = {"text A": 10, "text B": 7}
BLOCK = 4


def heads() -> Figure:
    """Who shares keys and values with whom; below, two heads that share a list and find different things."""
    figure, axes = blank(9.6, 5.0, 19.2, 10)
    for i, (name, n_kv) in enumerate((("multi-head", 4), ("grouped-query", 2), ("multi-query", 1))):
        left = 0.8 + 6.4 * i
        write(axes, left + 2.4, 9.5, name, fontweight="bold")
        for h in range(4):
            x = left + 0.3 + 1.4 * h
            axes.add_patch(Circle((x, 8.3), 0.36, facecolor=tint(QUERY), edgecolor=QUERY))
            write(axes, x, 8.3, f"q{h + 1}", fontsize=8)
            g = h * n_kv // 4
            shared = left + 0.3 + 1.4 * (4 / n_kv * (g + 0.5) - 0.5)
            axes.plot([x, shared], [7.94, 6.95], color=GREY, linewidth=1.2)
        for g in range(n_kv):
            x = left + 0.3 + 1.4 * (4 / n_kv * (g + 0.5) - 0.5)
            boxes(axes, x - 0.55, 6.65, ["k"], KEY, 0.55)
            boxes(axes, x, 6.65, ["v"], VALUE, 0.55)
        write(axes, left + 2.4, 5.75, f"kept: {2 * n_kv} vectors a token", color=GREY, fontsize=8)
    axes.axhline(5.15, color="0.85", linewidth=1)
    found = grouped_attention(QUERIES[None, :, None], SHARED_KEYS[None, None], SHARED_VALUES[None, None], scale=1.0)
    weights = (QUERIES @ SHARED_KEYS.T).softmax(dim=-1)  # (2, 2) @ (2, 2) -> (2, 2)
    for h in range(2):
        y = 3.6 - 2.2 * h
        write(axes, 1.1, y, f"head {h + 1}\nasks", color=QUERY, fontsize=9)
        boxes(axes, 2.1, y, QUERIES[h].tolist(), QUERY)
        for j in range(2):
            arrow(axes, (3.8, y), (6.9, 3.6 - 2.2 * j), WEIGHT, 0.6 + 3 * weights[h, j].item())
            place = 5.3 if h == j else 4.55
            line = y + (3.6 - 2.2 * j - y) * (place - 3.8) / 3.1
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            write(axes, place, line, f"{weights[h, j]:.3f}", color=WEIGHT, fontsize=8, bbox=box)
    for j in range(2):
        boxes(axes, 7.1, 3.6 - 2.2 * j, SHARED_KEYS[j].tolist(), KEY)
        boxes(axes, 9.1, 3.6 - 2.2 * j, SHARED_VALUES[j].tolist(), VALUE)
    write(axes, 7.9, 4.55, "one list", color=KEY, fontsize=9)
    for h in range(2):
        y = 3.6 - 2.2 * h
        write(axes, 12.4, y, f"head {h + 1} finds", color=QUERY, fontsize=9)
        boxes(axes, 14.1, y, found[0, h, 0].tolist(), VALUE, 1.0, form="{:.2f}")
    write(axes, 9.6, 0.45, "the same list, another question, another answer", color=GREY, fontsize=9)
    return figure


def rotation() -> Figure:
    """A query and a key at three pairs of places, turned by the module's own `rotary`."""
    figure, panels = new_figure(10, 3.7, ncols=3)
    for axes, (m, n) in zip(panels, ((2, 1), (5, 4), (5, 1)), strict=True):
        axes.set(xlim=(-1.45, 1.45), ylim=(-1.45, 1.35), aspect="equal")
        axes.set_axis_off()
        axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor="0.85"))
        axes.plot([0, 1.12], [0, 0], color="0.85", linewidth=1)
        q, k = (rotary(torch.tensor([[1.0, 0.0]]), place)[0].tolist() for place in (m, n))
        for (x, y), colour, name, place in ((q, QUERY, "query", m), (k, KEY, "key", n)):
            arrow(axes, (0, 0), (x, y), colour, 2.4)
            write(axes, 1.24 * x, 1.24 * y, f"{name}\nat {place}", color=colour, fontsize=9, fontweight="bold")
        turn = {"theta1": np.degrees(n), "theta2": np.degrees(m), "color": PLACE, "linewidth": 2.5}
        axes.add_patch(Arc((0, 0), 0.8, 0.8, **turn))
        middle = (m + n) / 2
        angle_at = 0.58 * np.cos(middle), 0.58 * np.sin(middle)
        write(axes, *angle_at, f"{m - n}", color=PLACE, fontweight="bold", fontsize=11)
        product = sum(a * b for a, b in zip(q, k, strict=True))
        axes.set_title(f"query · key = cos {m - n} = {product:.2f}", fontsize=10)
    return figure


def latent() -> Figure:
    """Naive and absorbed latent attention on two latents of one number: the same scores."""
    figure, axes = blank(10, 4.6, 20, 9.2)
    keys, q = LATENTS @ UP_K.T, QUERY_OF_LATENTS  # (2, 1) @ (1, 2) -> (2, 2)
    short = q @ UP_K  # (2) @ (2, 1) -> (1)
    write(axes, 4.9, 8.8, "naive: make all keys, then ask", fontweight="bold")
    write(axes, 15.3, 8.8, "absorbed: ask the latents", fontweight="bold")
    axes.plot([10.1, 10.1], [0.4, 8.8], color="0.85", linewidth=1)
    for left in (0.4, 11.4):
        write(axes, left + 0.5, 5.6, "latents", color=LATENT, fontsize=9)
        for j in range(2):
            boxes(axes, left, 4.4 - 1.7 * j, LATENTS[j].tolist(), LATENT, 1.0)
    for j in range(2):
        y = 4.4 - 1.7 * j
        arrow(axes, (1.5, y), (3.6, y), KEY, 1.4)
        write(axes, 2.5, y + 0.4, "× U", color=KEY, fontsize=9)
        boxes(axes, 3.8, y, keys[j].tolist(), KEY, 1.0)
        arrow(axes, (5.9, y), (8.2, y), GREY)
        boxes(axes, 8.4, y, [(keys[j] @ q).item()], GREY, 1.0)
        arrow(axes, (12.5, y), (18.0, y), GREY)
        boxes(axes, 18.2, y, (short * LATENTS[j]).tolist(), GREY, 1.0)
    write(axes, 4.8, 5.6, "keys: 2 numbers for each", color=KEY, fontsize=9)
    for x in (8.9, 18.7):
        write(axes, x, 5.6, "scores", color=GREY, fontsize=9)
    write(axes, 5.1, 7.8, "query", color=QUERY, ha="right")
    boxes(axes, 5.3, 7.8, q.tolist(), QUERY, 1.0)
    arrow(axes, (7.4, 7.7), (8.75, 6.0), QUERY, 1.4)
    write(axes, 12.2, 7.8, "query", color=QUERY, ha="right")
    boxes(axes, 12.4, 7.8, q.tolist(), QUERY, 1.0)
    arrow(axes, (14.6, 7.8), (16.3, 7.8), KEY, 1.4)
    write(axes, 15.4, 8.15, "× Uᵀ, once", color=KEY, fontsize=9)
    boxes(axes, 16.5, 7.8, short.tolist(), LATENT, 1.0)
    arrow(axes, (17.6, 7.6), (18.5, 6.0), LATENT, 1.4)
    write(axes, 4.9, 1.1, "work for each kept token and each head: r × d", color=GREY, fontsize=9)
    write(axes, 15.3, 1.1, "for each kept token and each head: r", color=GREY, fontsize=9)
    return figure


def pages() -> Figure:
    """Three numbers as multiples of a step; two texts in blocks of a pool."""
    figure, (left, right) = new_figure(11, 3.4, ncols=2, width_ratios=[10.4, 15])  # both at the same scale
    left.set(xlim=(0, 10.4), ylim=(0, 7.2), aspect="equal")
    left.set_axis_off()
    codes, scale = quantize(NUMBERS)
    back = codes * scale
    write(left, 5.2, 6.8, "eight bits", fontweight="bold")
    for y, name, numbers, colour, form in (
        (5.3, "number", NUMBERS.tolist(), KEY, "{:g}"),
        (3.5, "stored", codes.tolist(), GREY, "{:d}"),
        (1.7, "read back", back.tolist(), KEY, "{:.3g}"),
    ):
        write(left, 2.3, y, name, ha="right", color=GREY)
        boxes(left, 2.7, y, [form.format(round(x, 4) if isinstance(x, float) else x) for x in numbers], colour, 1.6)
    for y, text in ((4.4, f"÷ {scale.item():.2f}, rounded"), (2.6, f"× {scale.item():.2f}")):
        arrow(left, (5.1, y + 0.12), (5.1, y - 0.12), GREY)
        write(left, 7.6, y, text, color=GREY, fontsize=8, ha="left")
    write(left, 5.2, 0.4, f"step {scale.item():.2f} = 1.27 / 127", color=GREY, fontsize=8)
    block_table(right)
    return figure


def block_table(axes: Axes) -> None:
    """Draw the pool, and each text's way through its table."""
    axes.set(xlim=(0, 15), ylim=(0, 7.2), aspect="equal")
    axes.set_axis_off()
    write(axes, 7.5, 6.8, "pages", fontweight="bold")
    colours = {"text A": DARK, "text B": GREY}
    for i, (name, table) in enumerate(TABLES.items()):
        y = 5.2 - 2.4 * i
        write(axes, 0.2, y + 0.95, f"{name}: {LENGTHS[name]} tokens", color=colours[name], ha="left", fontsize=9)
        write(axes, 0.2, y, "table", color=GREY, ha="left", fontsize=8)
        boxes(axes, 1.5, y, table, GREY, 0.9)
    write(axes, 0.2, 1.2, "token 5 of text A, counted from 0:\nblock 5 // 4 = 1 of its table, which\n"
          "is 0; row 5 % 4 = 1", ha="left", fontsize=8, color=GREY)  # fmt: skip
    for block in range(6):
        x, y = 7.6 + 3.7 * (block % 2), 5.2 - 2.1 * (block // 2)
        owner = next((name for name, table in TABLES.items() if block in table), None)
        write(axes, x - 0.45, y, f"{block}", color=GREY, fontsize=8)
        for row in range(BLOCK):
            place = TABLES[owner].index(block) * BLOCK + row if owner else -1
            used = owner is not None and place < LENGTHS[owner]
            style = {"facecolor": tint(colours[owner], 0.3), "edgecolor": colours[owner]} if used else {
                "facecolor": "white", "edgecolor": colours[owner] if owner else "0.8"}  # fmt: skip
            marked = used and owner == "text A" and place == 5
            axes.add_patch(Rectangle((x + 0.72 * row, y - 0.4), 0.72, 0.8, linewidth=2.4 if marked else 0.8, **style))
            if used:
                write(axes, x + 0.72 * row + 0.36, y, f"{place}", fontsize=8, color=DARK)
    axes.add_patch(FancyBboxPatch((6.9, 0.35), 7.7, 5.6, "round,pad=0,rounding_size=0.2", fill=False, edgecolor="0.75"))
    write(axes, 10.7, 0.05, "the pool: blocks of four rows", color=GREY, fontsize=8)
