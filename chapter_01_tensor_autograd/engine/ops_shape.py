"""Operations that move, repeat, pick and contract numbers: shapes, indexing, matrix products.
搬动、重复、选取和收缩数据的运算：形状变换、索引、矩阵乘法。

Each operation states its forward on arrays and, beside it, its vector-Jacobian products (VJPs). A VJP is written in
these same operations, so a gradient is itself a graph and can be differentiated again. `g` is the gradient with respect
to the output; `out` is the output, for operations that save it.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from chapter_01_tensor_autograd.engine.tensor import Tensor, raw, record

OPERATIONS: dict[str, Callable] = {}  # name -> operation; the tests go through them all


class ShapeError(ValueError):
    """Shapes that an operation cannot combine."""


def operation(function: Callable) -> Callable:
    """Register an operation; where NumPy refuses its inputs, say which operation it was and their shapes."""

    @wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ShapeError:
            raise
        except ValueError as error:
            flat = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else [arg])]
            if not any(isinstance(a, (Tensor, np.ndarray)) for a in flat):
                raise
            shapes = " and ".join(str(a.shape) for a in flat if isinstance(a, (Tensor, np.ndarray)))
            raise ShapeError(f"{function.__name__} cannot take shapes {shapes}: {error}") from error

    OPERATIONS[function.__name__] = call
    return call


def as_tensor(x: Any, like: Tensor | None = None) -> Tensor:
    """Return `x` as a tensor; a plain number takes the dtype of `like`, so float32 stays float32."""
    if isinstance(x, Tensor):
        return x
    return Tensor(np.asarray(x, like.dtype) if like is not None and isinstance(x, (int, float)) else x)


def as_pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    return as_tensor(x, y if isinstance(y, Tensor) else None), as_tensor(y, x if isinstance(x, Tensor) else None)


# ---- broadcasting and its adjoint -----------------------------------------------------------------------------------


@operation
def expand(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat x to `shape` by NumPy's broadcasting rules, without copying."""
    source = x.shape
    return record("expand", np.broadcast_to(x.data, shape), (x, lambda g, _: sum_to(g, source)), view_of=x)


@operation
def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum over whatever broadcasting from `shape` would repeat. The adjoint of `expand`.

    广播把一个数用了多次，所以它的梯度是这些用处的梯度之和。
    """
    source = x.shape
    if source == shape:
        return x
    lead = len(source) - len(shape)
    axes = tuple(i for i, n in enumerate(source) if i < lead or shape[i - lead] != n)
    value = x.data.sum(axis=axes, keepdims=True).reshape(shape)
    return record("sum_to", value, (x, lambda g, _: expand(g, source)))


# ---- shape and selection --------------------------------------------------------------------------------------------


@operation
def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    source = x.shape
    return record("reshape", x.data.reshape(shape), (x, lambda g, _: reshape(g, source)), view_of=x)


@operation
def permute(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Reorder the axes: axis i of the result is axis axes[i] of x."""
    inverse = np.argsort([a % x.ndim for a in axes])
    return record("permute", x.data.transpose(axes), (x, lambda g, _: permute(g, inverse)), view_of=x)


def swap(x: Tensor) -> Tensor:
    """Exchange the last two axes: the transpose of a matrix, or of each matrix in a batch."""
    return permute(x, (*range(x.ndim - 2), -1, -2))


def _frozen(index: Any) -> Any:
    """Return a part of an index such that later changes of it do not reach the backward pass."""
    return np.array(raw(index)) if isinstance(index, (Tensor, np.ndarray, list)) else index


@operation
def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index], for every index that NumPy takes: slices, integers, arrays of integers or booleans."""
    shape = x.shape
    index = tuple(map(_frozen, index)) if isinstance(index, tuple) else _frozen(index)
    return record("getitem", x.data[index], (x, lambda g, _: scatter_add(g, index, shape)), view_of=x)


@operation
def scatter_add(x: Tensor, index: Any, shape: tuple[int, ...]) -> Tensor:
    """Add x into zeros at `index`, repeated places adding up. The adjoint of `getitem`."""
    index = tuple(map(_frozen, index)) if isinstance(index, tuple) else _frozen(index)
    value = np.zeros(shape, x.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        value[index] = x.data  # no place can be named twice
    else:
        np.add.at(value, index, x.data)
    return record("scatter_add", value, (x, lambda g, _: g[index]))


@operation
def embedding(weight: Tensor, ids: Any) -> Tensor:
    """Rows of `weight` (V, D) picked by integer `ids` (...): the result is (..., D)."""
    return getitem(weight, np.asarray(raw(ids)))


@operation
def concat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    edges, start = [], 0
    for x in tensors:
        place = (slice(None),) * (axis % x.ndim) + (slice(start, start := start + x.shape[axis]),)
        edges.append((x, lambda g, _, place=place: g[place]))
    return record("concat", np.concatenate([x.data for x in tensors], axis), *edges)


@operation
def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    axis %= tensors[0].ndim + 1
    return concat([reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in tensors], axis)


@operation
def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Surround x with `value`: `widths` holds (before, after) for each axis."""
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    return record("pad", np.pad(x.data, widths, constant_values=value), (x, lambda g, _: g[inside]))


# ---- products -------------------------------------------------------------------------------------------------------


@operation
def matmul(x, y) -> Tensor:
    """Matrix product of (..., n, k) and (..., k, m), leading axes broadcast; a vector counts as one row or column."""
    x, y = as_pair(x, y)
    if y.ndim == 1:
        return getitem(matmul(x, reshape(y, (-1, 1))), (..., 0))
    if x.ndim == 1:
        return getitem(matmul(reshape(x, (1, -1)), y), (..., 0, slice(None)))
    a, b = x.shape, y.shape
    return record(
        "matmul",
        x.data @ y.data,
        (x, lambda g, _: sum_to(g @ swap(y), a)),
        (y, lambda g, _: sum_to(swap(x) @ g, b)),
    )


@operation
def einsum(spec: str, *tensors: Tensor) -> Tensor:
    """Sum of products by index letters, as in "bij,bjk->bik".

    The gradient with respect to one input is again an einsum: of `g` with the other inputs. A letter that only this
    input has was summed away, so its gradient is the same for every value of it: a vector of ones brings it back.
    """
    sources, arrow, target = spec.replace(" ", "").partition("->")
    letters = sources.split(",")
    if not arrow or len(letters) != len(tensors):
        raise ShapeError(f"einsum {spec}: name the axes of {len(tensors)} input(s), and after '->' those of the result")
    if any(len(set(word)) < len(word) for word in letters) or "." in spec:
        raise ShapeError(f"einsum {spec}: a letter twice in one input, or an ellipsis, is not supported")

    def vjp(i: int) -> Callable:
        others = [t for j, t in enumerate(tensors) if j != i]
        words = [word for j, word in enumerate(letters) if j != i]
        alone = [a for a in letters[i] if a not in target + "".join(words)]
        ones = [Tensor(np.ones(tensors[i].shape[letters[i].index(a)], tensors[i].dtype)) for a in alone]
        backward = f"{','.join([target, *words, *alone])}->{letters[i]}"
        return lambda g, _: einsum(backward, g, *others, *ones)

    value = np.einsum(spec, *(t.data for t in tensors), optimize=True)
    return record("einsum", value, *((t, vjp(i)) for i, t in enumerate(tensors)))
