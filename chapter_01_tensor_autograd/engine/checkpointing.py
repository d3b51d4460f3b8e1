"""Gradient checkpointing: forget the intermediate values, and compute them again when the backward pass needs them.
梯度检查点：前向时不保存中间结果，反向需要时再重算一遍，用计算换内存。
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

from chapter_01_tensor_autograd.engine.tensor import Tensor, grad, is_recording, no_grad, record, recording


def checkpoint(function: Callable[[Tensor], Tensor], x: Tensor, parameters: Sequence[Tensor] = ()) -> Tensor:
    """Return function(x), keeping nothing but x until the backward pass computes it again (Chen et al. 2016).

    `parameters` are the leaves that the function uses besides x. It must give the same result both times.

    Raises:
        NotImplementedError: in a backward pass with create_graph.
    """
    inputs = (x, *parameters)
    with no_grad():
        value = function(x).data
    gradients: dict[int, Tensor] = {}  # what one recomputation found, until each input has taken its own
    found_for: tuple = (None, 0)  # the gradient that it started from, and that gradient's version

    def vjp(i: int) -> Callable:
        def take(g: Tensor, _: None) -> Tensor:
            nonlocal found_for
            if is_recording():
                raise NotImplementedError("a checkpointed segment cannot be differentiated twice")
            if found_for[0] is not g or found_for[1] != g.version[0] or i not in gradients:
                again = Tensor(x.data, requires_grad=x.requires_grad)  # a new leaf: the inner sweep ends here
                with recording(True):
                    output = function(again)
                leaves = {k: t for k, t in enumerate((again, *parameters)) if t.requires_grad}
                gradients.update(zip(leaves, grad(output, list(leaves.values()), g), strict=True))
                found_for = g, g.version[0]
            mine = gradients.pop(i)
            if not gradients:
                found_for = (None, 0)
            return mine

        return take

    return record("checkpoint", value, *((t, vjp(i)) for i, t in enumerate(inputs)), saves=inputs)


def checkpoint_sequential(layers: Sequence[Callable], x: Tensor, segment: int | None = None) -> Tensor:
    """Apply the layers in turn, checkpointing `segment` of them at a time: by default sqrt(len(layers)).

    Memory then holds one x for each segment and, during the backward pass, the inside of one segment: L/s + s values
    for L layers in segments of s, which is least at s = sqrt(L). A layer is a module, or has `parameters()` like one.
    """
    segment = segment or math.isqrt(len(layers))
    for start in range(0, len(layers), segment):
        part = layers[start : start + segment]
        parameters = dict.fromkeys(p for layer in part for p in layer.parameters())  # each once, shared or not
        x = checkpoint(partial(_apply, part), x, list(parameters))
    return x


def _apply(layers: Sequence[Callable], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x
