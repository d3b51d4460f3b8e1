"""RMSNorm: divide by the root mean square, and subtract no mean: less to compute than LayerNorm.
RMSNorm：只除以均方根，不减均值，计算比 LayerNorm 少。
"""

import torch
from torch import Tensor

from chapter_03_optimization_regularization import normalization


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return x / sqrt(mean(x^2) + eps) * weight, the mean over the last axis (Zhang & Sennrich 2019, equation 4).

    bfloat16 goes in and comes out; in between all is float32, for the square of a large number has few correct digits.

    Args:
        x, weight: (..., D), (D,).
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    y = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)  # (..., D)
    return (y * weight).to(x.dtype)


class RMSNorm(normalization.RMSNorm):
    """Chapter 3's layer, whose backward pass is written by hand; without gradients `rms_norm` is the quicker way."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., D)."""
        return super().forward(x) if torch.is_grad_enabled() else rms_norm(x, self.weight, self.eps)
