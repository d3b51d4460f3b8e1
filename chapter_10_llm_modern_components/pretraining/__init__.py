"""Pre-training: what is read and in which order, how large the model is, how good it gets, on how many processes.
预训练：读什么、按什么次序读、模型多大、学得多好、分给几个进程。
"""

from chapter_10_llm_modern_components.pretraining.corpora import Corpus, cut, load_corpus, paragraphs
from chapter_10_llm_modern_components.pretraining.data import (
    END_OF_TEXT,
    SPECIAL,
    Windows,
    cached_stream,
    load_tokenizer,
    n_bytes,
    split_validation,
)
from chapter_10_llm_modern_components.pretraining.dial import dial
from chapter_10_llm_modern_components.pretraining.measuring import bits_per_byte, mean_loss, perplexity

__all__ = [
    "END_OF_TEXT",
    "SPECIAL",
    "Corpus",
    "Windows",
    "bits_per_byte",
    "cached_stream",
    "cut",
    "dial",
    "load_corpus",
    "load_tokenizer",
    "mean_loss",
    "n_bytes",
    "paragraphs",
    "perplexity",
    "split_validation",
]
