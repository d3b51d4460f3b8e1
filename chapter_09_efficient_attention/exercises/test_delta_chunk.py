"""Fails until delta_chunk.py is solved.
在 delta_chunk.py 完成之前，这里的测试不会通过。
"""

import torch

from chapter_09_efficient_attention.exercises.delta_chunk import delta_chunk
from chapter_09_efficient_attention.linear import recurrent_delta_rule


def make(n, d=5, d_v=3):
    torch.manual_seed(0)
    q, k = (torch.randn(n, d, dtype=torch.float64) for _ in range(2))
    v, state = torch.randn(n, d_v, dtype=torch.float64), torch.randn(d, d_v, dtype=torch.float64)
    return q, k / k.norm(dim=-1, keepdim=True), v, torch.rand(n, 1, dtype=torch.float64), state


def test_a_chunk_is_the_steps():
    for n in (1, 2, 12):
        q, k, v, beta, state = make(n)
        outputs, after = delta_chunk(q, k, v, beta, state)
        expected, expected_state = recurrent_delta_rule(q, k, v, beta, torch.zeros_like(beta), state)
        torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(after, expected_state, rtol=0, atol=1e-9)


def test_chunks_go_on_from_one_another():
    q, k, v, beta, state = make(9)
    whole, after = delta_chunk(q, k, v, beta, state)
    first, between = delta_chunk(q[:4], k[:4], v[:4], beta[:4], state)
    second, last = delta_chunk(q[4:], k[4:], v[4:], beta[4:], between)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(last, after, rtol=0, atol=1e-9)
