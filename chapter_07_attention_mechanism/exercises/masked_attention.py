"""Exercise: a causal mask and a masked softmax, from nothing but comparisons, exp and sums.
练习：只用比较、exp 与求和，写出因果掩码与带掩码的 softmax。

    python -m pytest chapter_07_attention_mechanism/exercises/test_masked_attention.py
"""

from torch import Tensor


def causal(n_queries: int, n_keys: int) -> Tensor:
    """Return (T, S), bool, True where a query may look: no query sees a key that comes after it.

    The queries are the last ones of the sequence: with 2 queries and 5 keys, the first query stands at place 3 and sees
    the keys 0 to 3. Use `torch.arange` and a comparison, not `tril`.
    """
    raise NotImplementedError


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Turn scores (..., T, S) into weights that are 0 where the mask is False, and add up to 1 in each row.

    A row in which everything is forbidden gets weights of 0. Scores of 1,000 must give no infinities and no NaN, also
    where they are forbidden: subtract the largest score that is allowed before `exp`. Do not call a softmax.
    """
    raise NotImplementedError
