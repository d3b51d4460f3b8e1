"""Solution: both sums are counted relative to the larger maximum, or to 0 where nothing was seen.
解答：两个和都换算到较大的最大值；什么都没看到时以 0 为基准。
"""

import math

import torch
from torch import Tensor

Partial = tuple[Tensor, Tensor, Tensor]


def read_piece(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Partial:
    """(T, d), (S, d), (S, d_v), (T, S) -> (T, 1), (T, 1), (T, d_v)."""
    scores = (q @ k.T / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)  # (T, S)
    m = scores.amax(dim=-1, keepdim=True)  # (T, 1)
    weights = (scores - finite(m)).exp()
    return m, weights.sum(dim=-1, keepdim=True), weights @ v


def merge(a: Partial, b: Partial) -> Partial:
    """Shrink whichever part has the smaller maximum, and add."""
    m = torch.maximum(a[0], b[0])
    shrink_a, shrink_b = (a[0] - finite(m)).exp(), (b[0] - finite(m)).exp()
    return m, shrink_a * a[1] + shrink_b * b[1], shrink_a * a[2] + shrink_b * b[2]


def finite(m: Tensor) -> Tensor:
    """Replace -inf by 0: -inf - -inf would be NaN."""
    return m.masked_fill(m == -math.inf, 0.0)
