"""Products of matrices, sums of products by index letters, and systems of linear equations.
矩阵乘法、按下标字母求乘积之和（einsum），以及线性方程组。

Written like ops_shape.py: the forward on arrays, the VJPs beside it in the engine's own operations.
"""

from collections.abc import Callable

import numpy as np

from chapter_01_tensor_autograd.engine.ops_shape import (
    ShapeError,
    as_pair,
    as_tensor,
    factors_read,
    getitem,
    matrix_transpose,
    operation,
    reshape,
    sum_to,
)
from chapter_01_tensor_autograd.engine.tensor import Tensor, record


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
        (x, lambda g, _: sum_to(g @ matrix_transpose(y), a)),
        (y, lambda g, _: sum_to(matrix_transpose(x) @ g, b)),
        saves=factors_read(x, y),
    )


@operation
def einsum(spec: str, *tensors: Tensor) -> Tensor:
    """Sum of products by index letters, as in "bij,bjk->bik".

    The gradient with respect to one input is again an einsum: of `g` with the other inputs. A letter that only this
    input has was summed away, so its gradient is the same for every value of it: a vector of ones brings it back.
    """
    tensors = [as_tensor(t) for t in tensors]
    sources, arrow, target = spec.replace(" ", "").partition("->")
    letters = sources.split(",")
    if not arrow or len(letters) != len(tensors):
        raise ShapeError(f"einsum {spec}: name the axes of {len(tensors)} input(s), and after '->' those of the result")
    if any(len(set(word)) < len(word) for word in letters) or "." in spec:
        raise ShapeError(f"einsum {spec}: a letter twice in one input, or an ellipsis, is not supported")
    sizes = {(a, n) for word, t in zip(letters, tensors, strict=True) for a, n in zip(word, t.shape, strict=True)}
    if len(sizes) > len(dict(sizes)):  # NumPy would repeat an axis of length 1
        raise ShapeError(f"einsum {spec}: a letter has two lengths in {[t.shape for t in tensors]}")

    def vjp(i: int) -> Callable:
        others = [t for j, t in enumerate(tensors) if j != i]
        words = [word for j, word in enumerate(letters) if j != i]
        alone = [a for a in letters[i] if a not in target + "".join(words)]
        ones = [Tensor(np.ones(tensors[i].shape[letters[i].index(a)], tensors[i].dtype)) for a in alone]
        backward = f"{','.join([target, *words, *alone])}->{letters[i]}"
        return lambda g, _: einsum(backward, g, *others, *ones)

    value = np.einsum(spec, *(t.data for t in tensors), optimize=True)
    return record("einsum", value, *((t, vjp(i)) for i, t in enumerate(tensors)), saves=factors_read(*tensors))


@operation
def solve(a, b) -> Tensor:
    """The x with a x = b, for a (..., n, n) and b (..., n, m), leading axes broadcast; a vector b is one column.

    a dx = db - da x, so the adjoint of b solves the transposed system: db̄ = a^-T g, and that of a is -db̄ x^T.

    Raises:
        numpy.linalg.LinAlgError: a is singular.
    """
    a, b = as_pair(a, b)
    if b.ndim == 1:
        return getitem(solve(a, reshape(b, (-1, 1))), (..., 0))
    shape_a, shape_b = a.shape, b.shape

    def vjp_a(g: Tensor, x: Tensor) -> Tensor:
        return sum_to(-solve(matrix_transpose(a), g) @ matrix_transpose(x), shape_a)

    def vjp_b(g: Tensor, _: Tensor) -> Tensor:
        return sum_to(solve(matrix_transpose(a), g), shape_b)

    return record("solve", np.linalg.solve(a.data, b.data), (a, vjp_a), (b, vjp_b), saves=(a,), saves_output=True)
