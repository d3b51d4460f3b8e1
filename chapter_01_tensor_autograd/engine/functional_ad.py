"""Derivatives of functions: VJP, JVP, Jacobian, Hessian-vector product, and the check against finite differences.
函数的导数：VJP、JVP、雅可比矩阵、海森-向量积，以及用有限差分做的梯度检验。

Here `f` takes tensors, one for each input, and returns a tensor made by the engine's operations. Inputs and vectors may
be tensors or whatever `np.asarray` takes; what is differentiated by has to be floats, integers are a TypeError. J is
the Jacobian: J[i, j] = d output_i / d input_j, both flattened.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chapter_01_tensor_autograd.engine.tensor import Node, Tensor, ancestors, grad, no_grad, raw, recording


def vjp(f: Callable[..., Tensor], *inputs: Any) -> tuple[Tensor, Callable[[Any], list[Tensor]]]:
    """Return f(*inputs), and the function that maps a vector v to v^T J: one gradient for each input. Reverse mode."""
    leaves = _leaves(inputs)
    output = f(*leaves)
    if not output.requires_grad:  # a constant
        return output, lambda v: [Tensor(np.zeros(leaf.shape, leaf.dtype)) for leaf in leaves]
    return output, lambda v: grad(output, leaves, v)


def jvp(f: Callable[..., Tensor], inputs: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Return f(*inputs), and J v for the vectors v in `tangents`, one for each input. Forward mode.

    The tangents flow along the graph from the inputs to the output, each step multiplying by its own Jacobian. A step
    here only knows its transpose, the VJP; but the VJP is linear in g, and the gradient of a linear map is its
    transpose, so differentiating the VJP by g gives the Jacobian back.
    """
    leaves = _leaves(inputs)
    output = f(*leaves)
    zero = Tensor(np.zeros(output.shape, output.dtype))
    if not output.requires_grad:
        return output, zero
    flowing = {leaf.node: Tensor(np.asarray(raw(v), leaf.dtype)) for leaf, v in zip(leaves, tangents, strict=True)}
    for node in reversed(ancestors(output.node)):
        for parent, step_vjp in node.edges:
            if parent in flowing:
                push = _transpose(node, step_vjp, flowing[parent])
                flowing[node] = flowing[node] + push if node in flowing else push
    return output, flowing.get(output.node, zero)


def _transpose(node: Node, step_vjp: Callable, tangent: Tensor) -> Tensor:
    g = Tensor(np.zeros(node.shape, node.dtype), requires_grad=True)
    with recording(True):
        pulled = step_vjp(g, node.rebuild())  # = J^T g
    return grad(pulled, [g], tangent)[0]  # = J tangent


def jacobian(f: Callable[[Tensor], Tensor], x: Any, forward: bool = False) -> np.ndarray:
    """Return the Jacobian of f at x, of shape (*output.shape, *x.shape).

    Reverse mode takes one VJP for each number in the output, forward mode one JVP for each number in x.
    """
    output, pullback = vjp(f, x)
    shape, size = np.shape(raw(x)), np.size(raw(x))
    if forward:
        columns = [jvp(f, [x], [v.reshape(shape)])[1].data.ravel() for v in np.eye(size)]
        return np.array(columns).T.reshape((*output.shape, *shape))
    rows = [pullback(v.reshape(output.shape))[0].data for v in np.eye(output.size)]
    return np.array(rows).reshape((*output.shape, *shape))


def hvp(f: Callable[[Tensor], Tensor], x: Any, v: Any) -> Tensor:
    """Return H v, with H the Hessian of the scalar function f at x, without ever forming H (Pearlmutter 1994).

    The gradient is a function of x like any other, and H is its Jacobian: so this is the JVP of the gradient.
    """
    return jvp(lambda x: grad(f(x), [x], create_graph=True)[0], [x], [v])[1]


def numerical_jacobian(f: Callable[..., Tensor], *inputs: Any, wrt: int = 0, eps: float = 1e-6) -> np.ndarray:
    """Return the Jacobian with respect to input number `wrt` by central differences, (f(x + eps) - f(x - eps)) / 2 eps.

    The shape is (*output.shape, *input.shape); the error is of order eps^2 by truncation and 1e-16 / eps by rounding.
    """
    arrays = [np.array(raw(x)) for x in inputs]
    x = Tensor(arrays[wrt], requires_grad=True).data  # refuses integers, which a step of eps would not move
    with no_grad():
        result = np.empty((*f(*map(Tensor, arrays)).shape, *x.shape))
        for index in np.ndindex(x.shape):
            centre = x[index]
            x[index] = centre + eps
            above = f(*map(Tensor, arrays)).data
            x[index] = centre - eps
            below = f(*map(Tensor, arrays)).data
            x[index] = centre
            result[(..., *index)] = (above - below) / (2 * eps)
    return result


def gradcheck(f: Callable[..., Tensor], *inputs: Any, eps: float = 1e-6, tolerance: float = 1e-7) -> float:
    """Compare the VJPs of f with central differences, for every input; return the largest difference.

    Differences count relative to 1 + |derivative|. Use float64: in float32 rounding alone is larger than `tolerance`.

    Raises:
        ArithmeticError: the difference exceeds `tolerance`; the message says where, and gives both numbers.
    """
    output, pullback = vjp(f, *inputs)
    rows = [pullback(v.reshape(output.shape)) for v in np.eye(output.size)]
    worst = 0.0
    for i, x in enumerate(inputs):
        exact = np.array([row[i].data for row in rows]).reshape((*output.shape, *np.shape(raw(x))))
        numerical = numerical_jacobian(f, *inputs, wrt=i, eps=eps)
        error = np.abs(exact - numerical) / (1 + np.abs(numerical))
        if not error.size:
            continue
        place = np.unravel_index(np.argmax(error), error.shape)
        if not error[place] <= tolerance:
            raise ArithmeticError(
                f"d output / d input {i}, at {tuple(map(int, place))}: the VJP says {exact[place]:.9g}, "
                f"central differences say {numerical[place]:.9g}"
            )
        worst = max(worst, float(error[place]))
    return worst


def _leaves(inputs: Sequence[Any]) -> list[Tensor]:
    return [Tensor(x, requires_grad=True) for x in inputs]
