"""Lay out a graph in rows and columns, so that every arrow points down and none runs through a box.
将有向图按行列布局：所有箭头向下，且不穿过任何方框。

A simple relative of the method of Sugiyama, Tagawa and Toda (1981): give each box a row, then a column, then draw. An
arrow over several rows gets a bend in each row between, and a bend takes a place like a box.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise

Edge = tuple[Hashable, Hashable]
Point = tuple[float, float]


@dataclass
class Layout:
    """Where things are: x to the right and y down, from (0, 0), in the unit of the boxes' sizes.

    `routes[i]` belongs to `edges[i]`. It starts on the lower rim of one box and ends on the upper rim of another; its
    pieces are, in turn, straight down past the boxes of a row, and across the gap to the next row.
    """

    rows: dict[Hashable, int]
    centres: dict[Hashable, Point]
    routes: list[list[Point]]
    width: float
    height: float


def layered(
    sizes: Mapping[Hashable, Point], edges: Sequence[Edge], gaps: Point = (30, 40), port_gap: float = 20
) -> Layout:
    """Place boxes of the given (width, height), by name.

    Args:
        edges: pairs (from, to), without a cycle. Of the boxes that lead to the same box, the one at the end of the
            longest path stands above it, and the others to the right, in the order of their edges.
        gaps: the space between columns, and between rows.
        port_gap: the distance at which arrows leave or reach the same box.
    """
    row_of, depth = assign_rows(sizes, edges)
    paths = [  # each edge by way of its bends, which are pairs (edge, row)
        [a, *((i, row) for row in range(row_of[a] + 1, row_of[b])), b] for i, (a, b) in enumerate(edges)
    ]
    column = assign_columns(row_of, depth, paths)

    pitch = max(width for width, _ in sizes.values()) + gaps[0]
    x = {node: (column[node] + 0.5) * pitch - gaps[0] / 2 for node in column}
    top, bottom, y = [], [], 0.0
    for row in range(max(row_of.values()) + 1):
        top.append(y)
        bottom.append(y + max(sizes[node][1] for node in sizes if row_of[node] == row))
        y = bottom[-1] + gaps[1]
    centres = {node: (x[node], (top[row_of[node]] + bottom[row_of[node]]) / 2) for node in sizes}

    routes = []
    for (a, _), path in zip(edges, paths, strict=True):
        steps = enumerate(path, start=row_of[a])
        routes.append([(x[node], y) for row, node in steps for y in (top[row], bottom[row])])
    spread_ports(routes, edges, sizes, centres, port_gap)
    return Layout(row_of, centres, routes, (max(column.values()) + 1) * pitch - gaps[0], bottom[-1])


def assign_rows(nodes: Mapping, edges: Sequence[Edge]) -> tuple[dict[Hashable, int], dict[Hashable, int]]:
    """Return each node's row, as low as what follows allows, and how many edges the longest path to it has."""
    before, after = ({node: [] for node in nodes} for _ in range(2))
    for a, b in edges:
        before[b].append(a)
        after[a].append(b)
    order = list(TopologicalSorter(before).static_order())
    depth, height = {}, {}
    for node in order:
        depth[node] = max((depth[a] + 1 for a in before[node]), default=0)
    for node in reversed(order):
        height[node] = max((height[b] + 1 for b in after[node]), default=0)
    return {node: max(height.values()) - height[node] for node in nodes}, depth


def assign_columns(row_of: Mapping, depth: Mapping, paths: Sequence[list]) -> dict[Hashable, int]:
    """Give each box and bend a column, from the last row upwards: that of what it leads to, or the next free one.

    In each row the ends of longer paths choose first, so the longest path becomes a straight trunk.
    """
    rows = [[node for node in row_of if row_of[node] == row] for row in range(max(row_of.values()) + 1)]
    below, rank = {}, dict(depth)
    for path in paths:
        for step, (node, following) in enumerate(pairwise(path)):
            if step:  # a bend
                rows[row_of[path[0]] + step].append(node)
                rank[node] = depth[path[0]]
            below.setdefault(node, following)
    column: dict[Hashable, int] = {}
    for row in reversed(rows):
        taken = set()
        for node in sorted(row, key=lambda node: -rank[node]):  # stable: equals keep their order
            wanted = column.get(below.get(node), 0)
            while wanted in taken:
                wanted += 1
            taken.add(wanted)
            column[node] = wanted
    return column


def spread_ports(
    routes: list[list[Point]], edges: Sequence[Edge], sizes: Mapping, centres: Mapping, port_gap: float
) -> None:
    """Let the arrows at one rim of a box stand side by side, in the order of where they come from or go to."""
    for end, other, outer, inner, rim in (0, 2, 0, 1, 0.5), (1, -3, -1, -2, -0.5):
        for node, (width, height) in sizes.items():
            mine = [i for i, edge in enumerate(edges) if edge[end] == node]
            mine.sort(key=lambda i: routes[i][other][0])
            gap = min(port_gap, width / (2 * len(mine) or 1))
            straight = next((k for k, i in enumerate(mine) if routes[i][other][0] == centres[node][0]), 0)
            for k, i in enumerate(mine):
                across = centres[node][0] + gap * (k - straight)
                routes[i][inner] = (across, routes[i][inner][1])
                routes[i][outer] = (across, centres[node][1] + rim * height)
