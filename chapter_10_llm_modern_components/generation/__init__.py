"""Writing: choosing the next token, decoding with a cache, one token fast, and drafts that are verified.
生成文本：选取下一个词元、带缓存的解码、单个词元的快速计算，以及先猜再核对的投机采样。
"""

from chapter_10_llm_modern_components.generation.decoding import TextStream, generate, prefill
from chapter_10_llm_modern_components.generation.fast_step import transpose_weights_
from chapter_10_llm_modern_components.generation.sampling import Sampler, StopStrings, keep_min_p, penalize_repetition
from chapter_10_llm_modern_components.generation.speculative import accept, speculate

__all__ = [
    "Sampler",
    "StopStrings",
    "TextStream",
    "accept",
    "generate",
    "keep_min_p",
    "penalize_repetition",
    "prefill",
    "speculate",
    "transpose_weights_",
]
