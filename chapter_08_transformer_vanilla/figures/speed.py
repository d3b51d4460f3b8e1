"""What a cache of keys and values saves, and what it costs.
键值缓存省下什么，又要付出什么。
"""

from chapter_07_attention_mechanism.figures.cells import GREY
from chapter_08_transformer_vanilla.figures import READ
from utils.plotting import new_figure

from matplotlib.figure import Figure


def draw_decoding(rows: list[dict]) -> Figure:
    """Draw the time to decode and the bytes of the cache against the number of tokens; a row for each length."""
    figure, (left, right) = new_figure(9.5, 3.3, ncols=2)
    lengths = [row["length"] for row in rows]
    for name, colour, label in (("whole", GREY, "everything anew"), ("cached", READ, "with a cache")):
        left.plot(lengths, [1e3 * row[f"{name}_seconds"] for row in rows], "o-", ms=4, color=colour, label=label)
    right.plot(lengths, [row["cache_bytes"] / 1e3 for row in rows], "o-", ms=4, color=READ)
    left.set(yscale="log", xlabel="tokens written", ylabel="time (ms)")
    left.set_xscale("log", base=2)
    left.set_xticks(lengths, map(str, lengths))
    left.legend(frameon=False)
    right.set(xlabel="tokens written", ylabel="keys and values kept (kB)", ylim=(0, None))
    return figure
