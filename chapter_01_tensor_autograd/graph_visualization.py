"""Draw the graph of a four-layer network, values and gradients in its nodes: once from our engine, once from PyTorch.
画出四层网络的计算图，节点里标出数值与梯度：一次来自自制引擎，一次来自 PyTorch。

    python chapter_01_tensor_autograd/graph_visualization.py    # 5 s

Graphviz draws where its `dot` program is installed, else a layout of our own; the `.gv` source is written either way.
"""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import graphviz
import numpy as np
from matplotlib.patches import FancyBboxPatch

from chapter_01_tensor_autograd.engine import ancestors
from chapter_01_tensor_autograd.worked_graphs import ENGINE, PYTORCH, backward, forward, network
from utils.cli import add_output_flags, begin, run, script_parser
from utils.file_io_util import atomic_write
from utils.plotting import new_figure, save_figure

FILL = {"input": "#E8E8E8", "parameter": "#CFE3F2", "operation": "#FBE3CF", "loss": "#F3C9C4"}
GRADIENT = "#B03A00"


@dataclass
class Vertex:
    """One box of the picture: its kind, its lines of text, and the keys of the boxes it was computed from."""

    kind: str
    lines: list[str]
    inputs: list[int] = field(default_factory=list)


Graph = dict[int, Vertex]  # inputs before what is computed from them


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    args = begin(parser, argv, dry_run={})
    titles = {"engine": "recorded by our engine", "torch": "recorded by PyTorch (grad_fn)"}
    for name, graph in {"engine": engine_graph(), "torch": torch_graph()}.items():
        source = args.out_dir / f"graph_{name}.gv"
        with atomic_write(source) as temporary:
            temporary.write_text(to_dot(graph).source, encoding="utf-8")
        picture = render(graph, f"x -> 3 -> 3 -> 2 -> 2 -> L, {titles[name]}", args.out_dir / f"graph_{name}.png")
        kinds = [vertex.kind for vertex in graph.values()]
        print(
            f"{name:7} {len(graph)} nodes, {kinds.count('parameter')} of them parameters: wrote {picture} and {source}"
        )


def engine_graph() -> Graph:
    """Walk the nodes of our engine; the tensors are kept by name, so each box can show its value and its gradient."""
    worked = network()
    tensors = forward(worked, ENGINE)
    backward(worked, tensors, ENGINE)
    named = {tensor.node: (name, tensor) for name, tensor in tensors.items()}
    nodes = ancestors(tensors["L"].node)[::-1]  # inputs first
    keys = {node: i for i, node in enumerate(nodes)}
    graph = {}
    for node in nodes:
        name, tensor = named[node]
        graph[keys[node]] = Vertex(
            kind_of(name, is_leaf=not node.edges),
            [name if not node.edges else f"{name} = {node.op}", show(tensor.data), f"grad {show(tensor.grad.data)}"],
            [keys[parent] for parent, _ in node.edges],
        )
    return graph


def torch_graph() -> Graph:
    """Walk PyTorch's `grad_fn` and `next_functions`; a leaf's AccumulateGrad knows its variable."""
    worked = network()
    tensors = forward(worked, PYTORCH)
    backward(worked, tensors, PYTORCH)
    leaves = {id(t): name for name, t in tensors.items() if t.is_leaf}
    values = {t.grad_fn: t for t in tensors.values() if t.grad_fn is not None}
    graph, keys = {}, {}

    def visit(function) -> int:  # a graph this small may be walked by recursion
        if function not in keys:
            inputs = [visit(parent) for parent, _ in function.next_functions if parent is not None]
            keys[function] = len(keys)
            if hasattr(function, "variable"):
                tensor = function.variable
                name = leaves[id(tensor)]
                kind, lines = kind_of(name, is_leaf=True), [f"{name}: {function.name().split('::')[-1]}"]
            else:
                tensor = values.get(function)
                kind, lines = "loss" if function is tensors["L"].grad_fn else "operation", [function.name()]
            if tensor is not None:
                lines += [show(tensor.detach().numpy()), f"grad {show(tensor.grad.numpy())}"]
            graph[keys[function]] = Vertex(kind, lines, inputs)
        return keys[function]

    visit(tensors["L"].grad_fn)
    return graph


def kind_of(name: str, is_leaf: bool) -> str:
    if name == "L":
        return "loss"
    return "operation" if not is_leaf else "input" if name == "x" else "parameter"


def show(array: np.ndarray) -> str:
    """Write out a small array, and give the shape and length of a larger one."""
    if array.size <= 3:
        return " ".join(f"{value + 0.0:.2f}" for value in array.ravel())
    return f"{'×'.join(map(str, array.shape))}, norm {np.linalg.norm(array):.2f}"


# ---- two renderers -------------------------------------------------------------------------------------------------


def to_dot(graph: Graph) -> graphviz.Digraph:
    """Describe the graph in Graphviz's language."""
    dot = graphviz.Digraph(
        graph_attr={"rankdir": "TB", "dpi": "110"}, node_attr={"fontname": "Helvetica", "fontsize": "11"}
    )
    for key, vertex in graph.items():
        label = "\n".join(vertex.lines)
        dot.node(str(key), label, shape="box", style="rounded,filled", fillcolor=FILL[vertex.kind])
        for source in vertex.inputs:
            dot.edge(str(source), str(key))
    return dot


def render(graph: Graph, title: str, path: Path) -> Path:
    """Draw with Graphviz if its program is on this machine, and with `draw` otherwise."""
    if shutil.which("dot") is None:
        return draw(graph, title, path)
    with atomic_write(path) as temporary:
        dot = to_dot(graph)
        dot.attr(label=title, labelloc="t", fontname="Helvetica")
        temporary.write_bytes(dot.pipe(format="png"))
    return path


def layout(graph: Graph) -> dict[int, tuple[int, int]]:
    """Place each box in a (column, row) of its own, every arrow pointing downwards.

    A computed box stands below all that it was computed from, a leaf right above the first box that uses it. Within a
    row boxes are ordered by the mean column of their neighbours above and below, over a few sweeps, which keeps arrows
    from crossing (Sugiyama et al. 1981); leaves go to the right.
    """
    row, users = {}, {key: [k for k, v in graph.items() if key in v.inputs] for key in graph}
    for key, vertex in graph.items():  # inputs come first
        row[key] = 1 + max((row[source] for source in vertex.inputs), default=-1)
    for key, vertex in graph.items():
        if not vertex.inputs and users[key]:
            row[key] = min(row[user] for user in users[key]) - 1
    rows = {r: [key for key in graph if row[key] == r] for r in sorted(set(row.values()))}
    column = {key: i for keys in rows.values() for i, key in enumerate(keys)}
    for _ in range(4):
        for keys in rows.values():
            near = {key: [column[k] for k in graph[key].inputs + users[key]] or [0] for key in keys}
            keys.sort(key=lambda key: (not graph[key].inputs, np.mean(near[key])))
            column |= {key: i for i, key in enumerate(keys)}
    return {key: (column[key], row[key]) for key in graph}


def draw(graph: Graph, title: str, path: Path) -> Path:
    """Draw the graph with matplotlib, from the top downwards."""
    places = layout(graph)
    wide = max(0.09 * max(map(len, v.lines)) for v in graph.values()) + 0.15  # inches
    tall = 0.16 * max(len(v.lines) for v in graph.values()) + 0.1
    columns, rows = (1 + max(place[i] for place in places.values()) for i in (0, 1))
    step_x, step_y = wide + 0.5, tall + 0.3
    width, height = columns * step_x, rows * step_y + 0.3
    figure, axes = new_figure(width, height)
    axes.set(xlim=(-step_x / 2, width - step_x / 2), ylim=(height - step_y / 2, -step_y / 2 - 0.3))
    axes.set_axis_off()
    axes.text(-wide / 2, -step_y / 2 - 0.1, title, fontsize=9, weight="bold")
    for key, vertex in graph.items():
        x, y = places[key][0] * step_x, places[key][1] * step_y
        box = FancyBboxPatch(
            (x - wide / 2, y - tall / 2), wide, tall, boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=FILL[vertex.kind], edgecolor="0.45", linewidth=0.8,
        )  # fmt: skip
        axes.add_patch(box)
        for i, line in enumerate(vertex.lines):
            axes.text(
                x, y + 0.16 * (i - (len(vertex.lines) - 1) / 2), line, ha="center", va="center", fontsize=8,
                weight="bold" if i == 0 else "normal", color=GRADIENT if line.startswith("grad") else "black",
            )  # fmt: skip
        for source in vertex.inputs:
            from_x, from_y = places[source][0] * step_x, places[source][1] * step_y
            straight = from_x == x
            start = (from_x, from_y + tall / 2) if straight else (from_x - wide / 2, from_y + tall / 4)
            end = (x, y - tall / 2) if straight else (x + wide / 3, y - tall / 2)
            axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0})
    return save_figure(figure, path)


if __name__ == "__main__":
    run(main)
