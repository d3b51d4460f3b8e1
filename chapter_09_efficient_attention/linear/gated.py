"""Linear attention that forgets: each token first fades the state, then adds its own key and value.
会遗忘的线性注意力：每个词元先让状态衰减，再写入自己的键和值。

    S_t = diag(a_t) S_(t-1) + k_t v_t^T,    o_t = q_t S_t        S (d, d_v), 0 <= a_t <= 1

    retention           a is a constant of the head           Sun et al. 2023, equations 5 to 7
    Mamba-2             a_t one number a token and head       Dao & Gu 2024, section 5
    gated linear att.   a_t one number a channel as well      Yang et al. 2024, section 4

A gate is given as its logarithm, `log_gate` (..., T, d) or (..., T, 1): then what fades over several tokens is a sum.
Token s still counts e^(A_t - A_s) at token t, with A the sums so far, which gives the quadratic form its weights. That
of a gate of 0 is -inf.
"""

import math

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.scan import scan
from chapter_09_efficient_attention.linear.chunks import from_chunks, in_full_precision, into_chunks
from chapter_09_efficient_attention.linear.kernel import empty_state

VANISHED = -100.0  # for the logarithm of a gate of 0: e^-100 counts for nothing beside what comes after it


@in_full_precision
def recurrent_gated_attention(
    q: Tensor, k: Tensor, v: Tensor, log_gate: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (..., T, d_v) and the state (..., d, d_v) after the last token, by definition.

    Args:
        q, k, v: (..., T, d), (..., T, d), (..., T, d_v).
        log_gate: (..., T, d) or (..., T, 1), at most 0.
        state: before the first token; None: 0.
    """
    state, outputs = empty_state(k, v) if state is None else state, []
    for q_t, k_t, v_t, gate in zip(*(x.unbind(-2) for x in (q, k, v, log_gate.exp())), strict=True):
        state = gate[..., :, None] * state + k_t[..., :, None] * v_t[..., None, :]  # (..., d, d_v)
        outputs.append((q_t[..., None, :] @ state)[..., 0, :])  # (..., 1, d) @ (..., d, d_v) -> (..., d_v)
    return torch.stack(outputs, dim=-2), state


@in_full_precision
def quadratic_gated_attention(q: Tensor, k: Tensor, v: Tensor, log_gate: Tensor) -> Tensor:
    """Return (..., T, d_v) by all T x T weights: sum over channels of q_t k_s e^(A_t - A_s), for s up to t.

    Only differences that are not positive are exponentiated, so nothing overflows, however fast a state fades. With a
    gate for each channel this takes T x T x d numbers.
    """
    sums = summed(log_gate)  # (..., T, d) or (..., T, 1)
    if log_gate.shape[-1] == 1:
        weights = (q @ k.mT) * fading(sums)  # (..., T, T)
    else:
        faded = k[..., None, :, :] * fading_channels(sums)  # (..., 1, T, d) * (..., T, T, d)
        weights = (faded @ q[..., None])[..., 0]  # (..., T, T, d) @ (..., T, d, 1) -> (..., T, T)
    return weights @ v  # (..., T, T) @ (..., T, d_v) -> (..., T, d_v)


@in_full_precision
def chunked_gated_attention(
    q: Tensor, k: Tensor, v: Tensor, log_gate: Tensor, state: Tensor | None = None, *, chunk_size: int = 16
) -> tuple[Tensor, Tensor]:
    """Return what `recurrent_gated_attention` does: the quadratic form within chunks, chapter 6's scan between them."""
    length = q.shape[-2]
    state = empty_state(k, v) if state is None else state
    q, k, v, log_gate = (into_chunks(x, min(chunk_size, length)) for x in (q, k, v, log_gate))  # (..., n, C, d)
    sums = summed(log_gate)  # (..., n, C, d)
    total = sums[..., -1:, :]  # (..., n, 1, d)
    added = (k * (total - sums).exp()).mT @ v  # (..., n, d, C) @ (..., n, C, d_v) -> (..., n, d, d_v)
    kept = total.exp().mT.expand_as(added)  # (..., n, d, 1) -> (..., n, d, d_v)
    after = scan(kept.movedim(-3, 0), added.movedim(-3, 0), state)  # (n, ..., d, d_v): after each chunk
    before = torch.cat([state[None], after[:-1]]).movedim(0, -3)  # (..., n, d, d_v)
    outputs = quadratic_gated_attention(q, k, v, log_gate) + (q * sums.exp()) @ before  # (..., n, C, d_v)
    return from_chunks(outputs, length), after[-1]


def summed(log_gate: Tensor) -> Tensor:
    """Return the sums of logarithms so far, (..., T, d). None is -inf: the difference of two such would be NaN."""
    return log_gate.clamp(min=VANISHED).cumsum(dim=-2)


def fading(sums: Tensor) -> Tensor:
    """Return e^(A_t - A_s) (..., T, T) where s <= t, else 0, for sums of logarithms (..., T, 1)."""
    difference = sums - sums.mT  # (..., T, 1) - (..., 1, T)
    ahead = torch.ones_like(difference, dtype=torch.bool).triu(1)
    return difference.masked_fill(ahead, -math.inf).exp()  # the mask comes first: e^(a positive number) may be inf


def fading_channels(sums: Tensor) -> Tensor:
    """Return e^(A_t - A_s) (..., T, T, d) where s <= t, else 0, for sums of logarithms (..., T, d)."""
    n = sums.shape[-2]
    ahead = torch.ones(n, n, dtype=torch.bool, device=sums.device).triu(1)[..., None]  # (T, T, 1)
    return (sums[..., :, None, :] - sums[..., None, :, :]).masked_fill(ahead, -math.inf).exp()
