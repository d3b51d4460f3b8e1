"""Byte-level byte-pair encoding: how GPT cuts text into tokens, from its definition to a fast tokenizer.
字节级字节对编码：GPT 如何把文本切成词元，从定义到快速实现。
"""

from chapter_10_llm_modern_components.bpe.naive import learn_merges_naive, merge_steps, replace_pair
from chapter_10_llm_modern_components.bpe.split import chunks, gpt_pattern
from chapter_10_llm_modern_components.bpe.tokenizer import ByteTokenizer
from chapter_10_llm_modern_components.bpe.training import merge_counts, train_tokenizer

__all__ = [
    "ByteTokenizer",
    "chunks",
    "gpt_pattern",
    "learn_merges_naive",
    "merge_counts",
    "merge_steps",
    "replace_pair",
    "train_tokenizer",
]
