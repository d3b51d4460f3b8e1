"""What attention costs: numbers kept, scores counted, the roofline, and how caches grow.
注意力的代价：保留多少数、分数有多少、屋顶线，以及缓存怎样增长。
"""

import numpy as np

from chapter_07_attention_mechanism.figures.cells import DARK, GREY, arrow, blank, boxes, tint, write
from chapter_09_efficient_attention.figures import KEY, LATENT, PLACE, QUERY, STATE, VALUE, WEIGHT
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

PEAK, BANDWIDTH = 989e12, 3.35e12  # operations and bytes a second of an H100 in bfloat16
N_READ, N_HEADS, WIDTH, WINDOW = 16, 4, 2, 4  # of the picture on top of the page


def squares(axes: Axes, left: float, bottom: float, columns: int, rows: int, colour: str, ghost: bool = False) -> None:
    """Draw a block of unit squares; as a ghost, only their outlines."""
    patches = [Rectangle((left + c + 0.08, bottom + r + 0.08), 0.84, 0.84) for c in range(columns) for r in range(rows)]
    face = "none" if ghost else tint(colour, 0.55)
    edge = "0.85" if ghost else colour
    axes.add_collection(PatchCollection(patches, facecolor=face, edgecolor=edge, linewidth=0.5))


def kept() -> Figure:
    """One square for each number that a layer keeps of sixteen tokens, for six kinds of attention."""
    figure, axes = blank(11.4, 2.95, 118, 29)
    full = N_HEADS * WIDTH
    kinds = [  # name, rows of keys, of values, of a latent, of a turned key
        ("all heads", full, full, 0, 0),
        ("grouped heads", full // 2, full // 2, 0, 0),
        ("one head", full // 4, full // 4, 0, 0),
        ("latents", 0, 0, 4, 2),
        (f"last {WINDOW} tokens", full, full, 0, 0),
    ]
    for i, (name, n_keys, n_values, n_latent, n_turned) in enumerate(kinds):
        left, bottom, rows = 1 + 20 * i, 9.0, n_keys + n_values + n_latent + n_turned
        window = name.startswith("last")
        shown = WINDOW if window else N_READ
        start = left + N_READ - shown
        if window:
            squares(axes, left, bottom, N_READ - shown, rows, GREY, ghost=True)
        for height, colour in ((n_values, VALUE), (n_keys, KEY), (n_latent, LATENT), (n_turned, PLACE)):
            squares(axes, start, bottom, shown, height, colour)
            bottom += height
        write(axes, left + 8, 6.6, name, fontweight="bold", fontsize=10)
        write(axes, left + 8, 3.9, f"{shown * rows} numbers", fontsize=9)
        write(axes, left + 8, 1.4, "no more" if window else f"+ {rows} a token", color=GREY, fontsize=8)
    squares(axes, 107, 9, WIDTH, 2 * WIDTH, STATE)
    squares(axes, 107 + WIDTH, 9, WIDTH, 2 * WIDTH, STATE)
    write(axes, 109, 6.6, "states", fontweight="bold", fontsize=10)
    write(axes, 109, 3.9, f"{N_HEADS * WIDTH**2} numbers", fontsize=9)
    write(axes, 109, 1.4, "no more", color=GREY, fontsize=8)
    write(axes, 1, 27.3, "token 1", color=GREY, fontsize=8, ha="left")
    write(axes, 17, 27.3, f"token {N_READ}", color=GREY, fontsize=8, ha="right")
    arrow(axes, (6.4, 27.3), (10.6, 27.3), GREY)
    for x, text, colour in (
        (24, "keys", KEY),
        (31, "values", VALUE),
        (64.5, "latents", LATENT),
        (74, "turned keys", PLACE),
    ):
        write(axes, x, 18.8 if x < 40 else 16.8, text, color=colour, fontweight="bold", fontsize=9)
    return figure


def growing(width: int = 64) -> Figure:
    """The scores of four and of eight tokens as squares; the bytes of scores, keys and values against the length."""
    figure, (left, right) = new_figure(10, 3.6, ncols=2, width_ratios=[1, 1.15])
    left.set(xlim=(-0.5, 14), ylim=(-1.8, 8.6), aspect="equal")
    left.set_axis_off()
    for start, n in ((0, 4), (5.5, 8)):
        squares(left, start, 0, n, n, GREY)
        left.text(start + n / 2, -0.9, f"{n} tokens: {n * n} scores", ha="center", va="center", fontsize=9)
    n = 2.0 ** np.arange(8, 21)
    for label, amount, colour in (("scores", 4 * n**2, GREY), ("keys and values", 4 * 2 * width * n, KEY)):
        right.plot(n, amount, color=colour, linewidth=2.2, label=label)
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    at = 2.0**16
    for amount, text, y in ((4 * at**2, "17 GB", 1.6), (4 * 2 * width * at, "34 MB", 0.25)):
        right.plot(at, amount, "o", color=DARK, markersize=4)
        right.text(
            at * (1.15 if y < 1 else 0.8), amount * y, text, fontsize=9, ha="left" if y < 1 else "right", va="center"
        )
    right.set_yticks([1e6, 1e9, 1e12], ["1 MB", "1 GB", "1 TB"])
    right.set_xticks([2**8, 2**12, 2**16, 2**20], ["256", "4,096", "65,536", "1,048,576"])
    right.minorticks_off()
    right.set(xlabel="tokens", ylabel="one head, float32")
    right.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def roofline() -> Figure:
    """Weights used once and three times; what an H100 reaches at each intensity, and where this chapter's work lies."""
    figure, (left, right) = new_figure(11, 4.0, ncols=2, width_ratios=[1, 1.5])
    left.set(xlim=(0, 10), ylim=(0, 9), aspect="equal")
    left.set_axis_off()
    for y, tokens, n_ops, ratio in ((6.3, [(5, 6)], 8, "1"), (2.4, [(5, 6), (1, 0), (2, 2)], 24, "3")):
        boxes(left, 0.3, y + 0.45, [1, 2], GREY, 0.9)
        boxes(left, 0.3, y - 0.45, [3, 4], GREY, 0.9)
        left.text(2.6, y, "×", ha="center", va="center", fontsize=13)
        for i, token in enumerate(tokens):
            boxes(left, 3.1 + 1.1 * i, y + 0.45, [token[0]], QUERY, 0.9)
            boxes(left, 3.1 + 1.1 * i, y - 0.45, [token[1]], QUERY, 0.9)
        many = "1 token" if len(tokens) == 1 else f"{len(tokens)} tokens"
        write(left, 0.3, y + 1.75, f"{many}: {n_ops} operations, 8 bytes of weights", ha="left", fontsize=9)
        write(left, 8.1, y, f"{ratio} operation{'s' if ratio != '1' else ''}\na byte", fontweight="bold", fontsize=9)
    intensity = np.logspace(-0.5, 4, 200)
    right.plot(intensity, np.minimum(PEAK, BANDWIDTH * intensity) / 1e12, color=DARK, linewidth=2)
    ridge = PEAK / BANDWIDTH
    right.axvline(ridge, color="0.8", linewidth=1, linestyle="--", zorder=0)
    right.text(ridge * 1.1, 1.6, f"{ridge:.0f}", color=GREY, fontsize=9)
    points = [  # intensity, text, colour, where the text stands relative to the point
        (1, "decode, one text;\nattention, a head each", KEY, (8, -14), "left"),
        (8, "attention, 8 heads\nto one of keys", QUERY, (8, -14), "left"),
        (64, "decode,\n64 texts", GREY, (8, -16), "left"),
        (2 * 128 * (576 + 512) / (2 * 576), "latent attention,\n128 heads", LATENT, (-6, 6), "right"),
        (2048, "prefill,\n2,048 tokens", WEIGHT, (0, -28), "center"),
    ]
    for x, text, colour, offset, side in points:
        y = min(PEAK, BANDWIDTH * x) / 1e12
        right.plot(x, y, "o", color=colour, markersize=8, markeredgecolor="white")
        right.annotate(text, (x, y), xytext=offset, textcoords="offset points", fontsize=8, color=colour, ha=side)
    right.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="10¹² operations a second, at most",
              ylim=(0.7, 4000))  # fmt: skip
    right.set_xticks([1, 10, 100, 1000, 10000], ["1", "10", "100", "1,000", "10,000"])
    right.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    right.minorticks_off()
    return figure


def growth() -> Figure:
    """Bytes kept by 48 layers against the length: all full, two hybrids, states alone."""
    figure, axes = new_figure(7.4, 4.0)
    n = np.logspace(2, 6.1, 200)
    a_token, state, window = 2 * 2 * 256 * 2, 32 * 128 * 128 * 2, 1024  # bytes of one layer
    ways = [  # label, bytes, colour, style
        ("48 full", 48 * a_token * n, KEY, "-"),
        ("8 full, 40 with a window of 1,024", 8 * a_token * n + 40 * a_token * np.minimum(n, window), GREY, "-"),
        ("12 full, 36 with states", 12 * a_token * n + 36 * state, DARK, "-"),
        ("48 with states", np.full_like(n, 48.0 * state), STATE, "-"),
    ]
    for label, amount, colour, style in ways:
        axes.plot(n, amount, style, color=colour, linewidth=2.2, label=label)
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="kept in all, 16 bits", xlim=(100, 1.3e6))
    axes.set_xticks([1e2, 1e3, 1e4, 1e5, 1e6], ["100", "1,000", "10,000", "100,000", "1,000,000"])
    axes.set_yticks([1e7, 1e8, 1e9, 1e10, 1e11], ["10 MB", "100 MB", "1 GB", "10 GB", "100 GB"])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    return figure
