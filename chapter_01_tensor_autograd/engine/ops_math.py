"""Operations that compute: elementwise functions, reductions, softmax and cross-entropy.
做计算的运算：逐元素函数、归约、softmax 与交叉熵。

Written like ops_shape.py: the forward on arrays, the VJPs beside it in the engine's own operations.
"""

import math
from typing import Any

import numpy as np

from chapter_01_tensor_autograd.engine.ops_shape import as_pair, expand, operation, reshape, sum_to
from chapter_01_tensor_autograd.engine.tensor import Tensor, raw, record

Axis = int | tuple[int, ...] | None


# ---- elementwise, two inputs ----------------------------------------------------------------------------------------


@operation
def add(x, y) -> Tensor:
    x, y = as_pair(x, y)
    a, b = x.shape, y.shape
    return record("add", x.data + y.data, (x, lambda g, _: sum_to(g, a)), (y, lambda g, _: sum_to(g, b)))


@operation
def sub(x, y) -> Tensor:
    x, y = as_pair(x, y)
    a, b = x.shape, y.shape
    return record("sub", x.data - y.data, (x, lambda g, _: sum_to(g, a)), (y, lambda g, _: sum_to(-g, b)))


@operation
def mul(x, y) -> Tensor:
    x, y = as_pair(x, y)
    a, b = x.shape, y.shape
    return record("mul", x.data * y.data, (x, lambda g, _: sum_to(g * y, a)), (y, lambda g, _: sum_to(g * x, b)))


@operation
def div(x, y) -> Tensor:
    x, y = as_pair(x, y)
    a, b = x.shape, y.shape
    return record(
        "div",
        x.data / y.data,
        (x, lambda g, _: sum_to(g / y, a)),
        (y, lambda g, out: sum_to(-g * out / y, b)),
        saves_output=True,
    )


@operation
def power(x, y) -> Tensor:
    """x ** y. The derivative by a tensor exponent, x**y log x, counts as 0 where x = 0, as in PyTorch."""
    if not isinstance(y, (Tensor, np.ndarray)):
        return record("power", x.data**y, (x, lambda g, _: g * (y * x ** (y - 1)) if y else g * 0.0))
    x, y = as_pair(x, y)
    a, b = x.shape, y.shape
    return record(
        "power",
        x.data**y.data,
        (x, lambda g, _: sum_to(g * where(y.data == 0, 0.0, y * x ** where(y.data == 0, 1.0, y - 1)), a)),
        (y, lambda g, out: sum_to(g * out * log(where(x.data == 0, 1.0, x)), b)),
        saves_output=True,
    )


def _share(winner: np.ndarray, x: np.ndarray, y: np.ndarray) -> Tensor:
    return Tensor((winner + 0.5 * (x == y)).astype(np.result_type(x, y)))  # a tie is split evenly


@operation
def maximum(x, y) -> Tensor:
    x, y = as_pair(x, y)
    return record(
        "maximum",
        np.maximum(x.data, y.data),
        (x, lambda g, _: sum_to(g * _share(x.data > y.data, x.data, y.data), x.shape)),
        (y, lambda g, _: sum_to(g * _share(y.data > x.data, x.data, y.data), y.shape)),
    )


@operation
def minimum(x, y) -> Tensor:
    x, y = as_pair(x, y)
    return record(
        "minimum",
        np.minimum(x.data, y.data),
        (x, lambda g, _: sum_to(g * _share(x.data < y.data, x.data, y.data), x.shape)),
        (y, lambda g, _: sum_to(g * _share(y.data < x.data, x.data, y.data), y.shape)),
    )


@operation
def where(condition: Any, x, y) -> Tensor:
    """x where `condition` (an array of booleans) holds, y elsewhere."""
    x, y = as_pair(x, y)
    a, b, condition = x.shape, y.shape, np.array(raw(condition))  # a copy: it may change before the backward pass
    return record(
        "where",
        np.where(condition, x.data, y.data),
        (x, lambda g, _: sum_to(where(condition, g, 0.0), a)),
        (y, lambda g, _: sum_to(where(condition, 0.0, g), b)),
    )


# ---- elementwise, one input -----------------------------------------------------------------------------------------


@operation
def neg(x: Tensor) -> Tensor:
    return record("neg", -x.data, (x, lambda g, _: -g))


@operation
def exp(x: Tensor) -> Tensor:
    return record("exp", np.exp(x.data), (x, lambda g, out: g * out), saves_output=True)


@operation
def log(x: Tensor) -> Tensor:
    return record("log", np.log(x.data), (x, lambda g, _: g / x))


@operation
def sqrt(x: Tensor) -> Tensor:
    return record("sqrt", np.sqrt(x.data), (x, lambda g, out: g / (2 * out)), saves_output=True)


@operation
def sin(x: Tensor) -> Tensor:
    return record("sin", np.sin(x.data), (x, lambda g, _: g * cos(x)))


@operation
def cos(x: Tensor) -> Tensor:
    return record("cos", np.cos(x.data), (x, lambda g, _: -g * sin(x)))


@operation
def abs(x: Tensor) -> Tensor:
    return record("abs", np.abs(x.data), (x, lambda g, _: g * np.sign(x.data)))


@operation
def tanh(x: Tensor) -> Tensor:
    return record("tanh", np.tanh(x.data), (x, lambda g, out: g * (1 - out * out)), saves_output=True)


@operation
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), without overflow."""
    value = np.exp(-np.logaddexp(0, -x.data))
    return record("sigmoid", value, (x, lambda g, out: g * out * (1 - out)), saves_output=True)


@operation
def relu(x: Tensor) -> Tensor:
    """max(x, 0); the derivative at 0 is taken as 0."""
    return record("relu", np.maximum(x.data, 0), (x, lambda g, out: g * (out.data > 0)), saves_output=True)


_erf = np.vectorize(math.erf, otypes=[float])  # NumPy has none


@operation
def erf(x: Tensor) -> Tensor:
    value = _erf(x.data).astype(x.dtype)
    return record("erf", value, (x, lambda g, _: g * (2 / math.sqrt(math.pi)) * exp(-x * x)))


@operation
def gelu(x: Tensor) -> Tensor:
    """x Phi(x), with the normal distribution's Phi (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


@operation
def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """x limited to [low, high]; no gradient flows where a limit was passed."""
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    return record("clip", np.clip(x.data, low, high), (x, lambda g, _: g * ((x.data >= low) & (x.data <= high))))


# ---- reductions -----------------------------------------------------------------------------------------------------


def _kept(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The shape after a reduction over `axis` that keeps the reduced axes at length 1."""
    axes = range(len(shape)) if axis is None else [axis] if isinstance(axis, int) else axis
    gone = {a % len(shape) for a in axes}
    return tuple(1 if i in gone else n for i, n in enumerate(shape))


@operation
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    shape, kept = x.shape, _kept(x.shape, axis)
    value = x.data.sum(axis=axis, keepdims=keepdims)
    return record("sum", value, (x, lambda g, _: expand(reshape(g, kept), shape)))


@operation
def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    count = x.size // math.prod(_kept(x.shape, axis))
    return sum(x, axis, keepdims) * (1 / count)


def _winners(x: Tensor, out: Tensor, axis: Axis) -> Tensor:
    """1 where x is the extremum `out`; ties share it evenly."""
    mask = x.data == out.data.reshape(_kept(x.shape, axis))
    return Tensor((mask / mask.sum(axis=axis, keepdims=True)).astype(x.dtype))


@operation
def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    kept, value = _kept(x.shape, axis), x.data.max(axis=axis, keepdims=keepdims)
    return record("max", value, (x, lambda g, out: reshape(g, kept) * _winners(x, out, axis)), saves_output=True)


@operation
def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    kept, value = _kept(x.shape, axis), x.data.min(axis=axis, keepdims=keepdims)
    return record("min", value, (x, lambda g, out: reshape(g, kept) * _winners(x, out, axis)), saves_output=True)


@operation
def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log of the sum of exp(x), shifted by the largest x so that nothing overflows."""
    kept = _kept(x.shape, axis)
    top = x.data.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    value = np.log(np.exp(x.data - top).sum(axis=axis, keepdims=True)) + top
    if not keepdims:
        value = value.squeeze(axis)
    return record(
        "logsumexp", value, (x, lambda g, out: reshape(g, kept) * exp(x - reshape(out, kept))), saves_output=True
    )


# ---- classification -------------------------------------------------------------------------------------------------


@operation
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum exp(x) along `axis`. Its Jacobian is diag(p) - p p^T."""
    value = np.exp(x.data - x.data.max(axis=axis, keepdims=True))
    value /= value.sum(axis=axis, keepdims=True)
    return record("softmax", value, (x, lambda g, p: p * (g - sum(g * p, axis=axis, keepdims=True))), saves_output=True)


@operation
def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    value = x.data - x.data.max(axis=axis, keepdims=True)
    value -= np.log(np.exp(value).sum(axis=axis, keepdims=True))
    return record(
        "log_softmax", value, (x, lambda g, out: g - exp(out) * sum(g, axis=axis, keepdims=True)), saves_output=True
    )


@operation
def cross_entropy(logits: Tensor, labels: Any) -> Tensor:
    """The mean negative log-likelihood, in nats, of `labels` (N,) under softmax(`logits`), `logits` (N, n_classes).

    The gradient is (softmax(logits) - one_hot(labels)) / N.
    """
    labels = np.array(raw(labels))
    if labels.size and not (0 <= labels.min() and labels.max() < logits.shape[1]):
        raise ValueError(f"labels must lie in 0 .. {logits.shape[1] - 1}, found {labels.min()} .. {labels.max()}")
    rows, count = np.arange(len(labels)), len(labels)
    shifted = logits.data - logits.data.max(axis=1, keepdims=True)
    value = (np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, labels]).mean()

    one_hot = np.zeros_like(shifted)
    one_hot[rows, labels] = 1
    return record("cross_entropy", value, (logits, lambda g, _: (softmax(logits) - one_hot) * (g / count)))
