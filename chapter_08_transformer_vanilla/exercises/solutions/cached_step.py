"""Solution: glue the new key and value to the kept ones, and let one query look at them all.
解答：把新的键和值接在缓存后面，让唯一的查询看全部。
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_08_transformer_vanilla.layers import DecoderLayer

Cache = tuple[Tensor, Tensor]


def cached_step(layer: DecoderLayer, x: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
    """x (B, 1, D) -> (B, 1, D), and keys and values of one position more."""
    q, k, v = layer.self_attention.project(layer.norm1(x), 0, 2)  # (B, H, 1, D/H)
    if cache is not None:
        k, v = (torch.cat(pair, dim=2) for pair in zip(cache, (k, v), strict=True))  # (B, H, P + 1, D/H)
    x = x + layer.self_attention.join(F.scaled_dot_product_attention(q, k, v))
    return x + layer.feed_forward(layer.norm3(x)), (k, v)
