"""Exercise: the other parallel scan, in which every step looks twice as far back in every round.
练习：另一种并行扫描，每一轮中每一步回看的距离都加倍。

    python -m pytest chapter_06_rnn_lstm_seq/exercises/test_doubling_scan.py
"""

from torch import Tensor


def doubling_scan(a: Tensor, b: Tensor) -> Tensor:
    """Return h_t = a_t h_(t-1) + b_t from h = 0 on, for all t in log2(T) rounds: a and b (T, ...) -> (T, ...).

    Before the round with distance d, (a_t, b_t) stands for the steps from t - d + 1 to t taken together, or from 0 to t
    where there are not so many: they turn h into a_t h + b_t. In the round, every t >= d merges with t - d, all at
    once; then d doubles (Hillis & Steele 1986). The chapter's `merge_pairs` needs fewer operations, this fewer rounds.

    The inputs must stay as they are.
    """
    raise NotImplementedError
