"""The engine: tensors, their operations, and derivatives of functions.
自动微分引擎：张量、张量上的运算，以及函数的导数。
"""

from chapter_01_tensor_autograd.engine.tensor import (
    InPlaceError,
    Node,
    Tensor,
    ancestors,
    grad,
    is_recording,
    no_grad,
    raw,
    record,
    recording,
)

# The operations give tensors their operators and methods.
from chapter_01_tensor_autograd.engine import ops  # isort: skip

__all__ = [
    "ops",
    "InPlaceError",
    "Node",
    "Tensor",
    "ancestors",
    "grad",
    "is_recording",
    "no_grad",
    "raw",
    "record",
    "recording",
]
