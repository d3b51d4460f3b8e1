"""The parallel scan: all steps of h_t = a_t h_(t-1) + b_t in log2(T) rounds; minGRU and minLSTM are such recurrences.
并行扫描：只用 log2(T) 轮就算出 h_t = a_t h_(t-1) + b_t 的所有步；minGRU 与 minLSTM 正是这样的递推。

    python chapter_06_rnn_lstm_seq/benchmark.py      # times the scan against the loop

Two steps in a row are again such a step: h_2 = a_2 (a_1 h_0 + b_1) + b_2 = (a_2 a_1) h_0 + (a_2 b_1 + b_2). So pairs of
neighbours can be merged, all at once, which leaves a recurrence half as long; it is solved in the same way, and gives
every second state. The others are one step from those (Blelloch 1990).
相邻两步合起来仍是同样形式的一步，所以可以两两合并成长度减半的递推，递归求解，再补出中间的状态。

Nothing is divided and no logarithm is taken, so gates of exactly 0 or 1 and states of any sign are safe.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear_recurrence(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Return h_t = a_t h_(t-1) + b_t for every step, by its definition: a and b (T, ...), h0 (...) -> (T, ...)."""
    states, h = [], h0
    for a_t, b_t in zip(a, b, strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states)


def scan(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Return what `linear_recurrence` does, in 2 log2(T) rounds instead of T steps.

    The backward pass is a scan too, from the end: dL/dh_t = (what arrives at h_t) + a_(t+1) dL/dh_(t+1).
    """
    return _Scan.apply(a, b, h0)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, h0):
        b = torch.cat([torch.addcmul(b[:1], a[:1], h0[None]), b[1:]])  # the first step's b takes h0 in
        h = merge_pairs(a, b)
        ctx.save_for_backward(a, h0, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, dh_all):
        a, h0, h = ctx.saved_tensors
        later = torch.cat([a[1:], torch.zeros_like(a[:1])]).flip(0)  # a_(t+1), from the end
        dh = merge_pairs(later, dh_all.flip(0)).flip(0)  # (T, ...)
        before = torch.cat([h0[None], h[:-1]])
        return dh * before, dh, a[0] * dh[0]


def merge_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Solve h_t = a_t h_(t-1) + b_t from h = 0 by halving: a and b (T, ...) -> (T, ...)."""
    if len(a) == 1:
        return b
    a_odd, b_odd = a[1::2], b[1::2]  # the second of each pair
    a_even, b_even = a[0::2], b[0::2]  # the first, and with an odd T one more
    pairs = len(a_odd)
    merged = merge_pairs(a_odd * a_even[:pairs], torch.addcmul(b_odd, a_odd, b_even[:pairs]))  # (T/2, ...)
    h = torch.empty_like(b)
    h[1::2] = merged
    h[0] = b[0]
    torch.addcmul(b_even[1:], a_even[1:], merged[: len(a_even) - 1], out=h[2::2])
    return h
