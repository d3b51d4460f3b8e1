"""Linear attention: a product of features instead of softmax, and the past fits into a matrix of fixed size.
线性注意力：用特征的内积代替 softmax，过去的一切便装进一个固定大小的矩阵。

With weights phi(q) . phi(k) in place of e^(q . k), the sum over keys can be taken before the query is known:

    sum_s (phi(q) . phi(k_s)) v_s  =  phi(q) . (sum_s phi(k_s) v_s^T)      Katharopoulos et al. 2020, equations 4 to 6

The three forms below compute the same, for features q and k (..., T, m) and values v (..., T, d_v). They multiply so
many times:

    quadratic    all T x T weights, masked      T^2 (m + d_v)        the definition
    recurrent    one state, token by token      2 T m d_v            for decoding
    chunked      weights within a chunk of C, states between         T (C (m + d_v) + 2 m d_v), in few large products

The weights are divided by their sum. It is had for free: a column of ones beside v collects it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_09_efficient_attention.linear.chunks import from_chunks, in_full_precision, into_chunks


@in_full_precision
def quadratic_linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return (..., T, d_v), by definition."""
    weights = (q @ k.mT).tril()  # (..., T, T)
    return weights @ v / weights.sum(dim=-1, keepdim=True)  # (..., T, T) @ (..., T, d_v) -> (..., T, d_v)


@in_full_precision
def recurrent_linear_attention(q: Tensor, k: Tensor, v: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return (..., T, d_v) and the state (..., m, d_v + 1) after the last token, from that before the first; None: 0.

    Katharopoulos et al. 2020, equations 18 to 20.
    """
    v = with_ones(v)  # (..., T, d_v + 1)
    state = empty_state(k, v) if state is None else state
    outputs = []
    for q_t, k_t, v_t in zip(q.unbind(-2), k.unbind(-2), v.unbind(-2), strict=True):
        state = state + k_t[..., :, None] * v_t[..., None, :]  # (..., m, 1) * (..., 1, d_v + 1)
        outputs.append((q_t[..., None, :] @ state)[..., 0, :])  # (..., 1, m) @ (..., m, d_v + 1)
    return divided(torch.stack(outputs, dim=-2)), state


@in_full_precision
def chunked_linear_attention(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor | None = None, *, chunk_size: int = 64
) -> tuple[Tensor, Tensor]:
    """Return what `recurrent_linear_attention` does."""
    length, v = q.shape[-2], with_ones(v)
    state = empty_state(k, v) if state is None else state
    q, k, v = (into_chunks(x, min(chunk_size, length)) for x in (q, k, v))  # (..., n, C, m), (..., n, C, d_v + 1)
    added = k.mT @ v  # (..., n, m, C) @ (..., n, C, d_v + 1) -> (..., n, m, d_v + 1)
    states = torch.cat([state[..., None, :, :], added], dim=-3).cumsum(dim=-3)  # (..., n + 1, m, d_v + 1)
    outputs = (q @ k.mT).tril() @ v + q @ states[..., :-1, :, :]  # (..., n, C, d_v + 1)
    return divided(from_chunks(outputs, length)), states[..., -1, :, :]


def with_ones(v: Tensor) -> Tensor:
    """Return v (..., T, d_v) with a column of ones, (..., T, d_v + 1)."""
    return F.pad(v, (0, 1), value=1.0)


def divided(sums: Tensor) -> Tensor:
    """Divide (..., T, d_v + 1) by its last column: (..., T, d_v)."""
    return sums[..., :-1] / sums[..., -1:]


def empty_state(k: Tensor, v: Tensor) -> Tensor:
    """Return zeros (..., m, d_v)."""
    return k.new_zeros(*k.shape[:-2], k.shape[-1], v.shape[-1])
