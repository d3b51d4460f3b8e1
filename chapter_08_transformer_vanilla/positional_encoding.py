"""Where a token stands: sines and cosines of many wavelengths, or a learned vector for each position.
词元站在第几个位置：用多种波长的正弦与余弦表示，或为每个位置学一个向量。

Attention does not see order: swap two tokens, and every query still finds the same keys. So each token's vector is told
its position. A module here takes x (B, T, D), whose first token stands at position `first`, and adds the positions.
"""

import torch
from torch import Tensor, nn


def angular_frequencies(d_model: int, base: float = 10000.0) -> Tensor:
    """Return (D/2,), float64: the angle base^(-2i/D) by which the i-th pair of numbers turns from position to position.

    The first pair comes round every 2 pi positions, the last one only after nearly 2 pi base.

    Raises:
        ValueError: an odd width has no pairs.
    """
    if d_model % 2:
        raise ValueError(f"sines and cosines come in pairs: a width of {d_model} is odd")
    return base ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)


def sinusoidal_encoding(n_positions: int, d_model: int, first: int = 0) -> Tensor:
    """Return (n_positions, D), float64: the row c(p) of position p is sin(p w_0), cos(p w_0), sin(p w_1), ...

    Vaswani et al. 2017, section 3.5; the w_i are `angular_frequencies`.
    """
    positions = torch.arange(first, first + n_positions, dtype=torch.float64)
    angles = positions[:, None] * angular_frequencies(d_model)  # (N, D/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # (N, D/2, 2) -> (N, D)


def shift_matrix(distance: int, d_model: int) -> Tensor:
    """Return the M (D, D), float64, for which M c(p) = c(p + distance), whatever the position p.

    It turns the i-th pair by the angle a = distance w_i, for sin(b + a) = sin b cos a + cos b sin a and
    cos(b + a) = cos b cos a - sin b sin a: a rotation that does not depend on p. So a linear map, such as attention's
    projections, can look a fixed distance back (Vaswani et al. 2017, section 3.5).
    """
    angles = distance * angular_frequencies(d_model)  # (D/2,)
    sin, cos = angles.sin(), angles.cos()
    return torch.block_diag(*torch.stack([cos, sin, -sin, cos], dim=-1).view(-1, 2, 2))  # D/2 of (2, 2) -> (D, D)


class SinusoidalPositions(nn.Module):
    """Adds `sinusoidal_encoding`. The table is of `max_length` rows, and grows when a sequence is longer."""

    def __init__(self, d_model: int, max_length: int):
        super().__init__()
        self.register_buffer("table", sinusoidal_encoding(max_length, d_model).float(), persistent=False)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        n_rows, d_model = self.table.shape
        missing = first + x.shape[1] - n_rows
        if missing > 0:
            more = sinusoidal_encoding(max(missing, n_rows), d_model, first=n_rows)  # at least twice as many
            self.table = torch.cat([self.table, more.float().to(self.table)])
        return x + self.table[first : first + x.shape[1]]


class LearnedPositions(nn.Embedding):
    """Adds a parameter vector for each position (Gehring et al. 2017): `weight` (max_length, D), none beyond it."""

    def __init__(self, d_model: int, max_length: int):
        super().__init__(max_length, d_model)
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """x (B, T, D) -> (B, T, D).

        Raises:
            ValueError: the sequence is longer than the positions that were learned.
        """
        last = first + x.shape[1]
        if last > self.num_embeddings:
            raise ValueError(f"a sequence of {last} tokens is too long: {self.num_embeddings} positions were learned")
        return x + self.weight[first:last]


class NoPositions(nn.Module):
    """Adds nothing: a causal model can still count what it sees, an encoder takes its tokens as a set."""

    def __init__(self, d_model: int, max_length: int):
        super().__init__()

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """x (B, T, D) -> the same."""
        return x


POSITIONS = {"sinusoidal": SinusoidalPositions, "learned": LearnedPositions, "none": NoPositions}
