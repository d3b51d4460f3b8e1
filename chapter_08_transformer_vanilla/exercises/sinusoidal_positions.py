"""Exercise: the table of positions without a loop, and a shift that never looks at the position.
练习：不用循环写出位置编码表，并在不知道位置的情况下把编码平移。

    python -m pytest chapter_08_transformer_vanilla/exercises/test_sinusoidal_positions.py
"""

from torch import Tensor


def positions(n_positions: int, d_model: int) -> Tensor:
    """Return (n_positions, D), float64: sin and cos of p 10000^(-2i/D) at 2i and 2i + 1, for the positions p from 0 on.

    Hint: an outer product makes all angles, (N, D/2); `stack` and `flatten` put sines and cosines in turn.
    """
    raise NotImplementedError


def shifted(codes: Tensor, distance: int) -> Tensor:
    """Return the codes (N, D) of the positions that are `distance` further on, without knowing any position.

    Turn each pair of numbers: sin(b + a) = sin b cos a + cos b sin a, and cos(b + a) = cos b cos a - sin b sin a.
    """
    raise NotImplementedError
