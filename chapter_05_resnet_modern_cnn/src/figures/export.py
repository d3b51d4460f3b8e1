"""The figure of export.py: how large the files are, and how long they take.
export.py 的图：各文件的大小与用时。
"""

from utils.plotting import COLOURS, new_figure

from matplotlib.figure import Figure

GREY, (BLUE, ORANGE, GREEN, _, _, LIGHT_BLUE) = "#808080", COLOURS
COLOUR_OF = {"eager": GREY, "float32": BLUE, "static": LIGHT_BLUE, "folded": GREEN, "bfloat16": ORANGE}


def sizes_and_times(final: dict, names: list[str]) -> Figure:
    """Draw the sizes of the files, and how long one picture and a batch of them take."""
    figure, axes = new_figure(10, 0.36 * len(names) + 0.8, ncols=3, sharey=True)
    many = final["batch_size"]
    panels = {
        "bytes": (1e-6, "size of the file (MB)"),
        "latency_1": (1e3, "time for 1 picture (ms)"),
        f"latency_{many}": (1e3, f"time for {many} pictures (ms)"),
    }
    for ax, (fact, (factor, title)) in zip(axes, panels.items(), strict=True):
        values = [final.get(f"{name}_{fact}", 0) * factor for name in names]
        bars = ax.barh(range(len(names)), values, color=[COLOUR_OF[name.split("_")[0]] for name in names])
        ax.bar_label(bars, [f"{value:.3g}" if value else "-" for value in values], padding=3, fontsize=9)
        ax.set(title=title, xticks=[], xlim=(0, 1.2 * max(values)))
        ax.spines["bottom"].set_visible(False)
        ax.grid(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()  # the first at the top
    return figure
