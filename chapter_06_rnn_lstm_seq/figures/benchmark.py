"""How long three ways to solve one recurrence take, by the width of a step.
求解同一递推的三种方法各需多少时间，随每步的宽度变化。
"""

from chapter_06_rnn_lstm_seq.scan import WIDE
from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure

WAYS = {
    "definition": ("definition: new tensors in each step", "black"),
    "step_by_step": ("step by step, in place", COLOURS[0]),
    "merge_pairs": ("tree of merged pairs", COLOURS[1]),
}


def draw_scan(table: list[dict]) -> Figure:
    """Draw time against width; `table` holds a row for each width, with the seconds of each of WAYS."""
    figure, axes = new_figure(6.5, 4)
    widths = [row["width"] for row in table]
    for name, (label, colour) in WAYS.items():
        seconds = [row[f"{name}_seconds"] for row in table]
        axes.plot(widths, [1e3 * s for s in seconds], "o-", markersize=4, color=colour, label=label)
    axes.axvline(WIDE, color="grey", linestyle=":", linewidth=1)
    low = axes.get_xaxis_transform()
    axes.text(WIDE, 0.02, " from here on, scan goes step by step", transform=low, color="grey", fontsize=8)
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", xlabel="width of a step: sequences × hidden units", ylabel="time (ms)")
    axes.legend(frameon=False, fontsize=9)
    return figure
