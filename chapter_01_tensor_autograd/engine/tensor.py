"""Reverse-mode automatic differentiation over NumPy arrays: tensors that remember how they were computed.
基于 NumPy 数组的反向模式自动微分：每个张量都记得自己是怎样算出来的。

    x = Tensor(2.0, requires_grad=True)
    (x * x + x.sin()).backward()
    x.grad                      # 2x + cos x = 3.5839

This file is the machine: tensors, the graph, the backward sweep. It imports no operation; ops.py gives tensors their
operators and methods, which the sweep then uses.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np

_recording = True
_next_order = count().__next__


@contextmanager
def recording(enabled: bool) -> Iterator[None]:
    """A context that switches the recording of operations on or off."""
    global _recording
    before, _recording = _recording, enabled
    try:
        yield
    finally:
        _recording = before


def no_grad():
    """Return a context (or decorator) in which operations compute but record nothing."""
    return recording(False)


def is_recording() -> bool:
    """Say whether operations are being recorded now."""
    return _recording


class InPlaceError(RuntimeError):
    """A value that the backward pass needs was overwritten, or was about to be."""


class Node:
    """A step of the computation: the nodes it came from, each with the VJP that carries a gradient back to it.

    A leaf has no edges. The node holds no array of its own unless a VJP needs one, so what is not needed is freed.
    """

    __slots__ = ("op", "edges", "shape", "dtype", "order", "output", "versions", "grad", "retains_grad", "hooks")

    def __init__(self, op: str, edges: Sequence[tuple["Node", Callable]], value: np.ndarray):
        self.op, self.edges = op, edges
        self.shape, self.dtype = value.shape, value.dtype
        self.order = _next_order()  # inputs are always made before outputs, so this order is a topological one
        self.output: Tensor | None = None
        self.versions: list[tuple[list[int], int]] = []  # (a tensor's counter, what it read when the tensor was saved)
        self.grad: Tensor | None = None
        self.retains_grad = not edges
        self.hooks: list[Callable] = []

    def rebuild(self) -> "Tensor | None":
        """Return the output as a tensor again, where a VJP needs it."""
        if self.output is None:
            return None
        out = self.output.detach()
        out.node = self
        return out


class Tensor:
    """An array, and, if gradients are wanted, its node in the graph.

    `data` is any NumPy array or what `np.asarray` takes; its dtype is kept, and its memory shared. Only floats can
    require gradients. Writing to `.data` directly goes unnoticed; `x += y`, `x[i] = y` and the like are counted, so
    that a backward pass that needs the old value says so instead of returning a wrong gradient. Comparisons go element
    by element and give a tensor of booleans.
    """

    __slots__ = ("data", "node", "version")
    __array_ufunc__ = None  # lets `array + tensor` reach Tensor.__radd__

    def __init__(self, data: Any, requires_grad: bool = False):
        self.node = None
        if isinstance(data, Tensor):
            self.data, self.version = data.data, data.version
        else:
            self.data, self.version = np.asarray(data), [0]  # a count in a list, shared by all who share the memory
        if requires_grad:
            if self.data.dtype.kind != "f":
                raise TypeError(f"only floating-point tensors can require gradients, not {self.data.dtype}")
            self.node = Node("leaf", (), self.data)

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)
    dtype = property(lambda self: self.data.dtype)
    requires_grad = property(lambda self: self.node is not None)

    @property
    def grad(self) -> "Tensor | None":
        """The gradient that `backward` has accumulated here: on leaves, and where `retain_grad` was called."""
        return self.node.grad if self.node else None

    @grad.setter
    def grad(self, value: "Tensor | None") -> None:
        self._need_node().grad = value

    def retain_grad(self) -> None:
        """Make `backward` keep this tensor's gradient, as it does for leaves."""
        self._need_node().retains_grad = True

    def register_hook(self, hook: Callable) -> None:
        """Call `hook(gradient)` when this tensor's gradient is complete; a tensor that it returns replaces it."""
        self._need_node().hooks.append(hook)

    def detach(self) -> "Tensor":
        """Return the same array outside the graph."""
        return Tensor(self)

    def item(self) -> float:
        """Return the number that a tensor of one element holds."""
        return self.data.item()

    __float__ = item

    def __bool__(self) -> bool:
        return bool(self.item())

    def backward(self, gradient: Any = None, create_graph: bool = False) -> None:
        """Add the gradient of this tensor to `.grad` of every leaf that it came from.

        For a tensor that is no scalar, `gradient` is the vector of the vector-Jacobian product, of the same shape.
        With `create_graph` the gradients are recorded too and can be differentiated again.
        """
        nodes = [node for node in ancestors(self._need_node()) if node.retains_grad]
        for node, g in zip(nodes, _sweep(self, gradient, nodes, create_graph), strict=True):
            if node.grad is None and not create_graph:
                node.grad = Tensor(g.data.copy())  # two leaves may have been handed the same array
            else:
                with recording(create_graph):
                    node.grad = g * 1.0 if node.grad is None else node.grad + g

    def _need_node(self) -> Node:
        if self.node is None:
            raise RuntimeError("this tensor is not part of a graph: make its inputs with requires_grad=True")
        return self.node

    def _in_place(self, write: Callable[[np.ndarray], object], *others: object) -> "Tensor":
        if _recording and any(isinstance(t, Tensor) and t.node for t in (self, *others)):
            raise InPlaceError("in-place changes are not recorded: write y = x + 1 instead of x += 1, or use no_grad()")
        write(self.data)
        self.version[0] += 1
        return self

    def __iadd__(self, other):
        return self._in_place(lambda data: np.add(data, raw(other), out=data), other)

    def __isub__(self, other):
        return self._in_place(lambda data: np.subtract(data, raw(other), out=data), other)

    def __imul__(self, other):
        return self._in_place(lambda data: np.multiply(data, raw(other), out=data), other)

    def __itruediv__(self, other):
        return self._in_place(lambda data: np.divide(data, raw(other), out=data), other)

    def __setitem__(self, index, value):
        index = tuple(map(raw, index)) if isinstance(index, tuple) else raw(index)
        self._in_place(lambda data: data.__setitem__(index, raw(value)), value)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Tensor({self.data}{f', op={self.node.op}' if self.node else ''})"


def raw(x: Any) -> Any:
    """Return the array of a tensor, and anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


def record(
    op: str,
    value: np.ndarray,
    *edges: tuple[Tensor, Callable[[Tensor, Tensor | None], Tensor]],
    saves: Sequence[Tensor] = (),
    saves_output: bool = False,
) -> Tensor:
    """Wrap the result `value` of an operation, and note how gradients flow back through it.

    Args:
        edges: pairs (input, vjp). `vjp(g, out)` takes the gradient with respect to the output, and returns the
            gradient with respect to that input, computed by engine operations so that it can be differentiated too.
        saves: the tensors whose values the VJPs read, itself or through `.data`. The backward pass refuses to run once
            one of them was changed in place.
        saves_output: hand the output to the VJPs as `out`; otherwise `out` is None.

    Raises:
        TypeError: an input requires gradients, and the result is no real floating-point number.
    """
    out = Tensor(value)
    data, may_be_view = out.data, out.data.base is not None
    for x, _ in edges:
        if data is x.data or (may_be_view and np.may_share_memory(data, x.data)):
            out.version = x.version  # a change of either is a change of both
    if _recording:
        needed = [(x.node, vjp) for x, vjp in edges if x.node is not None]
        if needed:
            if data.dtype.kind != "f":
                raise TypeError(f"{op} gives {out.dtype}, which cannot be differentiated: only real floats can")
            out.node = node = Node(op, needed, data)
            node.versions = [(t.version, t.version[0]) for t in saves]
            if saves_output:  # without its node: a node that held its own tensor would hold itself
                node.output = out.detach()
                node.versions.append((out.version, out.version[0]))
    return out


def ancestors(node: Node, since: int = 0) -> list[Node]:
    """Return the nodes that `node` was computed from, itself first, each before its inputs.

    The walk keeps its own stack, so a chain of any length fits. Nodes older than `since` are left out.
    """
    seen, stack = {node}, [node]
    while stack:
        for parent, _ in stack.pop().edges:
            if parent not in seen and parent.order >= since:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=lambda node: node.order, reverse=True)


def grad(output: Tensor, inputs: Sequence[Tensor], gradient: Any = None, create_graph: bool = False) -> list[Tensor]:
    """Return the gradients of `output` with respect to `inputs`, and leave every `.grad` alone.

    Takes `gradient` and `create_graph` as `Tensor.backward` does. An input that `output` does not depend on gets zeros.
    """
    return _sweep(output, gradient, [x._need_node() for x in inputs], create_graph)


def _sweep(output: Tensor, gradient: Any, wanted: list[Node], create_graph: bool) -> list[Tensor]:
    """Walk the graph from `output` back, and return the complete gradient of each wanted node."""
    root = output._need_node()
    gradients = {root: _seed(output, gradient)}
    found = dict.fromkeys(wanted)
    oldest = min((node.order for node in wanted), default=0)  # what is older cannot depend on a wanted node
    with recording(create_graph):
        for node in ancestors(root, since=oldest):
            g = gradients.pop(node, None)
            if g is None:
                continue
            for hook in node.hooks:
                replacement = hook(g)
                g = g if replacement is None else replacement.astype(node.dtype)
            if node in found:
                found[node] = g
            if node.edges:
                _check_versions(node)
            out = node.rebuild()
            for parent, vjp in node.edges:
                if parent.order >= oldest:
                    contribution = vjp(g, out)
                    assert contribution.shape == parent.shape, f"the VJP of {node.op} returned {contribution.shape}"
                    if contribution.data.dtype != parent.dtype:  # a float32 input met float64 numbers
                        contribution = contribution.astype(parent.dtype)
                    gradients[parent] = gradients[parent] + contribution if parent in gradients else contribution
    return [found[n] if found[n] is not None else Tensor(np.zeros(n.shape, n.dtype)) for n in wanted]


def _seed(output: Tensor, gradient: Any) -> Tensor:
    if gradient is None:
        if output.size != 1:
            raise ValueError(f"only a scalar has a gradient: for shape {output.shape} pass the vector of the VJP")
        gradient = np.ones(output.shape, output.dtype)
    seed = gradient.astype(output.dtype) if isinstance(gradient, Tensor) else Tensor(np.asarray(gradient, output.dtype))
    if seed.shape != output.shape:
        raise ValueError(f"the gradient has shape {seed.shape}, but the tensor has shape {output.shape}")
    return seed


def _check_versions(node: Node) -> None:
    for version, saved in node.versions:
        if version[0] != saved:
            raise InPlaceError(
                f"a tensor that the backward pass of `{node.op}` needs was changed in place {version[0] - saved} "
                f"time(s) after `{node.op}` had used it: change a copy, or call backward() before the change"
            )
