"""Fails until original_gru.py is solved.
在 original_gru.py 完成之前，这里的测试不会通过。
"""

import math

import torch
from torch import nn

from chapter_06_rnn_lstm_seq.exercises.original_gru import original_gru_cell


def random_weights(d, h):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3 * h, d), (3 * h, h), (3 * h,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def test_one_unit_by_hand():
    w_ih, w_hh, b = (torch.tensor(v) for v in ([[0.0], [0.0], [1.0]], [[0.0], [0.0], [2.0]], [0.0, 0.0, 0.0]))
    h = original_gru_cell(torch.tensor([[0.5]]), torch.tensor([[0.2]]), w_ih, w_hh, b)  # r = z = 0.5
    assert math.isclose(h.item(), 0.5 * 0.2 + 0.5 * math.tanh(0.5 + 2 * 0.5 * 0.2), rel_tol=1e-6)


def test_with_an_open_reset_gate_both_forms_agree():
    w_ih, w_hh, b = random_weights(3, 4)
    b[:4] = 1e3  # r = 1
    cell = nn.GRUCell(3, 4).double()
    weights = {"weight_ih": w_ih, "weight_hh": w_hh, "bias_ih": b, "bias_hh": torch.zeros_like(b)}
    cell.load_state_dict(weights)
    x, h = torch.randn(2, 3).double(), torch.randn(2, 4).double()
    torch.testing.assert_close(original_gru_cell(x, h, w_ih, w_hh, b), cell(x, h).detach(), rtol=0, atol=1e-12)


def test_with_a_diagonal_candidate_both_forms_agree():
    w_ih, w_hh, b = random_weights(3, 4)
    w_hh[8:] = torch.diag(torch.diag(w_hh[8:]))  # U_n (r h) = r (U_n h) for a diagonal U_n, and only for one
    cell = nn.GRUCell(3, 4).double()
    weights = {"weight_ih": w_ih, "weight_hh": w_hh, "bias_ih": b, "bias_hh": torch.zeros_like(b)}
    cell.load_state_dict(weights)
    x, h = torch.randn(2, 3).double(), torch.randn(2, 4).double()
    torch.testing.assert_close(original_gru_cell(x, h, w_ih, w_hh, b), cell(x, h).detach(), rtol=0, atol=1e-12)


def test_in_general_they_do_not():
    w_ih, w_hh, b = random_weights(3, 4)
    cell = nn.GRUCell(3, 4).double()
    cell.load_state_dict({"weight_ih": w_ih, "weight_hh": w_hh, "bias_ih": b, "bias_hh": torch.zeros_like(b)})
    x, h = torch.randn(2, 3).double(), torch.randn(2, 4).double()
    assert (original_gru_cell(x, h, w_ih, w_hh, b) - cell(x, h)).abs().max() > 0.01
