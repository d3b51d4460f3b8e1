"""Grouped-query attention: several heads that ask share one head of keys and values, and the cache shrinks.
分组查询注意力：几个查询头共用一组键和值，缓存随之变小。

    n_kv_heads = n_heads     multi-head     Vaswani et al. 2017, section 3.2.2
    n_kv_heads = 1           multi-query    Shazeer 2019, section 3
    anything between         grouped        Ainslie et al. 2023, section 2.2

All attentions of this chapter are causal, and the T queries are the last ones of the S keys' sequence.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import causal_mask, scaled_dot_product_attention
from chapter_09_efficient_attention.kv_cache import Cache, ContiguousCache
from chapter_09_efficient_attention.rope import check_pairs, rotary


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Return (B, H, T, d_v), by definition: the heads of k and v are repeated for the H/G query heads of their group.

    Args:
        q, k, v: (B, H, T, d), (B, G, S, d), (B, G, S, d_v).
        mask, scale: as in chapter 7's `scaled_dot_product_attention`.
    """
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))  # (B, G, S, d) -> (B, H, S, d)
    return scaled_dot_product_attention(q, k, v, mask, scale=scale)[0]


def fused_grouped_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Return what `grouped_attention` does under a causal mask, by PyTorch's kernel, which keeps no weights."""
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    whole = n_queries == n_keys  # the kernel's own causal mask is for as many queries as keys
    mask = None if whole or n_queries == 1 else causal_mask(n_queries, n_keys, q.device)
    options = {"scale": scale, "enable_gqa": q.shape[1] != k.shape[1]}
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=whole and n_queries > 1, **options)


def over_groups(attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Call an attention of q (..., T, d) and k, v (..., S, d), whose leading axes broadcast, on H and G heads.

    So each key head meets the query heads of its group without being repeated in memory.
    """
    q = q.unflatten(1, (k.shape[1], -1))  # (B, H, T, d) -> (B, G, H/G, T, d)
    return attention(q, k[:, :, None], v[:, :, None]).flatten(1, 2)  # (B, G, H/G, T, d_v) -> (B, H, T, d_v)


class GroupedAttention(nn.Module):
    """Causal self-attention of H query heads and G heads of keys and values, with rotary positions.

    The variants of this chapter that keep keys and values are subclasses: they differ in `attend` and `new_cache`.

    Args:
        n_kv_heads: G, a divisor of `n_heads`; None: `n_heads`.
        rope_base: of the rotary positions; None: there are none.

    Raises:
        ValueError: the heads cannot share the width, or the groups the heads; or rotary positions an odd head.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        rope_base: float | None = 10000.0,
        bias: bool = False,
    ):
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if width % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"a width of {width}, {n_heads} heads and {n_kv_heads} of keys do not divide one another")
        self.sizes = n_heads, n_kv_heads, n_kv_heads
        self.rope_base = rope_base
        d = width // n_heads
        if rope_base is not None:
            check_pairs(d)
        self.qkv_proj = nn.Linear(width, sum(self.sizes) * d, bias=bias)
        self.out_proj = nn.Linear(width, width, bias=bias)

    def project(self, x: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (B, H, T, d), k and v (B, G, T, d) of x (B, T, D), whose first token stands at the place `first`."""
        heads = self.qkv_proj(x).unflatten(-1, (sum(self.sizes), -1)).transpose(1, 2)  # (B, H + 2 G, T, d)
        q, k, v = heads.split(self.sizes, dim=1)
        if self.rope_base is not None:
            q, k = rotary(q, first, self.rope_base), rotary(k, first, self.rope_base)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cache: Cache | None) -> Tensor:
        """Return (B, H, T, d) of q (B, H, T, d), k and v (B, G, S, d), which come from the cache where there is one."""
        return fused_grouped_attention(q, k, v)

    def new_cache(self, capacity: int, make: Callable[[int], Cache] = ContiguousCache) -> Cache:
        """Return a cache for up to `capacity` tokens of each sequence, of the kind that `make` makes."""
        return make(capacity)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D); with a cache x goes on where it stopped, and is appended to it."""
        q, k, v = self.project(x, 0 if cache is None else cache.length)
        if cache is not None:
            k, v = cache.append(k, v)
        heads = self.attend(q, k, v, cache)  # (B, H, T, d)
        return self.out_proj(heads.transpose(1, 2).flatten(2))  # (B, H, T, d) -> (B, T, D)
