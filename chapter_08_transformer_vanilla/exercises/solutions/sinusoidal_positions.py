"""Solution: one outer product for all angles; a shift turns every pair of numbers.
解答：用一次外积得到所有角度；平移就是转动每一对数。
"""

import torch
from torch import Tensor


def speeds(d_model: int) -> Tensor:
    """Return (D/2,), the angle per position of each hand."""
    return 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)


def positions(n_positions: int, d_model: int) -> Tensor:
    """Return (n_positions, D)."""
    angles = torch.outer(torch.arange(n_positions, dtype=torch.float64), speeds(d_model))  # (N, D/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # (N, D/2, 2) -> (N, D)


def shifted(codes: Tensor, distance: int) -> Tensor:
    """codes (N, D) -> (N, D)."""
    a = distance * speeds(codes.shape[-1])  # (D/2,)
    sin, cos = codes[:, 0::2], codes[:, 1::2]  # (N, D/2)
    turned = torch.stack([sin * a.cos() + cos * a.sin(), cos * a.cos() - sin * a.sin()], dim=-1)
    return turned.flatten(1)  # (N, D/2, 2) -> (N, D)
