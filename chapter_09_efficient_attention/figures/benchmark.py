"""How time and memory of each mechanism grow with the length.
各机制的时间与内存随长度的变化。
"""

from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure

STYLES = {
    "softmax": ("softmax, written out", "0.5", "-"),
    "torch": ("PyTorch's kernel", "black", ":"),
    "flash": ("flash, our tiles", COLOURS[0], "-"),
    "local": ("window", COLOURS[2], "-"),
    "linear": ("linear", COLOURS[1], "-"),
    "gated": ("one gate", COLOURS[4], "-"),
    "channel_gates": ("a gate for each channel", COLOURS[4], "--"),
    "delta": ("gated delta rule", COLOURS[3], "-"),
}


def draw_growth(rows: list[dict]) -> Figure:
    """Draw seconds and bytes, forwards and backwards, against the length; a row for each length."""
    figure, panels = new_figure(10, 4.2, ncols=2)
    lengths = [row["length"] for row in rows]
    units = [("seconds", "time (ms)", 1e3), ("bytes", "peak memory (MB)", 1e-6)]
    for axes, (unit, label, factor) in zip(panels, units, strict=True):
        for name, (text, colour, line) in STYLES.items():
            drawn = [row for row in rows if f"{name}_{unit}" in row]  # some stop at a shorter length
            values = [factor * row[f"{name}_{unit}"] for row in drawn]
            axes.plot([row["length"] for row in drawn], values, line, marker="o", ms=3, color=colour, label=text)
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths, [f"{n / 1024:g}k" if n >= 1024 else str(n) for n in lengths])
        axes.set(yscale="log", xlabel="length of the sequence (tokens)", ylabel=label)
    panels[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
