"""Solution: (I + beta (K K^T below the diagonal)) U = beta (V - K S_0).
解答：(I + beta (K K^T 的对角线以下部分)) U = beta (V - K S_0)。
"""

import torch
from torch import Tensor


def delta_chunk(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """(C, d), (C, d), (C, d_v), (C, 1), (d, d_v) -> (C, d_v), (d, d_v)."""
    system = (beta * (k @ k.T)).tril(-1)  # (C, C); the ones of the diagonal are implied
    u = torch.linalg.solve_triangular(system, beta * (v - k @ state), upper=False, unitriangular=True)  # (C, d_v)
    return q @ state + (q @ k.T).tril() @ u, state + k.T @ u
