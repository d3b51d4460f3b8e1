"""Top-k blocks: each query chooses the blocks of keys that it looks into, by the mean of their keys.
Top-k 块：每个查询先比较各块键的均值，再选出要看的几块。

Lu et al. 2025 (MoBA), section 2.2, train with it; Tang et al. 2024 (Quest) choose in the same spirit while decoding:
what is not chosen need not be read from memory. The choice itself has no gradient, the attention after it has.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import causal_mask, masked_softmax, scaled_dot_product_attention
from chapter_09_efficient_attention.grouped import GroupedAttention, over_groups
from chapter_09_efficient_attention.kv_cache import Cache

LONG = 512  # keys from which on the chosen blocks are copied, so that memory does not grow with the length's square


def choose_blocks(q: Tensor, k: Tensor, block_size: int, n_chosen: int) -> Tensor:
    """Return (..., T, n), bool: of the n blocks of keys each query's own, and the `n_chosen` best of those before it.

    A block fits by the dot product of the query and the mean of its keys. All its keys came before the query's block,
    so the choice knows nothing of what follows. q (..., T, d) are the last ones of the sequence of k (..., S, d).
    """
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    means = into_blocks(k, block_size).mean(dim=-2)  # (..., n, d)
    scores = q @ means.mT  # (..., T, d) @ (..., d, n) -> (..., T, n)
    own = torch.arange(n_keys - n_queries, n_keys, device=q.device)[:, None] // block_size  # (T, 1)
    block = torch.arange(means.shape[-2], device=q.device)
    best = scores.masked_fill(block >= own, -math.inf).topk(min(n_chosen, len(block)), dim=-1).indices
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
    return (chosen & (block < own)) | (block == own)


def into_blocks(x: Tensor, block_size: int) -> Tensor:
    """Cut x (..., S, d) into blocks (..., n, block_size, d), the last one filled up with 0."""
    return F.pad(x, (0, 0, 0, -x.shape[-2] % block_size)).unflatten(-2, (-1, block_size))


def top_k_attention(q: Tensor, k: Tensor, v: Tensor, block_size: int, n_chosen: int) -> Tensor:
    """Return (..., T, d_v), by definition: causal attention under a mask that leaves only the chosen blocks."""
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    chosen = choose_blocks(q, k, block_size, n_chosen)
    mask = chosen.repeat_interleave(block_size, dim=-1)[..., :n_keys] & causal_mask(n_queries, n_keys, q.device)
    return scaled_dot_product_attention(q, k, v, mask)[0]


def gathered_top_k_attention(q: Tensor, k: Tensor, v: Tensor, block_size: int, n_chosen: int) -> Tensor:
    """Return what `top_k_attention` does, reading only the chosen blocks; each query has a copy of its own of them."""
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    chosen = choose_blocks(q, k, block_size, n_chosen)  # (..., T, n)
    m = min(n_chosen + 1, chosen.shape[-1])
    index = chosen.int().argsort(dim=-1, descending=True, stable=True)[..., :m]  # (..., T, m)
    real = chosen.gather(-1, index)  # early queries have fewer blocks to choose from

    def gather(x: Tensor) -> Tensor:
        blocks = into_blocks(x, block_size).flatten(-2)  # (..., n, block_size d)
        rows = blocks.take_along_dim(index.flatten(-2)[..., None], dim=-2)  # (..., T m, block_size d)
        return rows.unflatten(-2, (n_queries, m)).unflatten(-1, (block_size, -1)).flatten(-3, -2)

    keys, values = gather(k), gather(v)  # (..., T, m block_size, d)
    places = (block_size * index[..., None] + torch.arange(block_size, device=q.device)).flatten(-2)  # (..., T, m b)
    query_places = torch.arange(n_keys - n_queries, n_keys, device=q.device)[:, None]  # (T, 1)
    mask = (places <= query_places) & real.repeat_interleave(block_size, dim=-1)
    scores = (keys @ q[..., None])[..., 0] / math.sqrt(q.shape[-1])  # (..., T, m b, d) @ (..., T, d, 1)
    weights = masked_softmax(scores, mask)
    return (weights[..., None, :] @ values)[..., 0, :]  # (..., T, 1, m b) @ (..., T, m b, d_v) -> (..., T, d_v)


class TopKAttention(GroupedAttention):
    """Causal self-attention to chosen blocks.

    Args:
        grouped: what else `GroupedAttention` takes.
    """

    def __init__(self, width: int, n_heads: int, *, block_size: int, n_chosen: int, **grouped):
        super().__init__(width, n_heads, **grouped)
        self.block_size, self.n_chosen = block_size, n_chosen

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cache: Cache | None) -> Tensor:
        """As `GroupedAttention.attend`. Of a long text, and by a single query, only the chosen blocks are read."""
        masked = q.shape[2] > 1 and k.shape[2] < LONG
        attention = top_k_attention if masked else gathered_top_k_attention
        return over_groups(lambda *qkv: attention(*qkv, self.block_size, self.n_chosen), q, k, v)
