"""Multi-head attention: several lookups side by side, each in a subspace of its own.
多头注意力：几次查表并排进行，各在自己的子空间里。
"""

import torch
from torch import Tensor, nn

from chapter_07_attention_mechanism.attention.masks import causal_mask
from chapter_07_attention_mechanism.attention.scaled_dot_product import (
    batched_attention,
    fused_attention,
    scaled_dot_product_attention,
)

LONGEST_BATCHED = 512  # tokens; for longer sequences `batched_attention` would need much memory


class MultiHeadAttention(nn.Module):
    """h heads, each on D/h of the projected numbers, and one more projection to join them (Vaswani et al. 2017, 3.2.2).

    Self-attention where queries and memory are the same sequence, cross-attention where they are two. Parameters have
    the names and shapes of `nn.MultiheadAttention`'s: `in_proj_weight` (3D, D) holds the projections of q, k and v, one
    below the other.
    """

    def __init__(self, width: int, n_heads: int, dropout: float = 0.0, bias: bool = True):
        super().__init__()
        if width % n_heads:
            raise ValueError(f"a width of {width} cannot be shared equally by {n_heads} heads")
        self.n_heads, self.dropout = n_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width)) if bias else None
        self.out_proj = nn.Linear(width, width, bias=bias)
        nn.init.xavier_uniform_(self.in_proj_weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    def project(self, x: Tensor, first: int, last: int) -> list[Tensor]:
        """Return those of the three projections q, k, v (0, 1, 2) from `first` to `last` of x (B, T, D).

        Each is (B, H, T, D/H). One matrix product makes them all.
        """
        width = x.shape[-1]
        bias = None if self.in_proj_bias is None else self.in_proj_bias[first * width : (last + 1) * width]
        y = nn.functional.linear(x, self.in_proj_weight[first * width : (last + 1) * width], bias)  # (B, T, n D)
        parts = y.chunk(last + 1 - first, dim=-1)  # n of (B, T, D)
        return [part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts]  # n of (B, H, T, D/H)

    def join(self, heads: Tensor) -> Tensor:
        """Turn what the heads found (B, H, T, D/H) into one output (B, T, D)."""
        return self.out_proj(heads.transpose(1, 2).flatten(2))  # (B, H, T, D/H) -> (B, T, D)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Look from each place of x (B, T, D) at the memory (B, S, D), or, where there is none, at x itself.

        Args:
            mask: broadcastable to (B, T, S), for all heads alike; bool (True: may look) or float (added to scores).
            need_weights: also return each head's weights; without them a faster function does the work.

        Returns:
            (B, T, D), and the weights (B, H, T, S) or None.
        """
        if memory is None:
            q, k, v = self.project(x, 0, 2)
        else:
            [q], (k, v) = self.project(x, 0, 0), self.project(memory, 1, 2)
        return self.attend(q, k, v, mask, need_weights=need_weights)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Look from projected queries (B, H, T, D/H) at projected keys and values (B, H, S, D/H).

        So what was projected once can be looked at again and again. Mask, weights and result are those of `forward`.

        Args:
            causal: no query sees a key that comes after it, the queries being the last ones of the keys' sequence. A
                mask beside it is bool.
        """
        n_queries, n_keys = q.shape[2], k.shape[2]
        causal = causal and n_queries > 1  # nothing comes after the last one
        if causal and (mask is not None or need_weights or n_queries < n_keys):  # else the kernel masks by itself
            earlier = causal_mask(n_queries, n_keys, q.device)
            mask, causal = earlier if mask is None else mask & earlier, False
        mask = mask if mask is None else mask.unsqueeze(-3)  # (B, 1, T, S): the same for each head
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            heads, weights = scaled_dot_product_attention(q, k, v, mask, dropout)
        else:
            short = n_queries * n_keys <= LONGEST_BATCHED**2
            batched = short and q.dtype == torch.bfloat16 and q.device.type == "cpu"
            attention = batched_attention if batched else fused_attention
            heads, weights = attention(q, k, v, mask, dropout, causal), None
        return self.join(heads), weights
