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

# The operations give tensors their operators and methods, which all that follows uses.
from chapter_01_tensor_autograd.engine import ops  # isort: skip
from chapter_01_tensor_autograd.engine.ops import ShapeError  # isort: skip
from chapter_01_tensor_autograd.engine.checkpointing import checkpoint, checkpoint_sequential  # isort: skip
from chapter_01_tensor_autograd.engine.functional_ad import (  # isort: skip
    gradcheck,
    hvp,
    jacobian,
    jvp,
    numerical_jacobian,
    vjp,
)

__all__ = [
    "InPlaceError",
    "Node",
    "ShapeError",
    "Tensor",
    "ancestors",
    "checkpoint",
    "checkpoint_sequential",
    "grad",
    "gradcheck",
    "hvp",
    "is_recording",
    "jacobian",
    "jvp",
    "no_grad",
    "numerical_jacobian",
    "ops",
    "raw",
    "record",
    "recording",
    "vjp",
]
