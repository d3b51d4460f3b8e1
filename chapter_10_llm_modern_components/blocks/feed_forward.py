"""SwiGLU: a feed-forward network in which one half of the hidden numbers opens and shuts the other half.
SwiGLU：一种前馈网络，隐藏层的一半数值充当门，决定另一半放行多少。
"""

from torch import Tensor, nn
from torch.nn import functional as F


class SwiGLU(nn.Module):
    """f(x) = W_down (silu(W_gate x) * W_up x) at each place by itself (Shazeer 2020, equation 6).

    Three matrices where a plain network has two: with d_ff two thirds as large it has as many weights. One product
    makes both halves, gate and up, whose rows stand one below the other.
    """

    def __init__(self, d_model: int, d_ff: int, bias: bool = False):
        super().__init__()
        self.gate_up_proj = nn.Linear(d_model, 2 * d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., D), by way of (..., d_ff)."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)  # (..., d_ff) each
        return self.down_proj(F.silu(gate) * up)
