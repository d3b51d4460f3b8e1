"""Chapter 6: the scan equals the loop, gradients included, for any length and any gates.
第 6 章：扫描与逐步循环相等（包括梯度），对任意长度和任意门值都成立。
"""

import pytest
import torch

from chapter_06_rnn_lstm_seq.recurrent import make_recurrent
from chapter_06_rnn_lstm_seq.scan import WIDE, linear_recurrence, merge_pairs, scan, step_by_step

CLOSE = {"rtol": 0, "atol": 1e-9}


def recurrence(n_steps, *shape):
    torch.manual_seed(0)
    a = torch.rand(n_steps, *shape, dtype=torch.float64)
    b, h0 = torch.randn(n_steps, *shape, dtype=torch.float64), torch.randn(*shape, dtype=torch.float64)
    return a.requires_grad_(), b.requires_grad_(), h0.requires_grad_()


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100, 1023])
def test_the_scan_is_the_loop(n_steps):
    leaves = recurrence(n_steps, 2, 3)
    fast, slow = scan(*leaves), linear_recurrence(*leaves)
    torch.testing.assert_close(fast, slow, **CLOSE)
    arriving = torch.randn_like(slow)
    for mine, other in zip(
        torch.autograd.grad(fast, leaves, arriving), torch.autograd.grad(slow, leaves, arriving), strict=True
    ):
        torch.testing.assert_close(mine, other, **CLOSE)


@pytest.mark.parametrize("n_steps", [0, 1, 2, 5, 16, 33])
def test_both_ways_to_solve_are_the_same(n_steps):
    a, b, h0 = (t.detach() for t in recurrence(n_steps, 4))
    torch.testing.assert_close(merge_pairs(a, b, h0), step_by_step(a, b, h0), **CLOSE)


def test_wide_steps_are_the_loop_as_well():
    leaves = recurrence(6, WIDE)
    fast, slow = scan(*leaves), linear_recurrence(*leaves)
    torch.testing.assert_close(fast, slow, **CLOSE)
    for mine, other in zip(
        torch.autograd.grad(fast.sin().sum(), leaves), torch.autograd.grad(slow.sin().sum(), leaves), strict=True
    ):
        torch.testing.assert_close(mine, other, **CLOSE)


def test_gates_of_0_and_1_forget_all_and_nothing():
    b, h0 = torch.arange(1.0, 9).view(8, 1), torch.tensor([100.0])
    a = torch.tensor([1, 1, 1, 0, 1, 0, 0, 1.0]).view(8, 1)
    assert scan(a, b, h0).flatten().tolist() == [101, 103, 106, 4, 9, 6, 7, 15]


def test_long_sequences_neither_vanish_nor_overflow():
    """Dividing by products of gates, the shortcut that this scan does without, gives 0 / 0 here."""
    a, b = torch.full((5000, 1), 0.1), torch.ones(5000, 1)
    assert torch.allclose(scan(a, b, torch.zeros(1))[10:], torch.tensor(1 / 0.9))


@pytest.mark.parametrize("cell, gates", [("mingru", 1), ("minlstm", 2)])
@pytest.mark.parametrize("size", [1e3, -1e3])
def test_saturated_gates_give_finite_states_and_gradients(cell, gates, size):
    net = make_recurrent(cell, 1, 2)
    with torch.no_grad():
        net.weight_ih_l0[: 2 * gates] = size  # both gates of minLSTM underflow to 0 together where this is negative
    output, _ = net(torch.ones(1, 20, 1))
    output.sum().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    if cell == "mingru":
        kept_or_new = 0.0 if size < 0 else (net.weight_ih_l0[2:, 0] + net.bias_ih_l0[2:]).detach()
        assert torch.equal(output[0, -1], torch.zeros(2) + kept_or_new)
