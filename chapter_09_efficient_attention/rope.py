"""Rotary positions: turn each query and key by an angle that grows with its place, and scores see only the distance.
旋转位置编码：把查询与键各转一个随位置增大的角度，打分便只取决于两者的距离。

Two numbers of a vector are a point of the plane. RoPE turns the i-th pair of the vector at place p by the angle p w_i,
with w_i = base^(-2i/d). The lengths stay, and the dot product of a query turned by p w_i and a key turned by r w_i is
that of the query itself and the key turned by (r - p) w_i: p and r count only by their difference.

Which two numbers make a pair is a convention, and weights trained with one are wrong for the other:

    interleaved    (0, 1), (2, 3), (4, 5), ...              Su et al. 2021
    half           (0, d/2), (1, d/2 + 1), ...              GPT-NeoX, and Llama's weights as Hugging Face stores them

They differ by the order of the numbers alone, so reordering the rows of the projections turns one into the other.

A model that was trained on short texts has never seen the angles of far places. Slower turns bring them back into the
range that it knows, and a little more training does the rest:

    linear_scaling    all pairs turn more slowly             Chen et al. 2023
    llama3_scaling    only those that turn slowly anyhow     Llama 3.1 (Grattafiori et al. 2024)
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from chapter_08_transformer_vanilla.positional_encoding import angular_frequencies


def rotate_complex(x: Tensor, first: int = 0, base: float = 10000.0) -> Tensor:
    """Return x (..., T, d) turned, by definition, in interleaved pairs; the first of the T places is `first`.

    A pair is one complex number z, and turning it by an angle a is z e^(ia) (Su et al. 2021, equation 12).
    """
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())  # (..., T, d/2)
    angles = rotary_angles(x.shape[-2], x.shape[-1], first, base).to(x)  # (T, d/2)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)  # (..., T, d)


def rotary(x: Tensor, first: int = 0, base: float = 10000.0, interleaved: bool = False) -> Tensor:
    """Return x (..., T, d) turned; the first of the T places is `first`.

    Raises:
        ValueError: an odd d has no pairs.
    """
    cos, sin = rotary_table(x.shape[-2], x.shape[-1], first, base, interleaved, x.device, x.dtype)  # (T, d)
    return turn(x, cos, sin, interleaved)


def turn(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Return x (..., T, d) turned by angles of which both numbers of a pair have the cosine and the sine (..., T, d).

    Turning (a, b) gives (a cos - b sin, b cos + a sin) (Su et al. 2021, equation 34).
    """
    if interleaved:
        a, b = x[..., 0::2], x[..., 1::2]  # (..., T, d/2)
        turned = torch.stack([-b, a], dim=-1).flatten(-2)  # (..., T, d): x turned by a right angle
    else:
        a, b = x.chunk(2, dim=-1)  # (..., T, d/2)
        turned = torch.cat([-b, a], dim=-1)  # (..., T, d)
    return (x * cos + turned * sin).to(x.dtype)


def check_pairs(d: int) -> None:
    """Refuse a width that has no pairs to turn.

    Raises:
        ValueError: d is odd.
    """
    if d % 2:
        raise ValueError(f"rotary positions turn pairs of numbers, and a width of {d} has one without a partner")


def rotary_angles(n_places: int, d: int, first: int, base: float) -> Tensor:
    """Return (T, d/2), float64: by how much each pair turns at each place."""
    places = torch.arange(first, first + n_places, dtype=torch.float64)
    return places[:, None] * angular_frequencies(d, base)


@lru_cache(maxsize=16)  # all layers need the same one
def rotary_table(
    n_places: int, d: int, first: int, base: float, interleaved: bool, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines (T, d) of both numbers of each pair, in float32 at least."""
    angles = rotary_angles(n_places, d, first, base)
    angles = angles.repeat_interleave(2, dim=-1) if interleaved else angles.repeat(1, 2)  # (T, d/2) -> (T, d)
    dtype = torch.promote_types(dtype, torch.float32)
    return angles.cos().to(device, dtype), angles.sin().to(device, dtype)


def linear_scaling(frequencies: Tensor, factor: float) -> Tensor:
    """Return the angles a place (d/2,) for texts `factor` times as long: place p turns as p / factor did before."""
    return frequencies / factor


def llama3_scaling(
    frequencies: Tensor, factor: float, low_factor: float, high_factor: float, original_length: int
) -> Tensor:
    """Return the angles a place (d/2,): those of pairs that came round in the old texts stay, the others are divided.

    A pair that turns more than `high_factor` times within `original_length` tokens tells near places apart, and stays.
    One that turns less than `low_factor` times is slowed down by `factor`; in between there is a mixture.
    """
    turns = original_length * frequencies / (2 * math.pi)  # (d/2,)
    share = ((turns - low_factor) / (high_factor - low_factor)).clamp(0, 1)  # of the old frequency
    return share * frequencies + (1 - share) * frequencies / factor
