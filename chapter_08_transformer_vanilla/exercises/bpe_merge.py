"""Exercise: the two halves of byte-pair encoding, learning a merge and using it.
练习：字节对编码的两半，学一次合并，再拿它来切词。

    python -m pytest chapter_08_transformer_vanilla/exercises/test_bpe_merge.py
"""

from collections.abc import Sequence

Pair = tuple[str, str]


def best_pair(words: dict[tuple[str, ...], int]) -> Pair:
    """Return the pair of neighbours that stands most often; of equally frequent ones the first by alphabet.

    Args:
        words: pieces of each word -> how often the word stands in the corpus.
    """
    raise NotImplementedError


def merge(parts: Sequence[str], pair: Pair) -> tuple[str, ...]:
    """Join every occurrence of the pair, from left to right: ("a", "a", "a"), ("a", "a") -> ("aa", "a")."""
    raise NotImplementedError


def split(word: str, merges: Sequence[Pair]) -> tuple[str, ...]:
    """Cut a word into pieces: begin with characters, then do each merge, in the order in which they were learned."""
    raise NotImplementedError
