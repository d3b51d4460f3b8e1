"""Exercise: rotary positions at any places, and kept keys that move to others without being made anew.
练习：任意位置的旋转位置编码；把缓存里的键挪到别的位置，而不必重新生成。

    python -m pytest chapter_09_efficient_attention/exercises/test_move_keys.py
"""

from torch import Tensor


def turn(x: Tensor, places: Tensor, base: float = 10000.0) -> Tensor:
    """Return x (..., T, d), its pair i turned by place * base^(-2i/d); number i of a vector is paired with i + d/2.

    Args:
        places: (T,), in any order; fractions are places, too.
    """
    raise NotImplementedError


def move(k: Tensor, distance: float, base: float = 10000.0) -> Tensor:
    """Return keys (..., T, d) as if each had stood `distance` places further on when it was turned.

    A cache that throws away what is in the middle of a text closes the gap like this (Xiao et al. 2024, section 3.2).
    """
    raise NotImplementedError
