"""What a memory holds: recall against bytes and against the number of pairs, and who can count parity.
记忆能装下什么：回忆准确率随字节数与键值对数目的变化，以及谁能跟踪奇偶性。
"""

from chapter_07_attention_mechanism.figures.cells import DARK, GREY
from chapter_09_efficient_attention.figures import STATE, WEIGHT
from utils.plotting import COLOURS, new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

STYLES = {  # a mechanism's name in the results: what is written beside it, colour, marker
    "mha": ("softmax", WEIGHT, "^"),
    "local": ("window", COLOURS[2], "D"),
    "linear": ("linear", GREY, "o"),
    "mamba2": ("one gate (Mamba-2)", COLOURS[5], "v"),
    "gla": ("a gate a channel (GLA)", COLOURS[0], "p"),
    "delta": ("delta rule", STATE, "s"),
    "gated_delta": ("gated delta rule", COLOURS[1], "P"),
    "signed_delta": ("gated, rates up to 2", COLOURS[3], "X"),
    "hybrid": ("delta and softmax", DARK, "*"),
}


def draw_capacity(final: dict) -> Figure:
    """Recall of the most pairs against the bytes kept; recall against the pairs, small memory; parity by mechanism."""
    figure, (left, middle, right) = new_figure(12.6, 4.6, ncols=3, width_ratios=[1.15, 1, 0.9])
    mechanisms = [name for name in STYLES if any(key.startswith(f"recall_{name}_") for key in final)]
    pairs = sorted(int(key.removeprefix("recall_most_frequent_")) for key in final if "most_frequent" in key)
    for name in mechanisms:
        sizes = [size for size in ("small", "large") if f"recall_{name}_{size}_{pairs[0]}" in final]
        recall_by_bytes(left, final, name, sizes, pairs[-1])
        label, colour, marker = STYLES[name]
        values = [final[f"recall_{name}_{sizes[0]}_{n}"] for n in pairs]
        middle.plot(pairs, values, marker=marker, color=colour, markersize=6, label=label)
    middle.plot(
        pairs, [final[f"recall_most_frequent_{n}"] for n in pairs], ":", color=GREY, label="most frequent value"
    )
    left.axhline(final[f"recall_most_frequent_{pairs[-1]}"], color=GREY, linestyle=":", linewidth=1)
    left.set(xscale="log", xlabel=f"kept after {pairs[-1]} pairs (kB)", ylabel=f"right of {pairs[-1]} pairs")
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:g}")
    left.minorticks_off()
    middle.set_xscale("log", base=2)
    middle.set_xticks(pairs, map(str, pairs))
    middle.set(xlabel="pairs of key and value", ylabel="right, small memories")
    for axes in (left, middle):
        axes.set_ylim(-0.03, 1.05)
    figure.legend(*middle.get_legend_handles_labels(), frameon=False, fontsize=8, ncols=5, loc="outside lower center")
    parity_bars(right, final)
    return figure


def recall_by_bytes(axes: Axes, final: dict, name: str, sizes: list[str], n_pairs: int) -> None:
    """Draw a mechanism's sizes of memory as points, their spread as bars, with a line between them."""
    label, colour, marker = STYLES[name]
    keys = [f"recall_{name}_{size}_{n_pairs}" for size in sizes]
    kilobytes, right = [final[f"{key}_bytes"] / 1000 for key in keys], [final[key] for key in keys]
    spread = [final[f"{key}_std"] for key in keys]
    axes.errorbar(kilobytes, right, spread, marker=marker, color=colour, markersize=8, linewidth=1, label=label)


def parity_bars(axes: Axes, final: dict) -> None:
    """Draw for each mechanism the share of right parities at the longest trained length, and at the untrained one."""
    names = [name for name in STYLES if f"parity_{name}_solved" in final]
    if not names:
        return
    found = [key.removeprefix(f"parity_{names[0]}_") for key in final if key.startswith(f"parity_{names[0]}_")]
    lengths = sorted(int(text) for text in found if text.isdigit())[-2:]
    for y, name in enumerate(reversed(names)):
        colour = STYLES[name][1]
        ends = [final[f"parity_{name}_{length}"] for length in lengths]
        axes.plot(ends, [y, y], color=colour, linewidth=1.2, alpha=0.5)
        axes.plot(ends[0], y, "o", color="white", markeredgecolor=colour, markersize=7)
        axes.plot(ends[-1], y, "o", color=colour, markersize=7)
    axes.axvline(final["parity_chance"], color=GREY, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(names)), [STYLES[name][0] for name in reversed(names)], fontsize=8)
    axes.set(xlim=(0.4, 1.03), xlabel=f"right parities: ring {lengths[0]} bits, dot {lengths[-1]}")
    axes.grid(False, axis="y")
