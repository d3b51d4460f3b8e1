"""What is read above, what is written below, and a ribbon from each piece to every piece that was looked at for it.
上面是读到的，下面是写出的，每一条带子连接写出的片段与书写时所看的片段。
"""

from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from chapter_07_attention_mechanism.figures.attention import LONGEST, shorten
from chapter_07_attention_mechanism.figures.cells import KEY, QUERY, WEIGHT, write
from utils.plotting import new_figure

from matplotlib.axes import Axes
from matplotlib.figure import Figure

FAINTEST = 0.05  # weights below this are not drawn


def ribbons(panels: list[tuple[list[str], list[str], Tensor]]) -> Figure:
    """Draw a row for each (pieces read, pieces written, weights (T, S)); a ribbon is as wide as its weight."""
    figure, rows = new_figure(9.5, 1.9 * len(panels), nrows=len(panels), squeeze=False)
    for axes, (read, written, weights) in zip(rows[:, 0], panels, strict=True):
        read, written, weights = shorten(read), shorten(written), weights[:LONGEST, :LONGEST]
        axes.set(xlim=(-0.5, 0.5), ylim=(-0.12, 1.12))
        axes.set_axis_off()
        longest = max(width_of(read), width_of(written))
        above, below = centres(read, longest), centres(written, longest)
        for pieces, places, y, colour in ((read, above, 1.0, KEY), (written, below, 0.0, QUERY)):
            for piece, x in zip(pieces, places, strict=True):
                write(axes, x, y, piece, color=colour, fontsize=10, fontweight="bold", parse_math=False)
        for t, s in torch.nonzero(weights > FAINTEST).tolist():
            ribbon(axes, (above[s], 0.86), (below[t], 0.14), weights[t, s].item())
    return figure


def width_of(pieces: list[str]) -> float:
    """Return about how wide a line of text is, in letters; the pieces of a line of single letters stand apart too."""
    return sum(max(2.0, len(piece) + 1.0) for piece in pieces)


def centres(pieces: list[str], longest: float) -> list[float]:
    """Return where each piece of a line stands, from -0.5 to 0.5; a short line takes more room than its share."""
    own = width_of(pieces)
    scale = (own / longest) ** 0.5 / max(own, 1.0)  # the longest line fills the whole width
    ends = list(accumulate((width_of([piece]) for piece in pieces), initial=0.0))
    return [scale * ((a + b) / 2 - own / 2) for a, b in zip(ends, ends[1:], strict=False)]


def ribbon(axes: Axes, start: tuple[float, float], end: tuple[float, float], weight: float) -> None:
    """Draw a curve that leaves and arrives vertically."""
    t = np.linspace(0, 1, 40)
    bend = t**3 * (t * (6 * t - 15) + 10)  # from 0 to 1, level at both ends
    x, y = start[0] + (end[0] - start[0]) * bend, start[1] + (end[1] - start[1]) * t
    axes.plot(x, y, color=WEIGHT, linewidth=7 * weight, alpha=0.25 + 0.6 * weight, solid_capstyle="butt")
