"""Solution: compare places, and let what is forbidden be -inf only until the largest allowed score is known.
解答：比较位置；被禁止的分数先记为 -inf，以便求出允许范围内的最大值。
"""

import torch
from torch import Tensor


def causal(n_queries: int, n_keys: int) -> Tensor:
    """Return (T, S), bool."""
    queries = torch.arange(n_keys - n_queries, n_keys)
    return torch.arange(n_keys) <= queries[:, None]  # (S,) <= (T, 1) -> (T, S)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Turn scores (..., T, S) into weights (..., T, S)."""
    scores = torch.where(mask, scores, -torch.inf)
    largest = scores.amax(dim=-1, keepdim=True)  # (..., T, 1)
    largest = torch.where(largest == -torch.inf, 0.0, largest)  # -inf less -inf would be NaN
    exps = torch.exp(scores - largest)  # exp(-inf) is 0
    return exps / exps.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(exps.dtype).tiny)
