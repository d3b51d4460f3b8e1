"""All differentiable operations in one place, and the operators and methods that they give to tensors.
汇集所有可微运算，并把它们绑定为张量的运算符和方法。
"""

from collections.abc import Callable

from chapter_01_tensor_autograd.engine.ops_math import (  # noqa: F401
    abs,
    add,
    clip,
    cos,
    cross_entropy,
    div,
    erf,
    exp,
    gelu,
    log,
    log_softmax,
    logsumexp,
    max,
    maximum,
    mean,
    min,
    minimum,
    mul,
    neg,
    power,
    relu,
    sigmoid,
    sin,
    softmax,
    sqrt,
    sub,
    sum,
    tanh,
    where,
)
from chapter_01_tensor_autograd.engine.ops_shape import (  # noqa: F401
    OPERATIONS,
    ShapeError,
    as_tensor,
    concat,
    einsum,
    embedding,
    expand,
    getitem,
    matmul,
    operation,
    pad,
    permute,
    reshape,
    scatter_add,
    stack,
    sum_to,
    swap,
)
from chapter_01_tensor_autograd.engine.tensor import Tensor


def _reversed(op: Callable) -> Callable:
    return lambda x, y: op(y, x)


Tensor.__add__ = Tensor.__radd__ = add
Tensor.__mul__ = Tensor.__rmul__ = mul
Tensor.__sub__, Tensor.__rsub__ = sub, _reversed(sub)
Tensor.__truediv__, Tensor.__rtruediv__ = div, _reversed(div)
Tensor.__pow__, Tensor.__rpow__ = power, _reversed(power)
Tensor.__matmul__, Tensor.__rmatmul__ = matmul, _reversed(matmul)
Tensor.__neg__, Tensor.__getitem__ = neg, getitem
for _method in (exp, log, sqrt, sin, cos, abs, tanh, sigmoid, relu, gelu, erf, clip, sum, mean, max, min):
    setattr(Tensor, _method.__name__, _method)
for _method in (logsumexp, softmax, log_softmax, reshape, permute, expand):
    setattr(Tensor, _method.__name__, _method)
Tensor.T = property(swap)
