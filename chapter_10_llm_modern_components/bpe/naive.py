"""Byte-pair encoding by its definition: count every pair, merge the most frequent one everywhere, and again.
按定义实现的字节对编码：数出所有相邻对，把最常见的一对处处合并，如此反复。

A token is a number: 0 to 255 are the bytes, 256 is what the first merge made, 257 the second. The fast way, in
training.py and tokenizer.py, gives the same numbers.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

Pair = tuple[int, int]


def replace_pair(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    """Write `new` for every occurrence of the pair, from left to right: [1, 1, 1, 2], (1, 1), 9 -> [9, 1, 2]."""
    replaced, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair
        replaced.append(new if found else ids[i])
        i += 1 + found
    return replaced


def learn_merges_naive(chunks: Iterable[bytes], count: int) -> list[Pair]:
    """Return up to `count` merges of byte strings that no token may go across (Sennrich et al. 2016, algorithm 1).

    Of equally frequent pairs the one is merged whose left token, then right token, comes first in the order of bytes. A
    pair that stands but once is not worth a merge.
    """
    tokens, merges = [bytes([byte]) for byte in range(256)], []
    texts = [list(chunk) for chunk in chunks]
    while len(merges) < count:
        counts = Counter(pair for ids in texts for pair in pairwise(ids))
        if max(counts.values(), default=0) < 2:
            break
        best = min(counts, key=lambda pair: (-counts[pair], tokens[pair[0]], tokens[pair[1]]))
        texts = [replace_pair(ids, best, new=len(tokens)) for ids in texts]
        tokens.append(tokens[best[0]] + tokens[best[1]])
        merges.append(best)
    return merges


def merge_steps(chunk: bytes, merges: Sequence[Pair]) -> list[list[int]]:
    """Return the tokens of a chunk at the start, and after each merge that changes something: the last are its code."""
    steps = [list(chunk)]
    for new, pair in enumerate(merges, 256):
        ids = replace_pair(steps[-1], pair, new)
        if ids != steps[-1]:
            steps.append(ids)
    return steps
