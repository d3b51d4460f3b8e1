"""Solution: a turn of all keys by the same angle is one more turn, for turns add up.
解答：转角可以相加，所以挪动就是让所有键再转同一个角度。
"""

import torch
from torch import Tensor


def turn(x: Tensor, places: Tensor, base: float = 10000.0) -> Tensor:
    """(..., T, d), (T,) -> (..., T, d)."""
    d = x.shape[-1]
    speeds = base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)  # (d/2,)
    angles = (places.double()[:, None] * speeds).to(x.dtype)  # (T, d/2)
    a, b = x.chunk(2, dim=-1)  # (..., T, d/2)
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], dim=-1)


def move(k: Tensor, distance: float, base: float = 10000.0) -> Tensor:
    """(..., T, d) -> (..., T, d)."""
    return turn(k, torch.full((k.shape[-2],), float(distance)), base)
