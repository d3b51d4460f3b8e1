"""Gradient checkpointing: forget the intermediate values, and compute them again when the backward pass needs them.
梯度检查点：前向时不保存中间结果，反向需要时再重算一遍，用计算换内存。
"""

import math
from collections.abc import Callable, Sequence

from chapter_01_tensor_autograd.engine.tensor import Tensor, grad, is_recording, no_grad, record, recording
from chapter_01_tensor_autograd.nn import Module, Sequential


def checkpoint(function: Callable[[Tensor], Tensor], x: Tensor, parameters: Sequence[Tensor] = ()) -> Tensor:
    """Return function(x), keeping nothing but x until the backward pass computes it again (Chen et al. 2016).

    `parameters` are the leaves that the function uses besides x. It must give the same result both times.

    Raises:
        NotImplementedError: in a backward pass with create_graph.
    """
    with no_grad():
        value = function(x).data
    gradients: list[Tensor] = []  # what one recomputation found, for the inputs whose turn is still to come

    def vjp(g: Tensor, _: None) -> Tensor:
        if is_recording():
            raise NotImplementedError("a checkpointed segment cannot be differentiated twice")
        if not gradients:
            again = Tensor(x.data, requires_grad=x.requires_grad)  # a new leaf: the inner sweep ends here
            with recording(True):
                output = function(again)
            gradients.extend(grad(output, [t for t in (again, *parameters) if t.requires_grad], g))
        return gradients.pop(0)

    return record("checkpoint", value, *((t, vjp) for t in (x, *parameters)))


def checkpoint_sequential(layers: Sequence[Module], x: Tensor, segment: int | None = None) -> Tensor:
    """Apply the layers in turn, checkpointing `segment` of them at a time: by default sqrt(len(layers)).

    Memory then holds one x for each segment and, during the backward pass, the inside of one segment: L/s + s values
    for L layers in segments of s, which is least at s = sqrt(L).
    """
    segment = segment or math.isqrt(len(layers))
    for start in range(0, len(layers), segment):
        part = Sequential(*layers[start : start + segment])
        x = checkpoint(part, x, part.parameters())
    return x
