"""Attention: scores, masks, weighted means, and heads side by side.
注意力：打分、掩码、加权平均，以及并排的多个头。
"""

from chapter_07_attention_mechanism.attention.masks import causal_mask, local_mask, padding_mask
from chapter_07_attention_mechanism.attention.multi_head import MultiHeadAttention
from chapter_07_attention_mechanism.attention.scaled_dot_product import (
    batched_attention,
    fused_attention,
    local_attention,
    masked_softmax,
    scaled_dot_product_attention,
)
from chapter_07_attention_mechanism.attention.scores import (
    SCORES,
    AdditiveScore,
    Attention,
    ConcatScore,
    DotScore,
    GeneralScore,
)

__all__ = [
    "SCORES",
    "AdditiveScore",
    "Attention",
    "ConcatScore",
    "DotScore",
    "GeneralScore",
    "MultiHeadAttention",
    "batched_attention",
    "causal_mask",
    "fused_attention",
    "local_attention",
    "local_mask",
    "masked_softmax",
    "padding_mask",
    "scaled_dot_product_attention",
]
