"""How time and memory of attention grow with the length.
注意力的时间与内存随长度的变化。
"""

from chapter_07_attention_mechanism.figures.cells import WEIGHT
from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure

STYLES = {
    "scaled_dot_product": ("softmax(q k / √d) v, written out", WEIGHT, "-"),
    "fused": ("PyTorch's kernel, our masks", COLOURS[0], "-"),
    "torch": ("F.scaled_dot_product_attention", "black", ":"),
    "local": ("window of 16", COLOURS[2], "-"),
    "additive": ("additive", COLOURS[1], "-"),
    "luong": ("Luong, general", COLOURS[4], "-"),
}


def draw_growth(rows: list[dict]) -> Figure:
    """Draw seconds and bytes, forwards and backwards, against the length; a row for each length."""
    figure, panels = new_figure(10, 3.9, ncols=2)
    lengths = [row["length"] for row in rows]
    for axes, (unit, label, factor) in zip(
        panels, [("seconds", "time (ms)", 1e3), ("bytes", "peak memory (MB)", 1e-6)], strict=True
    ):
        for name, (text, colour, line) in STYLES.items():
            drawn = [row for row in rows if f"{name}_{unit}" in row]  # some stop at a shorter length
            values = [factor * row[f"{name}_{unit}"] for row in drawn]
            axes.plot([row["length"] for row in drawn], values, line, marker="o", ms=3, color=colour, label=text)
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths, map(str, lengths))
        axes.set(yscale="log", xlabel="length of the sequence (tokens)", ylabel=label)
    panels[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
