"""Masks: which query may look at which key. True means that it may.
掩码：哪个查询可以看哪个键；True 表示可以看。

Every mask broadcasts to (B, T, S): T queries and S keys. Masks that must all hold are joined with `&`.
"""

import torch
from torch import Tensor


def causal_mask(n_queries: int, n_keys: int | None = None, device: torch.device | None = None) -> Tensor:
    """Return (T, S), bool: no query sees a key that comes after it.

    With fewer queries than keys the queries are the last ones of the sequence, as when it is decoded step by step.
    """
    offset = query_offset(n_queries, n_keys)
    return torch.ones(n_queries, n_queries + offset, dtype=torch.bool, device=device).tril(offset)  # (T, S)


def padding_mask(lengths: Tensor, n_keys: int) -> Tensor:
    """Return (B, 1, S), bool: of the b-th sequence the first `lengths[b]` keys are real, the rest is padding."""
    return (torch.arange(n_keys, device=lengths.device) < lengths[:, None])[:, None]  # (B, 1, S)


def local_mask(
    n_queries: int, window: int, n_keys: int | None = None, causal: bool = False, device: torch.device | None = None
) -> Tensor:
    """Return (T, S), bool: each query sees the keys at most `window` places away; if `causal`, none after it."""
    offset = query_offset(n_queries, n_keys)
    band = torch.ones(n_queries, n_queries + offset, dtype=torch.bool, device=device).triu(offset - window)
    return band.tril(offset if causal else offset + window)  # (T, S)


def query_offset(n_queries: int, n_keys: int | None) -> int:
    """Return how many keys come before the first query.

    Raises:
        ValueError: there are more queries than keys, so that the queries cannot be the last ones of the sequence.
    """
    n_keys = n_queries if n_keys is None else n_keys
    if n_keys < n_queries:
        raise ValueError(f"{n_queries} queries cannot be the last ones of {n_keys} keys")
    return n_keys - n_queries
