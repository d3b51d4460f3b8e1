"""Operations that move, repeat and pick numbers: shapes, indexing, joining.
搬动、重复和选取数据的运算：形状变换、索引、拼接。

Each operation states its forward on arrays and, beside it, its vector-Jacobian products (VJPs). A VJP is written in
these same operations, so a gradient is itself a graph and can be differentiated again. `g` is the gradient with respect
to the output; `out` is the output, for operations that save it. What the VJPs read is named in `saves`.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from chapter_01_tensor_autograd.engine.tensor import Tensor, is_recording, raw, record

OPERATIONS: dict[str, Callable] = {}  # name -> operation; the tests go through them all


NUMBER = (int, float, np.integer, np.floating, np.bool_)


class ShapeError(ValueError):
    """Shapes that an operation cannot combine."""


def operation(function: Callable) -> Callable:
    """Register an operation; where NumPy refuses its inputs, say which operation it was and their shapes."""

    @wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (ShapeError, np.linalg.LinAlgError):
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
    """Return `x` as a tensor; a single number takes the dtype of `like`, if that is a float: float32 stays float32."""
    if isinstance(x, Tensor):
        return x
    if like is not None and isinstance(x, NUMBER) and like.data.dtype.kind == "f":
        return Tensor(np.asarray(x, like.data.dtype))
    return Tensor(x)


def as_pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    return as_tensor(x, y if isinstance(y, Tensor) else None), as_tensor(y, x if isinstance(x, Tensor) else None)


def factors_read(*factors: Tensor) -> list[Tensor]:
    """Return the factors of a product that its VJPs read: a factor serves the gradients of the others, not its own."""
    if not is_recording():
        return []
    needing = [x for x in factors if x.node is not None]
    return list(factors) if len(needing) > 1 else [x for x in factors if needing and x.node is None]


# ---- broadcasting and its adjoint -----------------------------------------------------------------------------------


@operation
def expand(x: Tensor, *shape: Any) -> Tensor:
    """Repeat x to `shape`, one tuple or several integers, by NumPy's broadcasting rules, without copying."""
    source, shape = x.shape, shape[0] if len(shape) == 1 else shape
    return record("expand", np.broadcast_to(x.data, shape), (x, lambda g, _: sum_to(g, source)))


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


# ---- dtype, shape and selection -------------------------------------------------------------------------------------


@operation
def astype(x: Tensor, dtype: Any) -> Tensor:
    """x in another precision. The sweep itself gives every gradient the dtype of what it is the gradient of."""
    return x if x.data.dtype == dtype else record("astype", x.data.astype(dtype), (x, lambda g, _: g))


@operation
def reshape(x: Tensor, *shape: Any) -> Tensor:
    """x with the same numbers in another shape, given as one tuple or as several integers."""
    source = x.shape
    return record("reshape", x.data.reshape(*shape), (x, lambda g, _: reshape(g, source)))


@operation
def permute(x: Tensor, *axes: Any) -> Tensor:
    """Reorder the axes: axis i of the result is axis axes[i] of x. `axes` is one tuple, or several integers."""
    value, order = x.data.transpose(*axes), axes if isinstance(axes[0], int) else axes[0]
    inverse = tuple(sorted(range(x.ndim), key=[a % x.ndim for a in order].__getitem__))
    return record("permute", value, (x, lambda g, _: permute(g, inverse)))


def matrix_transpose(x: Tensor) -> Tensor:
    """Exchange the last two axes: the transpose of a matrix, or of each matrix in a batch. As a property, `x.mT`."""
    return record("permute", x.data.swapaxes(-1, -2), (x, lambda g, _: matrix_transpose(g)))


def transpose(x: Tensor) -> Tensor:
    """Reverse all axes, as NumPy's `.T` does: a vector stays as it is."""
    return permute(x, tuple(reversed(range(x.ndim))))


def _frozen(index: Any) -> Any:
    """Return a part of an index such that later changes of it do not reach the backward pass."""
    if isinstance(index, list) and not index:
        return np.array(index, int)  # NumPy would call it an array of floats
    return np.array(raw(index)) if isinstance(index, (Tensor, np.ndarray, list)) else index


@operation
def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index], for every index that NumPy takes: slices, integers, arrays of integers or booleans."""
    shape = x.shape
    index = tuple(map(_frozen, index)) if isinstance(index, tuple) else _frozen(index)
    return record("getitem", x.data[index], (x, lambda g, _: scatter_add(g, index, shape)))


@operation
def scatter_add(x: Tensor, index: Any, shape: tuple[int, ...]) -> Tensor:
    """Add x into zeros at `index`, repeated places adding up. The adjoint of `getitem`."""
    index = tuple(map(_frozen, index)) if isinstance(index, tuple) else _frozen(index)
    value = np.zeros(shape, x.dtype)
    if value[index].shape != x.shape:  # NumPy would repeat x
        raise ShapeError(f"scatter_add: the index picks {value[index].shape} from {shape}, but x has shape {x.shape}")
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        value[index] = x.data  # no place can be named twice
    else:
        np.add.at(value, index, x.data)
    return record("scatter_add", value, (x, lambda g, _: g[index]))


@operation
def embedding(weight: Tensor, ids: Any) -> Tensor:
    """Rows of `weight` (V, D) picked by `ids` (...), whole numbers from 0 to V - 1: the result is (..., D)."""
    ids = np.asarray(raw(ids))
    if ids.dtype.kind not in "iu" or (ids.size and not (0 <= ids.min() and ids.max() < len(weight))):
        raise ValueError(f"ids are whole numbers from 0 to {len(weight) - 1}, found {ids}")
    return getitem(weight, ids)


@operation
def concat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    tensors = [as_tensor(x) for x in tensors]
    value = np.concatenate([x.data for x in tensors], axis)
    edges, start = [], 0
    for x in tensors:
        place = (slice(None),) * (axis % x.ndim) + (slice(start, start := start + x.shape[axis]),)
        edges.append((x, lambda g, _, place=place: g[place]))
    return record("concat", value, *edges)


@operation
def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    tensors = [as_tensor(x) for x in tensors]
    return concat([reshape(x, np.expand_dims(x.data, axis).shape) for x in tensors], axis)


@operation
def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Surround x with `value`: `widths` holds (before, after) for each axis."""
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    return record("pad", np.pad(x.data, widths, constant_values=value), (x, lambda g, _: g[inside]))
