"""Translation without learning: hand out the translation of the most similar sentence that is known.
不学习也能翻译：找出最相似的已知句子，交出它的译文。
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def nearest(queries: Sequence[Sequence[int]], known: Sequence[Sequence[int]], n_tokens: int) -> list[int]:
    """Return for each query the index of the known sentence that shares most of its pieces (Dice 1945).

    The similarity of two sets of pieces is 2 |a and b| / (|a| + |b|); both are given as numbers below `n_tokens`.
    """
    sizes = torch.tensor([float(len(set(ids))) for ids in known])  # (N,)
    table = piece_table(known, n_tokens)  # (N, V), sparse
    found = []
    for ids in queries:
        query = torch.zeros(n_tokens, 1)
        query[list(set(ids))] = 1.0
        shared = torch.sparse.mm(table, query)[:, 0]  # (N, V) @ (V, 1) -> (N, 1) -> (N,)
        found.append(int((2 * shared / (sizes + query.sum())).argmax()))
    return found


def piece_table(sentences: Sequence[Sequence[int]], n_tokens: int) -> Tensor:
    """Return (N, V), sparse: 1 where a sentence has a piece."""
    pairs = torch.tensor([(i, token) for i, ids in enumerate(sentences) for token in set(ids)])  # (pieces in all, 2)
    shape = len(sentences), n_tokens
    return torch.sparse_coo_tensor(pairs.T, torch.ones(len(pairs)), shape, check_invariants=True).coalesce()
