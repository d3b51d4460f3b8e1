"""Solution: the others' sum is the whole sum without one's own; the chance that all k are wrong is a ratio of counts.
解答：其余几次之和就是总和减去自己；k 次全错的概率是两个组合数之比。
"""

from math import comb

from torch import Tensor


def leave_one_out(rewards: Tensor) -> Tensor:
    """(r - mean of all) G / (G - 1) would be the same."""
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)  # (N, G)
    return rewards - others


def pass_at_k(n_right: int, n_tries: int, k: int) -> float:
    """`comb` is 0 where there are fewer than k wrong ones."""
    return 1 - comb(n_tries - n_right, k) / comb(n_tries, k)
