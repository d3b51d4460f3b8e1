"""Elementwise operations: arithmetic, comparisons that pass a gradient on, functions of one number.
逐元素运算：四则运算、能传递梯度的比较与选择、一元函数。

Written like ops_shape.py: the forward on arrays, the VJPs beside it in the engine's own operations.
"""

import math
from typing import Any

import numpy as np

from chapter_01_tensor_autograd.engine.ops_shape import NUMBER, as_pair, factors_read, operation, sum_to
from chapter_01_tensor_autograd.engine.tensor import Tensor, raw, record

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
    return record(
        "mul",
        x.data * y.data,
        (x, lambda g, _: sum_to(g * y, a)),
        (y, lambda g, _: sum_to(g * x, b)),
        saves=factors_read(x, y),
    )


@operation
def div(x, y) -> Tensor:
    x, y = as_pair(x, y)
    a, b = x.shape, y.shape
    return record(
        "div",
        x.data / y.data,
        (x, lambda g, _: sum_to(g / y, a)),
        (y, lambda g, out: sum_to(-g * out / y, b)),
        saves=(y,),
        saves_output=True,
    )


@operation
def power(x, y) -> Tensor:
    """x ** y. The derivative by the exponent, x**y log x, counts as 0 where x = 0 and y >= 0, as in PyTorch."""
    if isinstance(y, NUMBER):
        y = _python_number(y)
        return record("power", x.data**y, (x, lambda g, _: g * (y * x ** (y - 1)) if y else g * 0.0), saves=(x,))
    x, y = as_pair(x, y)
    a, b = x.shape, y.shape

    def vjp_x(g: Tensor, _: Tensor) -> Tensor:
        constant = y.data == 0
        return sum_to(g * where(constant, 0.0, y * x ** where(constant, 1.0, y - 1)), a)

    def vjp_y(g: Tensor, out: Tensor) -> Tensor:
        flat = (x.data == 0) & (y.data >= 0)
        return sum_to(g * out * log(where(flat, 1.0, x)), b)

    return record("power", x.data**y.data, (x, vjp_x), (y, vjp_y), saves=(x, y), saves_output=True)


def _python_number(x: Any) -> Any:
    """A NumPy scalar as Python's own number, beside which an array keeps its dtype; anything else as it is."""
    return x.item() if isinstance(x, np.generic) else x


@operation
def remainder(x, y) -> Tensor:
    """x % y = x - y floor(x / y), with the sign of y; where it jumps, the derivative is that of a side."""
    x, y = as_pair(x, y)
    a, b = x.shape, y.shape
    return record(
        "remainder",
        np.remainder(x.data, y.data),
        (x, lambda g, _: sum_to(g, a)),
        (y, lambda g, _: sum_to(g * -np.floor_divide(x.data, y.data), b)),
        saves=(x, y) if y.requires_grad else (),
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
        saves=(x, y),
    )


@operation
def minimum(x, y) -> Tensor:
    x, y = as_pair(x, y)
    return record(
        "minimum",
        np.minimum(x.data, y.data),
        (x, lambda g, _: sum_to(g * _share(x.data < y.data, x.data, y.data), x.shape)),
        (y, lambda g, _: sum_to(g * _share(y.data < x.data, x.data, y.data), y.shape)),
        saves=(x, y),
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
    return record("log", np.log(x.data), (x, lambda g, _: g / x), saves=(x,))


@operation
def sqrt(x: Tensor) -> Tensor:
    return record("sqrt", np.sqrt(x.data), (x, lambda g, out: g / (2 * out)), saves_output=True)


@operation
def sin(x: Tensor) -> Tensor:
    return record("sin", np.sin(x.data), (x, lambda g, _: g * cos(x)), saves=(x,))


@operation
def cos(x: Tensor) -> Tensor:
    return record("cos", np.cos(x.data), (x, lambda g, _: -g * sin(x)), saves=(x,))


@operation
def arctan(x: Tensor) -> Tensor:
    return record("arctan", np.arctan(x.data), (x, lambda g, _: g / (1 + x * x)), saves=(x,))


@operation
def abs(x: Tensor) -> Tensor:
    return record("abs", np.abs(x.data), (x, lambda g, _: g * np.sign(x.data)), saves=(x,))


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
    return record("erf", value, (x, lambda g, _: g * (2 / math.sqrt(math.pi)) * exp(-x * x)), saves=(x,))


@operation
def gelu(x: Tensor) -> Tensor:
    """x Phi(x), with the normal distribution's Phi (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


@operation
def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """x limited to [low, high]; no gradient flows where a limit was passed."""
    low = -math.inf if low is None else _python_number(low)
    high = math.inf if high is None else _python_number(high)
    value = np.clip(x.data, low, high)
    return record("clip", value, (x, lambda g, _: g * ((x.data >= low) & (x.data <= high))), saves=(x,))
