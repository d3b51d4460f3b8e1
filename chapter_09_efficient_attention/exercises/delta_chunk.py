"""Exercise: a chunk of the delta rule at once, without a loop over its tokens.
练习：不逐个词元循环，一次算完 delta 规则的一整段。

    python -m pytest chapter_09_efficient_attention/exercises/test_delta_chunk.py
"""

from torch import Tensor


def delta_chunk(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs (C, d_v) of a chunk and the state (d, d_v) after it, for S_t = S_(t-1) + k_t u_t^T.

    What is written, u_t = beta_t (v_t - S_(t-1)^T k_t), depends on all earlier u of the chunk. Write this as a
    triangular system, and leave it to `torch.linalg.solve_triangular`. The outputs are y_t = q_t^T S_t, so a token sees
    what it wrote itself.

    Args:
        q, k, v: (C, d), (C, d), (C, d_v).
        beta: (C, 1).
        state: (d, d_v), before the chunk.
    """
    raise NotImplementedError
