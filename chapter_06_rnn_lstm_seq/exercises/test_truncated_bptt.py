"""Fails until truncated_bptt.py is solved.
在 truncated_bptt.py 完成之前，这里的测试不会通过。
"""

import pytest
import torch
from torch import nn

from chapter_06_rnn_lstm_seq.exercises.truncated_bptt import truncated_bptt
from chapter_06_rnn_lstm_seq.recurrent import make_recurrent


def problem(cell):
    torch.manual_seed(0)
    net, readout = make_recurrent(cell, 2, 4).double(), nn.Linear(4, 1).double()
    return net, readout, torch.randn(3, 10, 2).double(), torch.randn(3, 10, 1).double()


def gradients(net, readout):
    return [p.grad.clone() for p in (*net.parameters(), *readout.parameters())]


def test_one_chunk_is_the_whole():
    for cell in ("rnn", "lstm"):
        net, readout, x, targets = problem(cell)
        error = truncated_bptt(net, readout, x, targets, chunk=10)
        truncated = gradients(net, readout)
        net.zero_grad(), readout.zero_grad()
        whole = nn.functional.mse_loss(readout(net(x)[0]), targets)
        whole.backward()
        assert error == pytest.approx(whole.item())
        torch.testing.assert_close(truncated, gradients(net, readout))


def test_the_error_does_not_depend_on_the_chunks_but_the_gradient_does():
    for cell in ("gru", "lstm"):
        results = {}
        for chunk in (1, 3, 5, 10):
            net, readout, x, targets = problem(cell)
            results[chunk] = truncated_bptt(net, readout, x, targets, chunk), gradients(net, readout)
        errors = [error for error, _ in results.values()]
        assert errors == pytest.approx([errors[0]] * 4)
        torch.testing.assert_close(results[3][1][-2:], results[10][1][-2:])  # the readout's needs no time
        assert (results[3][1][0] - results[10][1][0]).abs().max() > 1e-4


def test_one_linear_unit_by_hand():
    class Sum(nn.Module):
        """h' = w h + x, without bias: with w = 1 the state is a running sum."""

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor(1.0))

        def forward(self, x, state=None):
            h, outputs = torch.zeros(1, len(x), 1) if state is None else state, []
            for t in range(x.shape[1]):
                h = self.w * h + x[:, t]
                outputs.append(h[0])
            return torch.stack(outputs, dim=1), h

    net, readout = Sum(), nn.Linear(1, 1)
    nn.init.ones_(readout.weight), nn.init.zeros_(readout.bias)
    x, targets = torch.ones(1, 4, 1), torch.zeros(1, 4, 1)  # h = 1, 2, 3, 4
    truncated_bptt(net, readout, x, targets, chunk=2)
    # dh_t/dw = h_(t-1) + w dh_(t-1)/dw, begun anew in each chunk: 0, 1 | 2, 3 + 2 = 5; times 2 h_t / 4
    assert net.w.grad.item() == pytest.approx((0 * 1 + 1 * 2 + 2 * 3 + 5 * 4) * 2 / 4)
