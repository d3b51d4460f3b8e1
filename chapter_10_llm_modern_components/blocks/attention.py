"""A decoder's attention as of today: grouped heads, rotary positions, normalised queries and keys, a window, a cache.
当今解码器的注意力：分组的头、旋转位置编码、归一化的查询与键、滑动窗口和缓存。
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import batched_attention
from chapter_09_efficient_attention.grouped import over_groups
from chapter_09_efficient_attention.kv_cache import ContiguousCache
from chapter_09_efficient_attention.rope import turn
from chapter_10_llm_modern_components.blocks.norm import RMSNorm

LONGEST_BATCHED = 512  # tokens up to which all weights at once are quicker in bfloat16 on a CPU, see chapter 7
Rotation = tuple[Tensor, Tensor]  # cosines and sines, (1, T, d) or (B, 1, T, d)


class Attention(nn.Module):
    """Causal self-attention of H query heads and G heads of keys and values, of d numbers each.

    Args:
        window: how many places a token looks back, besides its own; None: to the beginning.
        qk_norm: normalise each query and key before they are turned, so that no score grows without bound (Henry et
            al. 2020; per head as in Qwen3).

    Raises:
        ValueError: the heads cannot be shared out equally among the groups.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int,
        d_head: int,
        window: int | None = None,
        qk_norm: bool = False,
        eps: float = 1e-6,
        bias: bool = False,
    ):
        super().__init__()
        if n_heads % n_kv_heads:
            raise ValueError(f"{n_heads} heads cannot share {n_kv_heads} heads of keys and values equally")
        self.n_heads, self.n_kv_heads, self.d_head, self.window = n_heads, n_kv_heads, d_head, window
        self.qkv_proj = nn.Linear(d_model, (n_heads + 2 * n_kv_heads) * d_head, bias=bias)
        self.out_proj = nn.Linear(n_heads * d_head, d_model, bias=bias)
        self.q_norm = RMSNorm(d_head, eps) if qk_norm else None
        self.k_norm = RMSNorm(d_head, eps) if qk_norm else None

    def project(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (B, H, T, d), k and v (B, G, T, d) of x (B, T, D)."""
        h, g = self.n_heads, self.n_kv_heads
        heads = self.qkv_proj(x).unflatten(-1, (h + 2 * g, self.d_head)).transpose(1, 2)  # (B, H + 2 G, T, d)
        qk, v = heads.split((h + g, g), dim=1)
        if self.q_norm is not None:
            q, k = qk.split((h, g), dim=1)
            qk = torch.cat([self.q_norm(q), self.k_norm(k)], dim=1)
        if rotation is not None:
            qk = turn(qk, *rotation)
        q, k = qk.split((h, g), dim=1)
        return q, k, v

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        mask: Tensor | None = None,
        cache: ContiguousCache | None = None,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D); with a cache x goes on where it stopped, and is appended to it.

        Args:
            rotation: of the T places; None: tokens do not know where they are.
            mask: broadcastable to (B, H, T, S), True where a token may look; of S = T + window keys, if there are more.
                None: it may look at itself and all before it, and more than one token come only at the beginning.
        """
        q, k, v = self.project(x, rotation)
        if cache is not None:
            k, v = cache.append(k, v)
        if self.window is not None:
            k, v = (t[:, :, -x.shape[1] - self.window :] for t in (k, v))  # what is further back, no token sees
        heads = attend(q, k, v, mask)  # (B, H, T, d)
        return self.out_proj(heads.transpose(1, 2).flatten(2))  # (B, H, T, d) -> (B, T, D)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Return (B, H, T, d) of q (B, H, T, d), k and v (B, G, S, d); the mask is that of `Attention.forward`."""
    n_queries, n_keys = q.shape[2], k.shape[2]
    if n_queries == 1:  # a group's queries all look at the same keys: they can be the rows of one product
        rows = q.view(len(q), k.shape[1], -1, q.shape[3])  # (B, H, 1, d) -> (B, G, H/G, d)
        return F.scaled_dot_product_attention(rows, k, v, mask).reshape(q.shape)
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and max(n_queries, n_keys) <= LONGEST_BATCHED:
        mask = mask if mask is None else mask.unsqueeze(-3)  # the groups' axis
        return over_groups(partial(batched_attention, mask=mask, causal=mask is None), q, k, v)
    gqa = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=gqa)
