"""Exercise: one layer of a language model that takes a single token, and remembers the ones before.
练习：语言模型的一层，每次只读一个词元，并记住前面的词元。

    python -m pytest chapter_08_transformer_vanilla/exercises/test_cached_step.py
"""

from torch import Tensor

from chapter_08_transformer_vanilla.layers import DecoderLayer

Cache = tuple[Tensor, Tensor]  # keys and values, (B, H, P, D/H) each, of the P positions so far


def cached_step(layer: DecoderLayer, x: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
    """Return what a pre-norm layer without cross-attention and without dropout makes of the next token, and the cache.

    Do not call the layer itself. Its parts are `norm1`, `self_attention`, `norm3` and `feed_forward`;
    `self_attention.project(y, 0, 2)` returns q, k and v, each (B, H, 1, D/H), and `self_attention.join` turns the
    heads' results (B, H, 1, D/H) into (B, 1, D). The new position may look at all kept ones and itself, so no mask is
    needed. `torch.nn.functional.scaled_dot_product_attention` may be used.

    Args:
        x: (B, 1, D), the stream at the new position.
        cache: None before the first token.

    Returns:
        The stream behind the layer (B, 1, D); keys and values of P + 1 positions.
    """
    raise NotImplementedError
