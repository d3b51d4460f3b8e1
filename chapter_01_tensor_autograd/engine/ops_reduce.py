"""Reductions: sums, products, extremes and lengths along axes; softmax and cross-entropy.
归约：沿轴求和、求积、取极值、求长度；以及 softmax 与交叉熵。

Written like ops_shape.py: the forward on arrays, the VJPs beside it in the engine's own operations.
"""

import math
from typing import Any

import numpy as np

from chapter_01_tensor_autograd.engine.ops_math import exp, where
from chapter_01_tensor_autograd.engine.ops_shape import ShapeError, expand, operation, permute, reshape
from chapter_01_tensor_autograd.engine.tensor import Tensor, raw, record
from utils.shape_checks import check_labels

Axis = int | tuple[int, ...] | None


def _keepdims_shape(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The shape after a reduction over `axis` that keeps the reduced axes at length 1."""
    axes = range(len(shape)) if axis is None else [axis] if isinstance(axis, int) else axis
    reduced = {a % len(shape) for a in axes} if shape else ()  # a single number has "axis 0", as in NumPy
    return tuple(1 if i in reduced else n for i, n in enumerate(shape))


# ---- sums and products ----------------------------------------------------------------------------------------------


@operation
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    shape, kept = x.shape, _keepdims_shape(x.shape, axis)
    value = x.data.sum(axis=axis, keepdims=keepdims)
    return record("sum", value, (x, lambda g, _: expand(reshape(g, kept), shape)))


@operation
def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean; of nothing it is NaN, as in NumPy and PyTorch."""
    reduced = zip(x.shape, _keepdims_shape(x.shape, axis), strict=True)
    count = math.prod(n for n, kept in reduced if n != kept)
    return sum(x, axis, keepdims) * (1 / count if count else math.nan)


@operation
def cumsum(x: Tensor, axis: int | None = None) -> Tensor:
    """Sums of the first 1, 2, 3, ... numbers along `axis`, or of x flattened: the gradients are summed from the end."""
    if axis is None:
        return cumsum(reshape(x, -1), 0)
    value = np.cumsum(x.data, axis).reshape(x.shape)
    backwards = tuple(slice(None, None, -1 if i == axis % x.ndim else 1) for i in range(x.ndim))
    return record("cumsum", value, (x, lambda g, _: cumsum(g[backwards], axis)[backwards]))


@operation
def prod(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The product along `axis`, or of all. A factor's derivative is the product of the others, zeros or not."""
    if axis is None:
        value = prod(reshape(x, -1), 0)
        return reshape(value, (1,) * x.ndim) if keepdims else value
    kept = _keepdims_shape(x.shape, axis)

    def vjp(g: Tensor, out: Tensor) -> Tensor:
        others = _products_of_others(x, axis) if (x.data == 0).any() else reshape(out, kept) / x
        return reshape(g, kept) * others

    return record("prod", x.data.prod(axis=axis, keepdims=keepdims), (x, vjp), saves=(x,), saves_output=True)


def _products_of_others(x: Tensor, axis: int) -> Tensor:
    """For each number the product of the others along `axis`, without a division: n^2 numbers for n factors."""
    if x.ndim == 0:
        return x * 0.0 + 1.0
    axis, n = axis % x.ndim, x.shape[axis]
    last = (*(i for i in range(x.ndim) if i != axis), axis)
    rows = expand(reshape(permute(x, last), (*(x.shape[i] for i in last[:-1]), 1, n)), (*(x.shape[i] for i in last), n))
    others = prod(where(np.eye(n, dtype=bool), 1.0, rows), axis=-1)  # (..., n)
    return permute(others, tuple(map(last.index, range(x.ndim))))


@operation
def norm(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The length sqrt(sum x^2). Its gradient is x / length, and counts as 0 where the length is 0, as in PyTorch."""
    kept = _keepdims_shape(x.shape, axis)
    value = np.sqrt((x.data * x.data).sum(axis=axis, keepdims=keepdims))

    def vjp(g: Tensor, out: Tensor) -> Tensor:
        zero = out.data == 0
        return x * reshape(where(zero, 0.0, g / where(zero, 1.0, out)), kept)

    return record("norm", value, (x, vjp), saves=(x,), saves_output=True)


# ---- extremes -------------------------------------------------------------------------------------------------------


def _extremum(op: str, value: np.ndarray, x: Tensor, axis: Axis) -> Tensor:
    """Record `value`, the largest or smallest of x along `axis`: the gradient goes to who is it, ties share evenly."""
    kept = _keepdims_shape(x.shape, axis)

    def vjp(g: Tensor, out: Tensor) -> Tensor:
        mask = x.data == out.data.reshape(kept)
        return reshape(g, kept) * (mask / mask.sum(axis=axis, keepdims=True)).astype(x.dtype)

    return record(op, value, (x, vjp), saves=(x,), saves_output=True)


@operation
def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return _extremum("max", x.data.max(axis=axis, keepdims=keepdims), x, axis)


@operation
def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return _extremum("min", x.data.min(axis=axis, keepdims=keepdims), x, axis)


def _largest(x: np.ndarray, axis: Axis) -> np.ndarray:
    """The largest numbers along `axis`, kept at length 1: what exp needs subtracted so that nothing overflows."""
    start = -np.inf if x.dtype.kind == "f" else None
    return x.max(axis=axis, keepdims=True, initial=start)  # `initial` is what an axis of length 0 gives


@operation
def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log of the sum of exp(x), shifted by the largest x so that nothing overflows."""
    kept, top = _keepdims_shape(x.shape, axis), _largest(x.data, axis)
    top = np.where(np.isfinite(top), top, 0)
    value = np.log(np.exp(x.data - top).sum(axis=axis, keepdims=True)) + top
    if not keepdims:
        value = value.squeeze(axis)

    def vjp(g: Tensor, out: Tensor) -> Tensor:
        return reshape(g, kept) * exp(x - reshape(out, kept))

    return record("logsumexp", value, (x, vjp), saves=(x,), saves_output=True)


# ---- classification -------------------------------------------------------------------------------------------------


@operation
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum exp(x) along `axis`. Its Jacobian is diag(p) - p p^T."""
    value = np.exp(x.data - _largest(x.data, axis))
    value /= value.sum(axis=axis, keepdims=True)
    return record("softmax", value, (x, lambda g, p: p * (g - sum(g * p, axis=axis, keepdims=True))), saves_output=True)


@operation
def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    value = x.data - _largest(x.data, axis)
    value -= np.log(np.exp(value).sum(axis=axis, keepdims=True))
    return record(
        "log_softmax", value, (x, lambda g, out: g - exp(out) * sum(g, axis=axis, keepdims=True)), saves_output=True
    )


@operation
def cross_entropy(logits: Tensor, labels: Any) -> Tensor:
    """The mean negative log-likelihood, in nats, of `labels` (N,) under softmax(`logits`), `logits` (N, n_classes).

    The gradient is (softmax(logits) - one_hot(labels)) / N.

    Raises:
        ShapeError: other shapes, such as labels (N, 1) or one-hot; labels that name no class.
    """
    labels = np.array(raw(labels))
    if logits.ndim != 2:
        raise ShapeError(f"cross_entropy takes logits (N, n_classes), found {logits.shape}")
    check_labels(logits.data, labels)
    rows, count = np.arange(len(labels)), len(labels)
    shifted = logits.data - _largest(logits.data, 1)
    value = (np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, labels]).mean()

    one_hot = np.zeros_like(shifted)
    one_hot[rows, labels] = 1
    return record(
        "cross_entropy", value, (logits, lambda g, _: (softmax(logits) - one_hot) * (g / count)), saves=(logits,)
    )
