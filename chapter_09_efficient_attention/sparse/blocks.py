"""Block-sparse attention: a small table says which blocks of keys each block of queries looks at.
块稀疏注意力：用一张小表规定每块查询看哪些块的键。

    strided      the last blocks, and before them some at equal gaps    Child et al. 2019, section 4.3
    big bird     the last, the first, and a few at random               Zaheer et al. 2020, section 2

With blocks of one token the table is the mask itself. Larger blocks are what makes it fast: one product a block.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import causal_mask, masked_softmax
from chapter_09_efficient_attention.grouped import GroupedAttention, grouped_attention, over_groups
from chapter_09_efficient_attention.kv_cache import Cache


def strided_blocks(n_blocks: int, stride: int) -> Tensor:
    """Return (n, n), bool: block i looks at the `stride` last ones, itself included, and at every `stride`-th before.

    Any two are joined by two steps, while a row holds about stride + n / stride blocks: fewest for stride = sqrt(n).
    """
    distance = torch.arange(n_blocks)[:, None] - torch.arange(n_blocks)
    return (distance >= 0) & ((distance < stride) | (distance % stride == 0))


def big_bird_blocks(n_blocks: int, n_global: int, window: int, n_random: int, seed: int = 0) -> Tensor:
    """Return (n, n), bool: block i looks at the first `n_global`, at the `window` before it, and at `n_random` others.

    The causal part of the paper's pattern, whose first blocks also look ahead. No row depends on how many follow.
    """
    row, column = torch.arange(n_blocks)[:, None], torch.arange(n_blocks)
    blocks = (row - column <= window) | (column < n_global)
    drawn = torch.rand(n_blocks, n_random, generator=torch.Generator().manual_seed(seed))  # row by row
    return blocks.scatter(1, (drawn * (row + 1)).long(), True) & (column <= row)


def token_mask(blocks: Tensor, block_size: int, n_queries: int, n_keys: int) -> Tensor:
    """Return (T, S), bool: what the table (n, n) lets the last T of S tokens see, none of it ahead."""
    rows = blocks[torch.arange(n_keys - n_queries, n_keys) // block_size]  # (T, n)
    return rows.repeat_interleave(block_size, dim=1)[:, :n_keys] & causal_mask(n_queries, n_keys)


def block_sparse_attention(q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, block_size: int) -> Tensor:
    """Return causal softmax attention under `token_mask`, from the scores in the table's blocks alone.

    Args:
        q, k, v: (..., T, d), (..., T, d), (..., T, d_v), whose leading axes broadcast.
        blocks: (n, n), bool, for the n blocks of T tokens.
    """
    length, n, b = q.shape[-2], len(blocks), block_size
    q, k, v = (F.pad(x, (0, 0, 0, n * b - length)).unflatten(-2, (n, b)) for x in (q, k, v))  # (..., n, b, d)
    counts = blocks.sum(dim=1)
    chosen = blocks.int().argsort(dim=1, descending=True, stable=True)[:, : int(counts.max())].to(q.device)  # (n, m)
    real = (torch.arange(chosen.shape[1]) < counts[:, None]).to(q.device)  # (n, m): short rows are filled up
    k, v = (x[..., chosen, :, :].flatten(-3, -2) for x in (k, v))  # (..., n, m, b, d) -> (..., n, m b, d)

    inside = torch.arange(b, device=q.device)
    rows = b * torch.arange(n, device=q.device)[:, None] + inside  # (n, b): places of the queries
    columns = (b * chosen[..., None] + inside).flatten(1)  # (n, m b): and of the keys that they meet
    mask = (rows[:, :, None] >= columns[:, None]) & real.repeat_interleave(b, 1)[:, None]  # (n, b, m b)
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (..., n, b, d) @ (..., n, d, m b) -> (..., n, b, m b)
    means = masked_softmax(scores, mask) @ v  # (..., n, b, m b) @ (..., n, m b, d_v) -> (..., n, b, d_v)
    return means.flatten(-3, -2)[..., :length, :]


class BlockSparseAttention(GroupedAttention):
    """Causal self-attention under a pattern of blocks.

    Args:
        pattern: how many blocks there are -> the table (n, n), whose rows do not depend on how many follow.
        grouped: what else `GroupedAttention` takes.
    """

    def __init__(self, width: int, n_heads: int, *, pattern: Callable[[int], Tensor], block_size: int, **grouped):
        super().__init__(width, n_heads, **grouped)
        self.pattern, self.block_size = pattern, block_size

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cache: Cache | None) -> Tensor:
        """As `GroupedAttention.attend`. From a cache only the keys are read that some new token sees."""
        n_queries, n_keys = q.shape[2], k.shape[2]
        blocks = self.pattern(-(-n_keys // self.block_size))
        if n_queries == n_keys:
            return over_groups(lambda *qkv: block_sparse_attention(*qkv, blocks, self.block_size), q, k, v)
        mask = token_mask(blocks, self.block_size, n_queries, n_keys).to(q.device)  # (T, S)
        seen = mask.any(dim=0)
        return grouped_attention(q, k[:, :, seen], v[:, :, seen], mask[:, seen])
