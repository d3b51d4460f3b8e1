"""The linear layers inside a model's blocks, found by name and put in the place of one another.
按名称找出模型各层中的线性层，并把它们换成别的层。

Quantization puts a layer of few bits in the place of each, LoRA a layer with an adapter. Embedding and head, which are
one matrix in a tied model, the router of experts and the norms stay as they are.
"""

from collections.abc import Callable, Iterable

from torch import nn

ATTENTION = ("qkv_proj", "out_proj")
FEED_FORWARD = ("gate_up_proj", "down_proj", "linear1", "linear2")  # of SwiGLU, and of the network of 2017
PROJECTIONS = ATTENTION + FEED_FORWARD


def replace_layers_(model: nn.Module, names: Iterable[str], make: Callable[[nn.Module], nn.Module]) -> None:
    """Put `make(layer)` in the place of each layer whose own name is one of `names`.

    Raises:
        ValueError: there is no such layer.
    """
    names = tuple(names)
    found = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in names]
    if not found:
        raise ValueError(f"the model has no layer named {' or '.join(names)}")
    for name in found:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, make(model.get_submodule(name)))
