"""Sliding windows: each token sees the few before it, and, as an anchor, the very first ones.
滑动窗口：每个词元只看前面不远处的若干词元，外加最开头的几个，作为注意力汇。

    window      the last `window` places and its own    Beltagy et al. 2020, section 3.1
    dilation    with equal gaps in between              Beltagy et al. 2020, section 3.1
    sinks       and the first few tokens always         Xiao et al. 2024, section 3.2

A token L layers up has seen L windows back, for what it sees has seen something itself. Each key keeps its place in the
text; Xiao et al. count places in the cache instead, so that no distance is longer than in training.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import masked_softmax
from chapter_09_efficient_attention.grouped import GroupedAttention, grouped_attention, over_groups
from chapter_09_efficient_attention.kv_cache import Cache, ContiguousCache, RingCache


def window_mask(query_places: Tensor, key_places: Tensor, window: int, dilation: int = 1, n_sinks: int = 0) -> Tensor:
    """Return (..., T, S), bool: which keys at places (..., S) may be seen from places (..., T).

    Those 0, 1, ..., `window` times `dilation` places back, and the first `n_sinks` of the sequence, if they are not
    ahead.
    """
    distance = query_places[..., :, None] - key_places[..., None, :]  # (..., T, S)
    near = (distance <= window * dilation) & (distance % dilation == 0)
    return (distance >= 0) & (near | (key_places < n_sinks)[..., None, :])


def chunked_window_attention(q: Tensor, k: Tensor, v: Tensor, window: int, n_sinks: int = 0) -> Tensor:
    """Return softmax attention under `window_mask`, from about T (2 window + n_sinks) scores.

    The sequence is cut into blocks as long as the window. A block's queries see no further back than the block before,
    so they meet the keys of two blocks; the first tokens are put beside these, for all blocks alike.

    Args:
        q, k, v: (..., T, d), (..., T, d), (..., T, d_v), whose leading axes broadcast.
    """
    length, w = q.shape[-2], max(window, 1)
    n_blocks = -(-length // w)
    missing = n_blocks * w - length
    sinks = [x[..., None, : min(n_sinks, length), :] for x in (k, v)]  # (..., 1, n_sinks, d)
    q = F.pad(q, (0, 0, 0, missing)).unflatten(-2, (n_blocks, w))  # (..., n, w, d)
    k, v = (F.pad(x, (0, 0, w, missing)).unfold(-2, 2 * w, w).mT for x in (k, v))  # (..., n, 2 w, d)

    starts = w * torch.arange(n_blocks, device=q.device)[:, None]  # (n, 1)
    rows = starts + torch.arange(w, device=q.device)  # (n, w): the places of a block's queries
    columns = starts + torch.arange(-w, w, device=q.device)  # (n, 2 w): and of the keys that they meet
    mask = window_mask(rows, columns, window) & (columns >= 0)[:, None]  # (n, w, 2 w)
    scores = q @ k.mT  # (..., n, w, d) @ (..., n, d, 2 w) -> (..., n, w, 2 w)
    if n_sinks:
        first = torch.arange(sinks[0].shape[-2], device=q.device)
        beyond = rows[..., None] - first > window  # (n, w, n_sinks): those within the window were met already
        scores = torch.cat([scores, q @ sinks[0].mT], dim=-1)  # (..., n, w, 2 w + n_sinks)
        mask = torch.cat([mask, beyond], dim=-1)
    weights = masked_softmax(scores / math.sqrt(q.shape[-1]), mask)
    means = weights[..., : 2 * w] @ v  # (..., n, w, 2 w) @ (..., n, 2 w, d_v) -> (..., n, w, d_v)
    if n_sinks:
        means = means + weights[..., 2 * w :] @ sinks[1]
    return means.flatten(-3, -2)[..., :length, :]


def dilated_window_attention(q: Tensor, k: Tensor, v: Tensor, window: int, dilation: int) -> Tensor:
    """Return softmax attention under a dilated `window_mask`: plain windows on every `dilation`-th token.

    Args:
        q, k, v: as in `chunked_window_attention`.
    """
    length = q.shape[-2]
    missing = -length % dilation

    def split(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, missing)).unflatten(-2, (-1, dilation)).transpose(-3, -2)  # (..., dilation, T', d)

    means = chunked_window_attention(split(q), split(k), split(v), window)  # (..., dilation, T', d_v)
    return means.transpose(-3, -2).flatten(-3, -2)[..., :length, :]


class LocalAttention(GroupedAttention):
    """Causal self-attention in a window, with sinks or dilated; its cache does not grow beyond the window.

    Args:
        window: how many places a token looks back; if dilated, `dilation` times as far.
        grouped: what else `GroupedAttention` takes.

    Raises:
        ValueError: sinks in a dilated window.
    """

    def __init__(self, width: int, n_heads: int, *, window: int, dilation: int = 1, n_sinks: int = 0, **grouped):
        super().__init__(width, n_heads, **grouped)
        if dilation > 1 and n_sinks:
            raise ValueError("a window is dilated or has sinks, not both")
        self.window, self.dilation, self.n_sinks = window, dilation, n_sinks

    def new_cache(self, capacity: int, make: Callable[[int], Cache] = ContiguousCache) -> Cache:
        """Return a ring that holds what can be seen, if that is less than `capacity`."""
        size = self.window * self.dilation + 1  # and the token itself
        return RingCache(size, self.n_sinks) if size + self.n_sinks < capacity else make(capacity)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cache: Cache | None) -> Tensor:
        """As `GroupedAttention.attend`."""
        if q.shape[2] < k.shape[2]:  # the sequence goes on: few queries, and keys out of the cache
            places = torch.arange(cache.length - q.shape[2], cache.length)
            mask = window_mask(places, cache.positions, self.window, self.dilation, self.n_sinks).to(q.device)  # (T, S)
            return grouped_attention(q, k, v, mask)
        if self.dilation > 1:
            return over_groups(lambda *qkv: dilated_window_attention(*qkv, self.window, self.dilation), q, k, v)
        return over_groups(lambda *qkv: chunked_window_attention(*qkv, self.window, self.n_sinks), q, k, v)
