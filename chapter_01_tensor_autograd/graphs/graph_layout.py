"""Lay out a graph in layers, so that every arrow points down and none runs through a box.
将有向图分层布局：所有箭头向下，且不穿过任何方框。

After Sugiyama, Tagawa and Toda (1981): give each box a layer, order each layer so that few arrows cross, and only then
choose coordinates. An arrow over several layers gets a bend in each layer between, and boxes make room for bends.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import combinations, pairwise

Edge = tuple[Hashable, Hashable]
Point = tuple[float, float]
Steps = dict[Edge, int]  # pairs of nodes in neighbouring layers -> the length of the longest way through them


@dataclass
class Layout:
    """Where things are: x to the right and y down, from (0, 0), in the unit of the boxes' sizes.

    `routes[i]` belongs to `edges[i]`. It starts on the lower rim of one box and ends on the upper rim of another; its
    pieces are, in turn, straight down past the boxes of a layer, and across the gap to the next layer.
    """

    layers: dict[Hashable, int]
    centres: dict[Hashable, Point]
    routes: list[list[Point]]
    width: float
    height: float


def layered(
    sizes: Mapping[Hashable, Point], edges: Sequence[Edge], gaps: Point = (30, 40), port_gap: float = 20
) -> Layout:
    """Place boxes of the given (width, height), by name.

    Args:
        edges: pairs (from, to), without a cycle. Boxes that lead to the same box stand in the order of their edges,
            unless that makes arrows cross.
        gaps: the space between neighbours in a layer, and between layers.
        port_gap: the distance at which arrows leave or reach the same box.
    """
    layers, lengths = assign_layers(sizes, edges)
    ways = [
        [a, *((i, layer) for layer in range(layers[a] + 1, layers[b])), b]  # the tuples are bends
        for i, (a, b) in enumerate(edges)
    ]
    steps: Steps = {}
    for way, length in zip(ways, lengths, strict=True):
        for step in pairwise(way):
            steps[step] = max(length, steps.get(step, 0))

    layer_of = {node: layers[way[0]] + k for way in ways for k, node in enumerate(way)} | layers
    rows = [[node for node in layer_of if layer_of[node] == k] for k in range(max(layer_of.values()) + 1)]
    rows = order_rows(rows, list(steps))
    size = {node: sizes.get(node, (port_gap, 0.0)) for row in rows for node in row}
    x = place_columns(rows, steps, {node: w for node, (w, _) in size.items()}, gaps[0])

    top, bottom, y = {}, {}, 0.0
    for row in rows:
        height = max(size[node][1] for node in row)
        top |= dict.fromkeys(row, y)
        bottom |= dict.fromkeys(row, y + height)
        y += height + gaps[1]
    centres = {node: (x[node], (top[node] + bottom[node]) / 2) for node in sizes}

    routes = [[(x[node], y) for node in way for y in (top[node], bottom[node])] for way in ways]
    for end, rim in (0, 0.5), (-1, -0.5):  # where it starts, and where it ends
        for node in sizes:
            mine = [i for i, way in enumerate(ways) if way[end] == node]
            mine.sort(key=lambda i: x[ways[i][1 if end == 0 else -2]])
            main = max(mine, key=lambda i: lengths[i], default=None)
            room = min(port_gap, size[node][0] / (2 * len(mine) or 1))
            for rank, i in enumerate(mine):
                across = x[node] + room * (rank - mine.index(main))
                inner, outer = (1, 0) if end == 0 else (-2, -1)
                routes[i][inner] = (across, routes[i][inner][1])
                routes[i][outer] = (across, centres[node][1] + rim * size[node][1])
    return Layout(layers, centres, routes, max(x[n] + size[n][0] / 2 for n in x), y - gaps[1])


def assign_layers(nodes: Mapping, edges: Sequence[Edge]) -> tuple[dict[Hashable, int], list[int]]:
    """Return each node's layer, as late as what follows allows, and for each edge the longest way that contains it."""
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
    last = max(height.values())
    return {node: last - height[node] for node in nodes}, [depth[a] + 1 + height[b] for a, b in edges]


def order_rows(rows: list[list], steps: Sequence[Edge], sweeps: int = 8) -> list[list]:
    """Order each row by the mean place of its neighbours in the row above, then below, and so on; keep the best."""
    best, fewest = rows, crossings(rows, steps)
    for sweep in range(sweeps):
        near: dict[Hashable, list] = {}
        for a, b in steps:
            fixed, moved = (a, b) if sweep % 2 else (b, a)
            near.setdefault(moved, []).append(fixed)
        rows, place = [list(row) for row in rows], {}
        for row in rows if sweep % 2 else reversed(rows):
            now = {node: i for i, node in enumerate(row)}
            means = {n: sum(place[m] for m in near[n]) / len(near[n]) if n in near else now[n] for n in row}
            row.sort(key=means.__getitem__)  # stable: equals keep their order
            place |= {node: i for i, node in enumerate(row)}
        if (count := crossings(rows, steps)) < fewest:
            best, fewest = rows, count
    return best


def crossings(rows: list[list], steps: Sequence[Edge]) -> int:
    """Count the pairs of arrows between neighbouring rows that cross."""
    place = {node: (k, i) for k, row in enumerate(rows) for i, node in enumerate(row)}
    count = 0
    for (a, b), (c, d) in combinations(steps, 2):
        if place[a][0] == place[c][0]:
            count += (place[a][1] - place[c][1]) * (place[b][1] - place[d][1]) < 0
    return count


def place_columns(rows: list[list], steps: Steps, width: Mapping[Hashable, float], gap: float) -> dict[Hashable, float]:
    """Return the nodes' x. Each wants to stand right below or above one neighbour: the one on the longest way.

    So the longest way becomes a straight trunk, and what feeds into it stands close beside it.
    """
    above, below, length = {}, {}, {node: 0 for row in rows for node in row}
    for (a, b), n in steps.items():
        above[b] = max(above.get(b, (0, a)), (n, a), key=lambda found: found[0])
        below[a] = max(below.get(a, (0, b)), (n, b), key=lambda found: found[0])
        length[a], length[b] = max(length[a], n), max(length[b], n)
    x = {}
    for row in rows:
        _spread(row, dict.fromkeys(row, 0.0), length, width, gap, x)
    for sweep in range(8):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            follow = above if sweep % 2 == 0 else below
            wish = {node: x[follow[node][1]] if node in follow else x[node] for node in row}
            _spread(row, wish, length, width, gap, x)
    left = min(x[node] - width[node] / 2 for node in x)
    return {node: at - left for node, at in x.items()}


def _spread(row: list, wish: Mapping, rank: Mapping, width: Mapping, gap: float, x: dict) -> None:
    """Set x of a row's nodes as wished; where they would touch, those of a higher rank come first."""
    packed, edge = {}, 0.0
    for node in row:
        packed[node] = edge + width[node] / 2  # where it would stand if all were pushed together
        edge += width[node] + gap
    free: dict[int, float] = {}  # a placed node's index -> its x beyond `packed`: never falls from left to right
    for i in sorted(range(len(row)), key=lambda i: -rank[row[i]]):
        low = max((at for j, at in free.items() if j < i), default=float("-inf"))
        high = min((at for j, at in free.items() if j > i), default=float("inf"))
        free[i] = min(max(wish[row[i]] - packed[row[i]], low), high)
        x[row[i]] = free[i] + packed[row[i]]
