"""Three small graphs to work through with a pencil: a scalar function, a linear layer, a four-layer network.
三张适合用纸笔推演的小计算图：标量函数、线性层、四层网络。

Each is written twice: as steps that run on our engine and on PyTorch alike, and as formulas derived by hand, in plain
NumPy. `da` stands for the derivative of the graph's result with respect to `a`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from chapter_01_tensor_autograd.engine import Tensor, ops

Arrays = dict[str, np.ndarray]
Tensors = dict[str, Any]


class Library(NamedTuple):
    """The two things that our engine and PyTorch do not call the same way."""

    tensor: Callable  # tensor(array, requires_grad=True)
    cross_entropy: Callable  # cross_entropy(logits, labels), the labels being an array


ENGINE = Library(Tensor, ops.cross_entropy)
PYTORCH = Library(torch.tensor, lambda logits, labels: F.cross_entropy(logits, torch.tensor(labels)))


@dataclass
class WorkedGraph:
    """The inputs, the steps from them to the result, and what comes out by hand: values, and gradients as `da`."""

    inputs: Arrays
    steps: Callable[[Tensors, Library], Tensors]  # returns each value on the way, by name
    result: str
    by_hand: Arrays
    upstream: np.ndarray | None = None  # the gradient that a result which is no scalar starts with


def forward(graph: WorkedGraph, library: Library) -> Tensors:
    """Return the inputs and all steps, in order, as tensors that will keep their gradients."""
    tensors = {name: library.tensor(array, requires_grad=True) for name, array in graph.inputs.items()}
    tensors |= graph.steps(tensors, library)
    for tensor in tensors.values():
        tensor.retain_grad()
    return tensors


def backward(graph: WorkedGraph, tensors: Tensors, library: Library) -> None:
    """Send the gradient back from the result to all tensors."""
    tensors[graph.result].backward(None if graph.upstream is None else library.tensor(graph.upstream))


def differentiate(graph: WorkedGraph, library: Library) -> Arrays:
    """Return what `library` finds: every value, and every gradient as `da`."""
    tensors = forward(graph, library)
    backward(graph, tensors, library)
    values = {name: np.asarray(t.detach().data) for name, t in tensors.items()}
    return values | {f"d{name}": np.asarray(t.grad.data) for name, t in tensors.items()}


# ---- a scalar: f = x*y + sin x --------------------------------------------------------------------------------------


def scalar(x: float = np.pi / 3, y: float = 2.0) -> WorkedGraph:
    return WorkedGraph({"x": np.asarray(x), "y": np.asarray(y)}, scalar_steps, "f", scalar_by_hand(x, y))


def scalar_steps(tensors: Tensors, library: Library) -> Tensors:
    x, y = tensors["x"], tensors["y"]
    p, s = x * y, x.sin()
    return {"p": p, "s": s, "f": p + s}


def scalar_by_hand(x: float, y: float) -> Arrays:
    p = x * y
    s = np.sin(x)
    f = p + s
    df = 1.0
    dp = df * 1
    ds = df * 1
    dx = dp * y + ds * np.cos(x)  # x is used twice: two ways for it to change f, two terms
    dy = dp * x
    return {"p": p, "s": s, "f": f, "df": df, "dp": dp, "ds": ds, "dx": dx, "dy": dy}


# ---- a linear layer: y = x W + b ------------------------------------------------------------------------------------


LINEAR = {
    "x": [[1.0, 2.0, -1.0], [0.0, 1.0, 3.0]],
    "W": [[2.0, 0.0], [-1.0, 1.0], [1.0, 3.0]],
    "b": [1.0, -1.0],
    "g": [[1.0, 2.0], [-1.0, 0.5]],
}


def linear(x=LINEAR["x"], W=LINEAR["W"], b=LINEAR["b"], g=LINEAR["g"]) -> WorkedGraph:
    """x (B, d_in), W (d_in, d_out), b (d_out,); g (B, d_out) is the gradient of some loss with respect to y."""
    x, W, b, g = map(np.asarray, (x, W, b, g))
    return WorkedGraph({"x": x, "W": W, "b": b}, linear_steps, "y", linear_by_hand(x, W, b, g), upstream=g)


def linear_steps(tensors: Tensors, library: Library) -> Tensors:
    return {"y": tensors["x"] @ tensors["W"] + tensors["b"]}


def linear_by_hand(x: np.ndarray, W: np.ndarray, b: np.ndarray, g: np.ndarray) -> Arrays:
    y = x @ W + b  # (B, d_out)
    dx = g @ W.T  # (B, d_in)
    dW = x.T @ g  # (d_in, d_out)
    db = g.sum(axis=0)  # (d_out,)
    return {"y": y, "dy": g, "dx": dx, "dW": dW, "db": db}


# ---- a network of four layers, with a loss --------------------------------------------------------------------------

NETWORK = {  # 2-3-3-2-2: with x, the values stay round numbers up to the tanh, and two ReLUs are shut
    "W1": [[1.0, -1.0, 0.5], [0.5, 1.0, -1.0]],
    "b1": [0.0, 0.5, 0.5],
    "W2": [[0.5, -1.0, 1.0], [1.0, 0.5, -1.0], [-0.5, 1.0, 0.5]],
    "b2": [-1.5, 0.5, 0.5],
    "W3": [[0.5, -0.5], [1.0, 0.5], [-1.0, 1.0]],
    "b3": [0.0, 0.5],
    "W4": [[1.0, -1.0], [0.5, 1.0]],
    "b4": [0.0, 0.5],
}


def network(x=((1.0, 2.0),), labels=(0,), parameters: dict = NETWORK) -> WorkedGraph:
    """x (B, d_in), labels (B,); `parameters` are W1 (d_in, d_1), b1 (d_1,) up to W4 (d_3, n_classes), b4."""
    labels = np.asarray(labels)
    inputs = {name: np.asarray(array) for name, array in ({"x": x} | parameters).items()}
    return WorkedGraph(inputs, partial(network_steps, labels=labels), "L", network_by_hand(labels=labels, **inputs))


def network_steps(tensors: Tensors, library: Library, labels: np.ndarray) -> Tensors:
    steps, below, h = {}, "x", tensors["x"]
    for layer, activation in enumerate(["relu", "relu", "tanh", None], start=1):
        steps[f"{below} W{layer}"] = product = h @ tensors[f"W{layer}"]
        steps[f"z{layer}"] = z = product + tensors[f"b{layer}"]
        if activation:
            below = f"h{layer}"
            steps[below] = h = getattr(z, activation)()
    steps["L"] = library.cross_entropy(z, labels)
    return steps


def network_by_hand(x, W1, b1, W2, b2, W3, b3, W4, b4, labels) -> Arrays:
    z1 = x @ W1 + b1  # (B, d_1), and so on
    h1 = np.maximum(z1, 0)
    z2 = h1 @ W2 + b2
    h2 = np.maximum(z2, 0)
    z3 = h2 @ W3 + b3
    h3 = np.tanh(z3)
    z4 = h3 @ W4 + b4
    p = np.exp(z4) / np.exp(z4).sum(axis=1, keepdims=True)  # (B, n_classes)
    y = np.eye(z4.shape[1])[labels]  # (B, n_classes): 1 at the label, 0 elsewhere
    L = -np.log((p * y).sum(axis=1)).mean()
    values = {"z1": z1, "h1": h1, "z2": z2, "h2": h2, "z3": z3, "h3": h3, "z4": z4, "L": L}

    dz4 = (p - y) / len(x)
    dW4, db4, dh3 = h3.T @ dz4, dz4.sum(axis=0), dz4 @ W4.T
    dz3 = dh3 * (1 - h3**2)
    dW3, db3, dh2 = h2.T @ dz3, dz3.sum(axis=0), dz3 @ W3.T
    dz2 = dh2 * (z2 > 0)
    dW2, db2, dh1 = h1.T @ dz2, dz2.sum(axis=0), dz2 @ W2.T
    dz1 = dh1 * (z1 > 0)
    dW1, db1, dx = x.T @ dz1, dz1.sum(axis=0), dz1 @ W1.T
    flowing = {"dz4": dz4, "dh3": dh3, "dz3": dz3, "dh2": dh2, "dz2": dz2, "dh1": dh1, "dz1": dz1, "dx": dx}
    weights, biases = {"dW1": dW1, "dW2": dW2, "dW3": dW3, "dW4": dW4}, {"db1": db1, "db2": db2, "db3": db3, "db4": db4}
    return values | flowing | weights | biases


# ---- the same graphs at other points --------------------------------------------------------------------------------


def at_random(rng: np.random.Generator) -> dict[str, WorkedGraph]:
    """The three graphs with inputs drawn from the standard normal, by name; the network takes a batch of four."""
    normal = rng.standard_normal
    parameters = {name: normal(np.shape(array)) for name, array in NETWORK.items()}
    return {
        "scalar": scalar(*normal(2)),
        "linear": linear(normal((5, 3)), normal((3, 2)), normal(2), normal((5, 2))),
        "network": network(normal((4, 2)), rng.integers(2, size=4), parameters),
    }
