"""Solution: count neighbours, join them from left to right, and repeat what was learned.
解答：数相邻的片段，从左到右合并，再按学到的顺序重做一遍。
"""

from collections import Counter
from collections.abc import Sequence

Pair = tuple[str, str]


def best_pair(words: dict[tuple[str, ...], int]) -> Pair:
    """Return the most frequent pair."""
    counts = Counter()
    for parts, n in words.items():
        for pair in zip(parts, parts[1:], strict=False):
            counts[pair] += n
    return min(counts, key=lambda pair: (-counts[pair], pair))


def merge(parts: Sequence[str], pair: Pair) -> tuple[str, ...]:
    """Join every occurrence of the pair."""
    out, i = [], 0
    while i < len(parts):
        if tuple(parts[i : i + 2]) == pair:
            out.append(parts[i] + parts[i + 1])
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return tuple(out)


def split(word: str, merges: Sequence[Pair]) -> tuple[str, ...]:
    """Cut a word into pieces."""
    parts = tuple(word)
    for pair in merges:
        parts = merge(parts, pair)
    return parts
