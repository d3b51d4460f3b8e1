"""Exercise: attention over pieces of a text that were read apart, and put together afterwards.
练习：把文本分成几段各自做注意力，再合并成整篇的结果。

    python -m pytest chapter_09_efficient_attention/exercises/test_merge_partials.py
"""

from torch import Tensor

Partial = tuple[Tensor, Tensor, Tensor]  # maximum (T, 1), sum (T, 1), weighted sum of values (T, d_v)


def read_piece(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Partial:
    """Return what T queries know after one piece: the largest score m, and sums of e^(s - m) and of e^(s - m) v.

    A query that sees no key of the piece has m = -inf and sums of 0. Scores may be as large as 10,000.

    Args:
        q, k, v: (T, d), (S, d), (S, d_v); scores are q . k / sqrt(d).
        mask: (T, S), bool, True where a query may look.
    """
    raise NotImplementedError


def merge(a: Partial, b: Partial) -> Partial:
    """Return what the queries know after both pieces. A piece of which a query saw nothing changes nothing."""
    raise NotImplementedError
