"""The delta rule: look first what the state answers to a key, then write only what is missing to the right answer.
Delta 规则：先看状态对这个键给出什么回答，再只写入它与正确答案之差。

    S_t = a_t S_(t-1) + b_t k_t (v_t - k_t a_t S_(t-1))^T,    o_t = q_t S_t

Linear attention adds k v^T whether or not the state knows it already, and answers pile up. Here the state learns: the
update is one step of gradient descent, with the learning rate b_t, on |k_t S - v_t|^2 / 2.

    delta rule          a_t = 1            Schlag et al. 2021, section 4.2; in chunks Yang et al. 2024
    gated delta rule    a_t in [0, 1]      Yang et al. 2025, equation 10

What is written, u_t = b_t (v_t - k_t a_t S_(t-1)), depends on what was written before. Put S_(t-1) as the faded sum of
k_s u_s^T into it, and one triangular system gives all u of a sequence or a chunk at once:

    u_t + b_t sum_(s<t) e^(A_t - A_s) (k_t . k_s) u_s  =  b_t (v_t - e^(A_t) k_t S_0)

Keys have length 1, as a rule: then a step with b = 1 makes the answer exactly right, and with b up to 2 it amplifies
nothing that is stored (beyond 1 it overshoots, which can turn a sign round: Grazzi et al. 2025).
"""

import torch
from torch import Tensor

from chapter_09_efficient_attention.linear.chunks import from_chunks, in_full_precision, into_chunks
from chapter_09_efficient_attention.linear.gated import fading, summed
from chapter_09_efficient_attention.linear.kernel import empty_state


@in_full_precision
def recurrent_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_gate: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (..., T, d_v) and the state (..., d, d_v) after the last token, by definition.

    Args:
        q, k, v: (..., T, d), (..., T, d), (..., T, d_v).
        beta: (..., T, 1), the learning rates.
        log_gate: (..., T, 1), log a_t: 0 for the rule without a gate, -inf for a gate of 0.
        state: before the first token; None: 0.
    """
    state, outputs = empty_state(k, v) if state is None else state, []
    for q_t, k_t, v_t, rate, gate in zip(*(x.unbind(-2) for x in (q, k, v, beta, log_gate.exp())), strict=True):
        state = gate[..., None] * state  # (..., d, d_v)
        missing = v_t - (k_t[..., None, :] @ state)[..., 0, :]  # (..., d_v)
        state = state + k_t[..., :, None] * (rate * missing)[..., None, :]
        outputs.append((q_t[..., None, :] @ state)[..., 0, :])  # (..., 1, d) @ (..., d, d_v) -> (..., d_v)
    return torch.stack(outputs, dim=-2), state


@in_full_precision
def quadratic_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_gate: Tensor) -> Tensor:
    """Return (..., T, d_v) from an empty state, by one triangular system of all T tokens."""
    faded = fading(summed(log_gate))  # (..., T, T)
    return ((q @ k.mT) * faded) @ written(k, beta, faded, beta * v)


@in_full_precision
def chunked_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_gate: Tensor,
    state: Tensor | None = None,
    *,
    chunk_size: int = 32,
) -> tuple[Tensor, Tensor]:
    """Return what `recurrent_delta_rule` does.

    The system is solved for all chunks at once, for both parts of its right side; only S_0 is not known yet, and comes
    in chunk by chunk (the WY form of Yang et al. 2024, section 3).
    """
    length = q.shape[-2]
    state = empty_state(k, v) if state is None else state
    q, k, v, beta, log_gate = (into_chunks(x, min(chunk_size, length)) for x in (q, k, v, beta, log_gate))
    sums = summed(log_gate)  # (..., n, C, 1)
    faded = fading(sums)  # (..., n, C, C)
    from_values = written(k, beta, faded, beta * v)  # (..., n, C, d_v)
    from_state = written(k, beta, faded, beta * sums.exp() * k)  # (..., n, C, d), to be multiplied by S_0
    weights = (q @ k.mT) * faded  # (..., n, C, C)
    q = q * sums.exp()
    k = k * (sums[..., -1:, :] - sums).exp()
    kept = sums[..., -1:, :].exp()  # (..., n, 1, 1)
    outputs = []
    parts = (q, k, weights, from_values, from_state, kept)
    for q_i, k_i, weights_i, values_i, state_i, kept_i in zip(*(x.unbind(-3) for x in parts), strict=True):
        u = values_i - state_i @ state  # (..., C, d_v)
        outputs.append(q_i @ state + weights_i @ u)  # (..., C, d_v)
        state = kept_i * state + k_i.mT @ u  # (..., d, C) @ (..., C, d_v) -> (..., d, d_v)
    return from_chunks(torch.stack(outputs, dim=-3), length), state


def written(k: Tensor, beta: Tensor, faded: Tensor, right: Tensor) -> Tensor:
    """Solve u_t + b_t sum_(s<t) e^(A_t - A_s) (k_t . k_s) u_s = right_t for u (..., T, d_v), `right` (..., T, d_v)."""
    system = (beta * faded * (k @ k.mT)).tril(-1)  # (..., T, T); the diagonal of ones is understood
    return torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
