"""Eval mode for a while, and then every layer as it was.
临时切换到评估模式，之后每一层恢复原样。
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module, training: Iterable[nn.Module] = ()) -> Iterator[None]:
    """Put `model` into eval mode, but the layers in `training` into training mode; afterwards restore every module's.

    `model.eval()` followed by `model.train()` would not do: parts that were frozen in eval mode would come to life.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        for module in training:
            module.training = True
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
