"""Solution: the GRU as its paper has it. U_n needs r h, so it cannot share one product with U_r and U_z.
解答：原论文的 GRU。U_n 要等 r h 算出之后才能相乘，因此三个矩阵不能合成一次乘法。
"""

import torch
from torch import Tensor


def original_gru_cell(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b: Tensor) -> Tensor:
    """x (B, D), h (B, H), w_ih (3H, D), w_hh (3H, H), b (3H,) -> (B, H)."""
    r_x, z_x, n_x = (x @ w_ih.t() + b).chunk(3, dim=-1)  # each (B, H)
    u_r, u_z, u_n = w_hh.chunk(3)  # each (H, H)
    r = torch.sigmoid(r_x + h @ u_r.t())
    z = torch.sigmoid(z_x + h @ u_z.t())
    n = torch.tanh(n_x + (r * h) @ u_n.t())
    return z * h + (1 - z) * n
