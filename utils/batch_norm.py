"""BatchNorm's running statistics, measured anew for weights that have changed.
权重改变之后，重新测量 BatchNorm 的滑动统计量。
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from utils.evaluating import evaluating


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Return the layers that keep running statistics: PyTorch's BatchNorms, and any built like them."""
    return [module for module in model.modules() if getattr(module, "running_mean", None) is not None]


@torch.no_grad()
def recompute_batch_norm_(model: nn.Module, batches: Iterable[Tensor | tuple[Tensor, ...]]) -> None:
    """Set BatchNorm's running statistics to their mean over `batches`, whose first tensors are the inputs.

    Every example counts alike, however the batches are cut. Only the norms go into training mode: dropout stays off,
    as it will be when the statistics are used.
    """
    norms = batch_norms(model)
    momenta, seen = [norm.momentum for norm in norms], 0
    try:
        with evaluating(model, training=norms):
            for batch in batches:
                x = batch if isinstance(batch, Tensor) else batch[0]
                seen += len(x)
                for norm in norms:
                    norm.momentum = len(x) / seen  # 1 for the first batch, which thus replaces what was there
                model(x)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
