"""All differentiable operations in one place, and the operators and methods that they give to tensors.
汇集所有可微运算，并把它们绑定为张量的运算符和方法。
"""

from collections.abc import Callable

import numpy as np

from chapter_01_tensor_autograd.engine.ops_linalg import einsum, matmul, solve  # noqa: F401
from chapter_01_tensor_autograd.engine.ops_math import (  # noqa: F401
    abs,
    add,
    arctan,
    clip,
    cos,
    div,
    erf,
    exp,
    gelu,
    log,
    maximum,
    minimum,
    mul,
    neg,
    power,
    relu,
    remainder,
    sigmoid,
    sin,
    sqrt,
    sub,
    tanh,
    where,
)
from chapter_01_tensor_autograd.engine.ops_reduce import (  # noqa: F401
    cross_entropy,
    cumsum,
    log_softmax,
    logsumexp,
    max,
    mean,
    min,
    norm,
    prod,
    softmax,
    sum,
)
from chapter_01_tensor_autograd.engine.ops_shape import (  # noqa: F401
    OPERATIONS,
    ShapeError,
    astype,
    concat,
    embedding,
    expand,
    getitem,
    matrix_transpose,
    pad,
    permute,
    reshape,
    scatter_add,
    stack,
    sum_to,
    transpose,
)
from chapter_01_tensor_autograd.engine.tensor import Tensor, raw


def _reversed(op: Callable) -> Callable:
    return lambda x, y: op(y, x)


def _comparison(compare: Callable) -> Callable:
    return lambda x, y: Tensor(compare(x.data, raw(y)))  # booleans, which have no gradient


Tensor.__add__ = Tensor.__radd__ = add
Tensor.__mul__ = Tensor.__rmul__ = mul
Tensor.__sub__, Tensor.__rsub__ = sub, _reversed(sub)
Tensor.__truediv__, Tensor.__rtruediv__ = div, _reversed(div)
Tensor.__mod__, Tensor.__rmod__ = remainder, _reversed(remainder)
Tensor.__pow__, Tensor.__rpow__ = power, _reversed(power)
Tensor.__matmul__, Tensor.__rmatmul__ = matmul, _reversed(matmul)
Tensor.__neg__, Tensor.__getitem__ = neg, getitem
Tensor.__eq__, Tensor.__ne__ = _comparison(np.equal), _comparison(np.not_equal)  # tensors are still hashed by identity
Tensor.__lt__, Tensor.__le__ = _comparison(np.less), _comparison(np.less_equal)
Tensor.__gt__, Tensor.__ge__ = _comparison(np.greater), _comparison(np.greater_equal)
for _method in (exp, log, sqrt, sin, cos, arctan, abs, tanh, sigmoid, relu, gelu, erf, clip):
    setattr(Tensor, _method.__name__, _method)
for _method in (sum, mean, prod, cumsum, norm, max, min, logsumexp, softmax, log_softmax):
    setattr(Tensor, _method.__name__, _method)
for _method in (astype, reshape, permute, expand):
    setattr(Tensor, _method.__name__, _method)
Tensor.T, Tensor.mT = property(transpose), property(matrix_transpose)
