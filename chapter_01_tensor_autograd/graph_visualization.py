"""Draw the graph of a four-layer network, values and gradients in its boxes: once from our engine, once from PyTorch.
画出四层网络的计算图，方框里标出数值与梯度：一次来自自制引擎，一次来自 PyTorch。

    python chapter_01_tensor_autograd/graph_visualization.py     # 5 s

Graphviz draws where its `dot` program is installed, else a layout of our own; the `.gv` source is written either way.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_01_tensor_autograd.engine import ancestors
from chapter_01_tensor_autograd.graphs.graph_drawing import Arrow, Box, Graph, draw_graph, to_graphviz
from chapter_01_tensor_autograd.graphs.worked_graphs import ENGINE, PYTORCH, WorkedGraph, backward, forward, network
from utils.cli import add_output_flags, begin, run, script_parser
from utils.file_io_util import atomic_write
from utils.plotting import save_figure

# What each operation hands back to its inputs a and b, g being what it received. PyTorch's names mean the same things.
RULES = {
    "matmul": ("g {b}ᵀ", "{a}ᵀ g"),
    "add": ("g", "g"),
    "relu": ("g · [{a} > 0]",),
    "tanh": ("g · (1 − {out}²)",),
    "cross_entropy": ("softmax − label",),
    "MmBackward0": ("g {b}ᵀ", "{a}ᵀ g"),
    "AddBackward0": ("g", "g"),
    "ReluBackward0": ("g · [{a} > 0]",),
    "TanhBackward0": ("g · (1 − {out}²)",),
    "LogSoftmaxBackward0": ("g − softmax · sum of g",),
    "NllLossBackward0": ("−g at the label",),
}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    args = begin(parser, argv, dry_run={})

    renderer = "Graphviz" if shutil.which("dot") else "matplotlib (Graphviz's dot is not on the path)"
    print(f"{'':<10}{'nodes':>6}{'leaves':>8}{'operations':>12}{'edges':>7}   drawn by {renderer}")
    for name, graph in {"engine": engine_graph(network()), "torch": torch_graph(network())}.items():
        leaves = sum(box.kind in ("input", "parameter") for box in graph.boxes.values())
        counts = f"{len(graph.boxes):>6}{leaves:>8}{len(graph.boxes) - leaves:>12}{len(graph.arrows):>7}"
        print(f"{name:<10}{counts}   {render(graph, args.out_dir / f'graph_{name}.png')}")


def engine_graph(worked: WorkedGraph) -> Graph:
    """Walk our engine's nodes and edges from the result back."""
    tensors = forward(worked, ENGINE)
    backward(worked, tensors, ENGINE)
    names = {tensor.node: name for name, tensor in tensors.items()}
    counters = {id(tensor.version): name for name, tensor in tensors.items()}  # they tell what a node remembers
    boxes, arrows = {}, []
    for node in reversed(ancestors(tensors[worked.result].node)):
        name = names[node]
        value, gradient = tensors[name].data, tensors[name].grad.data
        if not node.edges:
            boxes[name] = leaf(name, "", value, gradient)
            continue
        inputs = [names[parent] for parent, _ in node.edges]
        kept = {counters[id(version)] for version, _ in node.versions}
        keeps = ", ".join(other for other in [*inputs, name] if other in kept)
        boxes[name] = Box("loss" if name == worked.result else "operation", node.op, name, value, gradient, keeps)
        arrows += arrows_into(name, node.op, inputs)
    return Graph("The graph that our engine recorded", boxes, arrows)


def torch_graph(worked: WorkedGraph) -> Graph:
    """Walk PyTorch's `grad_fn` and `next_functions` from the result back.

    Nodes hold no values. Named tensors lend theirs; where PyTorch made a step of its own, what it saved serves. All
    that has to happen before the backward pass, which frees what was saved; a hook then reads each gradient as it
    arrives.
    """
    tensors = forward(worked, PYTORCH)
    names = {t.grad_fn: name for name, t in tensors.items() if t.grad_fn} | {t: name for name, t in tensors.items()}
    boxes, arrows = {}, []

    def visit(node) -> str:
        """Add `node` after what it was computed from; return the name of its box."""
        op = node.name().rsplit("::", 1)[-1]
        if hasattr(node, "variable"):  # an AccumulateGrad: it adds to the variable's .grad
            name = names[node.variable]
            boxes.setdefault(name, leaf(name, op, node.variable.detach().numpy(), None))
        elif (name := names.setdefault(node, f"step {len(names)}")) not in boxes:
            inputs = [visit(parent) for parent, _ in node.next_functions if parent is not None]
            saved = {key[7:]: getattr(node, key) for key in dir(node) if key.startswith("_saved_")}
            saved = {key: t for key, t in saved.items() if isinstance(t, torch.Tensor)}
            value = tensors.get(name, saved.get("result"))
            value = None if value is None else value.detach().numpy()
            kind = "loss" if name == worked.result else "operation"
            known = {t.data_ptr(): other for other, t in tensors.items()}
            kept = [known.get(t.data_ptr(), key) for key, t in saved.items()]
            kept.sort(key=lambda other: [*inputs, name, other].index(other))  # in the order of the inputs
            boxes[name] = Box(kind, op, name if name in tensors else "", value, keeps=", ".join(kept))
            arrows.extend(arrows_into(name, op, inputs))
            node.register_prehook(lambda gradients, box=boxes[name]: setattr(box, "gradient", gradients[0].numpy()))
        return name

    visit(tensors[worked.result].grad_fn)
    backward(worked, tensors, PYTORCH)
    for name in worked.inputs:
        boxes[name].gradient = tensors[name].grad.numpy()
    return Graph("The graph that PyTorch recorded (grad_fn)", boxes, arrows)


def leaf(name: str, note: str, value, gradient) -> Box:
    return Box("input" if name == "x" else "parameter", name, note, value, gradient)


def arrows_into(name: str, op: str, inputs: list[str]) -> list[Arrow]:
    a, b = (*inputs, "")[:2]
    rules = RULES.get(op, ("",) * len(inputs))
    return [Arrow(i, name, rule.format(a=a, b=b, out=name)) for i, rule in zip(inputs, rules, strict=True)]


def render(graph: Graph, path: Path) -> Path:
    """Write the picture, and its Graphviz source beside it."""
    dot = to_graphviz(graph)
    with atomic_write(path.with_suffix(".gv")) as temporary:
        temporary.write_text(dot.source, encoding="utf-8")
    if not shutil.which("dot"):
        return save_figure(draw_graph(graph), path)
    with atomic_write(path) as temporary:
        temporary.write_bytes(dot.pipe(format="png"))
    return path


if __name__ == "__main__":
    run(main)
