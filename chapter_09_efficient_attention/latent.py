"""Multi-head latent attention: the cache holds one short vector a token, and all heads' keys and values come from it.
多头潜在注意力：缓存中每个词元只存一个短向量，所有头的键和值都由它算出。

DeepSeek-V2 (2024), section 2.1. With c_s = norm(W_c x_s), head h has the keys K_h c_s and the values V_h c_s:

    naive       q . (K_h c_s)      makes keys and values of all tokens, then looks up
    absorbed    (K_h^T q) . c_s    moves the query into the space of the c, which are then keys and values at once

Keys made from c cannot be turned by their place before they are made (a rotation between K_h^T and q would differ from
token to token), so places have their own few numbers: each query a turned part, and each token one turned key for all
heads. The cache holds c and that key, d_latent + d_rope numbers a token.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from chapter_03_optimization_regularization.normalization import RMSNorm
from chapter_09_efficient_attention.grouped import fused_grouped_attention
from chapter_09_efficient_attention.kv_cache import Cache, ContiguousCache
from chapter_09_efficient_attention.rope import check_pairs, rotary


class LatentAttention(nn.Module):
    """Causal self-attention through latent vectors c (DeepSeek-V2 2024, equations 9 to 19).

    Queries are not compressed, nor are DeepSeek-V2-Lite's: it would save memory in training, and nothing in the cache.

    Args:
        d_latent: length of c.
        d_rope: numbers of each query and key that tell the place.

    Raises:
        ValueError: the heads cannot share the width, or d_rope is odd.
    """

    def __init__(self, width: int, n_heads: int, d_latent: int, d_rope: int, rope_base: float = 10000.0):
        super().__init__()
        if width % n_heads:
            raise ValueError(f"a width of {width} cannot be shared equally by {n_heads} heads")
        check_pairs(d_rope)
        self.n_heads, self.d_latent, self.d_rope, self.rope_base = n_heads, d_latent, d_rope, rope_base
        self.d_head = width // n_heads
        self.scale = 1 / math.sqrt(self.d_head + d_rope)
        self.q_proj = nn.Linear(width, n_heads * (self.d_head + d_rope), bias=False)
        self.down_proj = nn.Linear(width, d_latent + d_rope, bias=False)
        self.norm = RMSNorm(d_latent)
        self.up_proj = nn.Linear(d_latent, 2 * n_heads * self.d_head, bias=False)  # all K_h, then all V_h
        self.out_proj = nn.Linear(width, width, bias=False)

    def project(self, x: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the queries (B, H, T, d) and (B, H, T, d_rope), c (B, 1, T, d_latent), the keys (B, 1, T, d_rope)."""
        q = self.q_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, T, d + d_rope)
        q, q_rope = q.split([self.d_head, self.d_rope], dim=-1)
        c, k_rope = self.down_proj(x)[:, None].split([self.d_latent, self.d_rope], dim=-1)  # (B, 1, T, ...)
        return q, rotary(q_rope, first, self.rope_base), self.norm(c), rotary(k_rope, first, self.rope_base)

    def attend_naive(self, q: Tensor, q_rope: Tensor, c: Tensor, k_rope: Tensor) -> Tensor:
        """Make all heads' keys and values, then look them up: multi-head attention. Return (B, H, T, d)."""
        heads = self.up_proj(c[:, 0]).unflatten(-1, (2 * self.n_heads, -1)).transpose(1, 2)  # (B, 2 H, S, d)
        k, v = heads.chunk(2, dim=1)  # (B, H, S, d)
        k = torch.cat([k, k_rope.expand(-1, self.n_heads, -1, -1)], dim=-1)  # (B, H, S, d + d_rope)
        return fused_grouped_attention(torch.cat([q, q_rope], dim=-1), k, v, self.scale)

    def attend_absorbed(self, q: Tensor, q_rope: Tensor, c: Tensor, k_rope: Tensor) -> Tensor:
        """Look up the c themselves: multi-query attention, with c as the one head's values. Return (B, H, T, d)."""
        to_k, to_v = self.up_proj.weight.view(2, self.n_heads, self.d_head, -1)  # (H, d, d_latent)
        q = torch.cat([q @ to_k, q_rope], dim=-1)  # (B, H, T, d) @ (H, d, d_latent) -> (B, H, T, d_latent + d_rope)
        means = fused_grouped_attention(q, torch.cat([c, k_rope], dim=-1), c, self.scale)  # (B, H, T, d_latent)
        return means @ to_v.transpose(1, 2)  # (B, H, T, d_latent) @ (H, d_latent, d) -> (B, H, T, d)

    def new_cache(self, capacity: int, make: Callable[[int], Cache] = ContiguousCache) -> Cache:
        """Return a cache for up to `capacity` tokens of each sequence, of the kind that `make` makes."""
        return make(capacity)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D); with a cache x goes on where it stopped, and is appended to it.

        One new token is absorbed, for making keys and values of all S tokens would take S times as long as it does.
        """
        q, q_rope, c, k_rope = self.project(x, 0 if cache is None else cache.length)
        if cache is not None:
            c, k_rope = cache.append(c, k_rope)
        attend = self.attend_absorbed if x.shape[1] == 1 else self.attend_naive
        heads = attend(q, q_rope, c, k_rope)  # (B, H, T, d)
        return self.out_proj(heads.transpose(1, 2).flatten(2))  # (B, H, T, d) -> (B, T, D)
