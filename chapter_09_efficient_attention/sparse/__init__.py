"""Sparse attention: softmax over fewer keys, in windows, by a fixed pattern, or by choice.
稀疏注意力：softmax 只看一部分键：窗口内的、固定模式的，或临时选出的。
"""

from chapter_09_efficient_attention.sparse.blocks import (
    BlockSparseAttention,
    big_bird_blocks,
    block_sparse_attention,
    strided_blocks,
    token_mask,
)
from chapter_09_efficient_attention.sparse.local import (
    LocalAttention,
    chunked_window_attention,
    dilated_window_attention,
    window_mask,
)
from chapter_09_efficient_attention.sparse.top_k import (
    TopKAttention,
    choose_blocks,
    gathered_top_k_attention,
    top_k_attention,
)

__all__ = [
    "BlockSparseAttention",
    "LocalAttention",
    "TopKAttention",
    "big_bird_blocks",
    "block_sparse_attention",
    "choose_blocks",
    "chunked_window_attention",
    "dilated_window_attention",
    "gathered_top_k_attention",
    "strided_blocks",
    "token_mask",
    "top_k_attention",
    "window_mask",
]
