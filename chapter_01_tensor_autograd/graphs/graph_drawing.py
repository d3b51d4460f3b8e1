"""Draw a computation graph, values and gradients in its boxes: as Graphviz source, and with matplotlib alone.
绘制计算图，方框中同时显示数值与梯度：可输出 Graphviz 源文件，也可只用 matplotlib 绘制。
"""

from dataclasses import dataclass
from html import escape

import graphviz
import numpy as np

from chapter_01_tensor_autograd.graphs.graph_layout import Point, layered
from utils.plotting import COLOURS

from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath

KINDS = {"input": "#6A5AA8", "parameter": "#00795A", "operation": "#47545F", "loss": "#B02A4A"}
VALUE, GRADIENT = COLOURS[:2]

# In points, 72 to the inch; the axes use the same unit, so that texts have the size that the layout thinks they have.
CELL, BAND, PAD, BETWEEN, FONT = (28, 12.5), 15, 4, 9, 8
MARGIN, HEADER, APART = 14, 68, 2.6


@dataclass
class Box:
    """A node: what made it, what it is called, its value and gradient where known, and what it keeps for the way back.

    The arrays are written out number by number, so they should be small.
    """

    kind: str  # a key of KINDS
    title: str
    note: str = ""
    value: np.ndarray | None = None
    gradient: np.ndarray | None = None
    keeps: str = ""


@dataclass
class Arrow:
    """An edge along which a value flows from `start` to `end`, and a gradient back; `rule` says how it is made."""

    start: str
    end: str
    rule: str = ""


@dataclass
class Graph:
    title: str
    boxes: dict[str, Box]
    arrows: list[Arrow]


def tables(box: Box) -> list[tuple[np.ndarray, str]]:
    """The arrays that a box shows, as matrices, each with its colour."""
    pairs = (box.value, VALUE), (box.gradient, GRADIENT)
    return [(np.atleast_2d(array), colour) for array, colour in pairs if array is not None]


def peaks(graph: Graph) -> dict[str, float]:
    """The largest number in the graph of each colour: it gets the full tint."""
    sizes = {VALUE: [1e-300], GRADIENT: [1e-300]}
    for box in graph.boxes.values():
        for array, colour in tables(box):
            sizes[colour].append(np.abs(array).max())
    return {colour: max(found) for colour, found in sizes.items()}


def tint(number: float, colour: str, peak: float) -> str:
    """White for 0, and the more colour the larger the number, up to a shade that black text can be read on."""
    share = 0.6 * np.sqrt(abs(number) / peak)
    return to_hex(1 - share * (1 - np.array(to_rgb(colour))))


def number(value: float) -> str:
    return f"{value:.2f}" if value else "0"


# ---- Graphviz -------------------------------------------------------------------------------------------------------


def to_graphviz(graph: Graph) -> graphviz.Digraph:
    """Describe the graph in Graphviz's language: boxes are HTML-like tables, arrows carry two colours."""
    font = {"fontname": "Helvetica,Arial,sans-serif", "fontsize": "10"}
    dot = graphviz.Digraph(
        graph_attr=font | {"label": graph.title, "labelloc": "t", "fontsize": "16", "ranksep": "0.35", "dpi": "110"},
        node_attr=font | {"shape": "plain"},
        edge_attr=font | {"dir": "both", "color": f"{VALUE}:{GRADIENT}", "arrowsize": "0.6", "fontcolor": GRADIENT},
    )
    peak = peaks(graph)
    for name, box in graph.boxes.items():
        dot.node(name, f"<{_html(box, peak)}>")
    for arrow in graph.arrows:
        weight = "1" if graph.boxes[arrow.start].kind == "parameter" else "50"  # heavy edges are kept straight
        dot.edge(arrow.start, arrow.end, label=f" {arrow.rule}" if arrow.rule else None, weight=weight)
    return dot


def _html(box: Box, peak: dict[str, float]) -> str:
    blank = '<TD WIDTH="9"></TD>'
    shown = tables(box)
    lines = [
        blank.join(
            "".join(f'<TD WIDTH="34" BGCOLOR="{tint(v, colour, peak[colour])}">{number(v)}</TD>' for v in array[i])
            for array, colour in shown
        )
        for i in range(len(shown[0][0]) if shown else 0)
    ]
    columns = sum(array.shape[1] for array, _ in shown) + len(shown) - 1
    head = f'<FONT COLOR="white"><B>{escape(box.title)}</B>  {escape(box.note)}</FONT>'
    head = f'<TD COLSPAN="{max(columns, 1)}" BGCOLOR="{KINDS[box.kind]}">{head}</TD>'
    foot = f'<FONT POINT-SIZE="9" COLOR="#666666">keeps {escape(box.keeps)}</FONT>'
    foot = f'<TD COLSPAN="{max(columns, 1)}" ALIGN="LEFT">{foot}</TD>'
    rows = "".join(f"<TR>{line}</TR>" for line in [head, *lines, *[foot] * bool(box.keeps)])
    return f'<TABLE BORDER="1" COLOR="{KINDS[box.kind]}" CELLBORDER="0" CELLSPACING="0" CELLPADDING="3">{rows}</TABLE>'


# ---- matplotlib -----------------------------------------------------------------------------------------------------


def draw_graph(graph: Graph) -> Figure:
    """Draw the graph from the top downwards, without Graphviz."""
    needed = {name: box_size(box) for name, box in graph.boxes.items()}
    widest = max(width for width, _ in needed.values())
    sizes = {name: (widest, height) for name, (_, height) in needed.items()}  # so columns of boxes are straight
    layout = layered(sizes, [(arrow.start, arrow.end) for arrow in graph.arrows], gaps=(24, 25), port_gap=24)
    width = max(layout.width, 390) + 2 * MARGIN
    height = layout.height + HEADER + MARGIN
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    left, top = (layout.width - width) / 2, -HEADER
    axes.set(xlim=(left, left + width), ylim=(top + height, top))
    axes.axis("off")

    axes.text(left + MARGIN, top + 20, graph.title, fontsize=13, weight="bold", va="center")
    _legend(axes, left + MARGIN, top + 37, {box.kind for box in graph.boxes.values()})
    for arrow, route in zip(graph.arrows, layout.routes, strict=True):
        _draw_arrow(axes, route, arrow.rule)
    peak = peaks(graph)
    for name, box in graph.boxes.items():
        _draw_box(axes, box, layout.centres[name], sizes[name], peak)
    return figure


def text_width(text: str, weight: str = "normal") -> float:
    return TextPath((0, 0), text, size=FONT, prop={"weight": weight}).get_extents().x1 if text.strip() else 0.0


def box_size(box: Box) -> Point:
    """The width and height, in points, that a box needs for its texts and numbers."""
    shown = [array.shape for array, _ in tables(box)]
    inside = 2 * max((columns for _, columns in shown), default=0) * CELL[0] + BETWEEN
    head = text_width(box.title, "bold") + text_width(box.note) + 12
    height = BAND + max((rows for rows, _ in shown), default=0) * CELL[1] + (BAND - 4) * bool(box.keeps) + 2 * PAD
    return max(head, inside, text_width(f"keeps {box.keeps}")) + 2 * PAD, height


def _draw_box(axes, box: Box, centre: Point, size: Point, peak: dict[str, float]) -> None:
    (width, height), colour = size, KINDS[box.kind]
    left, top = centre[0] - width / 2, centre[1] - height / 2
    shape = {"boxstyle": "round,pad=0,rounding_size=3", "facecolor": colour, "edgecolor": colour}
    axes.add_patch(FancyBboxPatch((left, top), width, height, **shape))
    axes.add_patch(Rectangle((left, top + BAND), width, height - BAND - 2, facecolor="white", linewidth=0))
    text = {"fontsize": FONT, "va": "center_baseline"}
    axes.text(left + PAD + 1, top + BAND / 2, box.title, color="white", weight="bold", **text)
    axes.text(left + width - PAD - 1, top + BAND / 2, box.note, color="white", ha="right", **text)
    if box.keeps:
        axes.text(left + PAD, top + height - 7.5, f"keeps {box.keeps}", color="0.4", **text | {"fontsize": FONT - 1})
    for (array, shade), start in zip(tables(box), (left + PAD, centre[0] + BETWEEN / 2), strict=False):
        for (i, j), value in np.ndenumerate(array):
            corner = (start + j * CELL[0], top + BAND + PAD - 1 + i * CELL[1])
            paint = tint(value, shade, peak[shade])
            axes.add_patch(Rectangle(corner, *CELL, facecolor=paint, edgecolor="white", linewidth=1))
            middle = (corner[0] + CELL[0] / 2, corner[1] + CELL[1] / 2)
            axes.text(*middle, number(value), ha="center", color="black" if value else "0.6", **text)


def _draw_arrow(axes, route: list[Point], rule: str) -> None:
    """The value's arrow down, the gradient's beside it up, and the rule beside its head."""
    for colour, shift, style in (VALUE, -APART, "-|>"), (GRADIENT, APART, "<|-"):
        points, codes = [route[0]], [Path.MOVETO]
        for k, ((x0, y0), (x1, y1)) in enumerate(zip(route, route[1:], strict=False)):
            if k % 2:  # across a gap, an S that starts and ends upright and so stays inside the gap
                points += [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)]
                codes += [Path.CURVE4] * 3
            elif y1 - y0 > 0.01:  # the tallest box of a layer reaches the gap itself
                points.append((x1, y1))
                codes.append(Path.LINETO)
        path = Path([(x + shift, y) for x, y in points], codes)
        axes.add_patch(
            FancyArrowPatch(path=path, arrowstyle=style, color=colour, linewidth=1.1, mutation_scale=7, shrinkA=0)
        )
    (x, _), (_, y), (next_x, _) = route[:3]
    side = 1 if next_x < x else -1  # where the curve does not go
    align = "left" if side > 0 else "right"
    axes.text(x + side * 7, y + 9, rule, color=GRADIENT, fontsize=FONT - 0.5, ha=align, va="center_baseline")


def _legend(axes, x: float, y: float, kinds: set[str]) -> None:
    x_left = x
    for kind, colour in KINDS.items():
        if kind in kinds:
            axes.add_patch(Rectangle((x, y - 4), 8, 8, facecolor=colour))
            axes.text(x + 11, y, kind, fontsize=FONT, va="center")
            x += 22 + text_width(kind)
    for text, colour, style in ("value", VALUE, "-|>"), ("gradient of L", GRADIENT, "<|-"):
        arrow = FancyArrowPatch((x + 3, y - 6), (x + 3, y + 6), arrowstyle=style, color=colour, mutation_scale=7)
        axes.add_patch(arrow)
        axes.text(x + 9, y, text, fontsize=FONT, va="center", color=colour)
        x += 20 + text_width(text)
    note = "g: the gradient that arrives in the box below        keeps: what is saved for the way back"
    axes.text(x_left, y + 15, note, fontsize=FONT, va="center", color="0.35")
