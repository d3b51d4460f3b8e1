"""The parallel scan: all states of h_t = a_t h_(t-1) + b_t in about 2 log2(T) rounds instead of T steps.
并行扫描：h_t = a_t h_(t-1) + b_t 的所有状态，只需约 2 log2(T) 轮，而不是 T 步。

    python chapter_06_rnn_lstm_seq/benchmark.py      # times it against the loop

minGRU and minLSTM are such recurrences: their gates a_t and inputs b_t are known for all t before the first state is.

Two steps in a row are again such a step: h_2 = a_2 (a_1 h_0 + b_1) + b_2 = (a_2 a_1) h_0 + (a_2 b_1 + b_2). So pairs of
neighbours can be merged, all at once, which leaves a recurrence half as long. Solved in the same way, it gives every
second state, and the others are one step from those (Blelloch 1990).
相邻两步合起来仍是同样形式的一步，所以可以两两合并成长度减半的递推，递归求解，再补出中间的状态。

Nothing is divided and no logarithm is taken, so gates of exactly 0 or 1 and states of any sign are safe.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WIDE = 2048  # numbers in a step that keep one CPU core busy by themselves; benchmark.py draws where the two cross


def linear_recurrence(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Return h_t = a_t h_(t-1) + b_t for every step, by its definition: a and b (T, ...), h0 (...) -> (T, ...)."""
    states, h = [], h0
    for a_t, b_t in zip(a, b, strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states)


def scan(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Return what `linear_recurrence` does, fast, with a backward pass by hand: a and b (T, ...), h0 (...) -> (T, ...).

    The gradients come from a recurrence of the same form that runs from the end,
    dL/dh_t = (what arrives at h_t from outside) + a_(t+1) dL/dh_(t+1), and so from the same two functions.
    """
    return _Scan.apply(a, b, h0)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, h0):
        h = solve(a, b, h0)
        ctx.save_for_backward(a, h0, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, dh_all):
        a, h0, h = ctx.saved_tensors
        dh = solve_backwards(a, dh_all)  # (T, ...)
        da = torch.empty_like(h)
        torch.mul(dh[0], h0, out=da[0])
        torch.mul(dh[1:], h[:-1], out=da[1:])
        return da, dh, a[0] * dh[0]


def is_wide(h: Tensor) -> bool:
    """Say whether single steps are the faster way for states like h (...).

    The tree does 2.5 times the work, but in few and large pieces. A CPU core that has enough to do in every single step
    gains nothing from that.
    """
    return h.device.type == "cpu" and h.numel() >= WIDE


def solve(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Solve h_t = a_t h_(t-1) + b_t from h0 on: a and b (T, ...), h0 (...) -> (T, ...)."""
    return step_by_step(a, b, h0) if is_wide(h0) else merge_pairs(a, b, h0)


def solve_backwards(a: Tensor, b: Tensor) -> Tensor:
    """Solve g_t = a_(t+1) g_(t+1) + b_t from the end, where g = b: a and b (T, ...) -> (T, ...)."""
    g = torch.empty_like(a)
    g[-1] = b[-1]
    if is_wide(g[-1]):
        for t in range(len(g) - 2, -1, -1):
            torch.addcmul(b[t], a[t + 1], g[t + 1], out=g[t])
    else:
        g[:-1] = merge_pairs(a[1:].flip(0), b[:-1].flip(0), b[-1]).flip(0)
    return g


def step_by_step(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Solve the recurrence in T steps, each written where it belongs: a and b (T, ...), h0 (...) -> (T, ...)."""
    h = torch.empty_like(b)
    h_t = h0
    for t in range(len(b)):
        h_t = torch.addcmul(b[t], a[t], h_t, out=h[t])
    return h


def merge_pairs(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Solve the recurrence by a tree of merged pairs: a and b (T, ...), h0 (...) -> (T, ...)."""
    if len(b) < 2:
        return torch.addcmul(b, a, h0)
    first_a, second_a, pairs = a[0::2], a[1::2], len(b) // 2  # with an odd T, one is left without a partner
    first_b, second_b = b[0::2], b[1::2]
    merged_b = torch.addcmul(second_b, second_a, first_b[:pairs])  # (T/2, ...)
    h = torch.empty_like(b)
    h[1::2] = merge_pairs(second_a * first_a[:pairs], merged_b, h0)
    torch.addcmul(b[0], a[0], h0, out=h[0])
    torch.addcmul(first_b[1:], first_a[1:], h[1:-1:2], out=h[2::2])  # from each second to the first of the next pair
    return h
