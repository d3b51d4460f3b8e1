"""Chapter 6: the memory tasks are what they say, the starts hold what they promise, gradients by lag are Jacobians.
第 6 章：记忆任务符合定义，初始化确实能保持记忆，按间隔统计的梯度等于雅可比矩阵的乘积。
"""

import pytest
import torch
from torch import nn

from chapter_06_rnn_lstm_seq.long_memory import (
    BLANK,
    GO,
    N_COPIED,
    N_SYMBOLS,
    adding_problem,
    copy_problem,
    gradient_by_lag,
    long_memory_init_,
)
from chapter_06_rnn_lstm_seq.recurrent import make_recurrent


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("length", [4, 8, 50, 400])
def test_two_numbers_are_marked_in_the_first_half_and_their_sum_is_asked_for(length):
    x, y = adding_problem(500, length, generator())
    values, marks = x.unbind(dim=-1)
    assert x.shape == (500, length, 2) and values.min() >= 0 and values.max() <= 1
    assert ((marks == 0) | (marks == 1)).all() and (marks.sum(dim=1) == 2).all()
    assert not marks[:, length // 2 :].any()
    torch.testing.assert_close(y, (values * marks).sum(dim=1))


def test_always_answering_1_has_an_error_of_one_sixth():
    _, y = adding_problem(100_000, 10, generator())
    assert ((y - 1) ** 2).mean().item() == pytest.approx(1 / 6, abs=0.002)


@pytest.mark.parametrize("lag", [1, 3, 40])
def test_symbols_are_copied_after_the_go(lag):
    x, y = copy_problem(200, lag, generator())
    assert x.shape == (200, lag + 2 * N_COPIED) and y.shape == (200, N_COPIED)
    assert torch.equal(x[:, :N_COPIED] - 2, y) and set(y.unique().tolist()) == set(range(N_SYMBOLS))
    assert (x[:, N_COPIED + lag - 1] == GO).all()
    rest = torch.cat([x[:, N_COPIED : N_COPIED + lag - 1], x[:, N_COPIED + lag :]], dim=1)
    assert (rest == BLANK).all()


@pytest.mark.parametrize("cell", ["lstm", "gru", "mingru"])
def test_units_of_a_started_network_keep_for_times_from_2_to_the_length(cell):
    net = long_memory_init_(make_recurrent(cell, 3, 500), 100, generator())
    biases = {name: p.detach() for name, p in net.named_parameters() if name.startswith("bias")}
    bias = sum(biases.values())
    row = {"lstm": slice(500, 1000), "gru": slice(500, 1000), "mingru": slice(0, 500)}[cell]
    logit = -bias[row] if cell == "mingru" else bias[row]
    times = 1 / (1 - torch.sigmoid(logit))  # a unit that keeps a share k forgets within 1 / (1 - k) steps
    assert times.min() >= 2 - 1e-4 and 90 < times.max() <= 100.001
    assert times.mean().item() == pytest.approx(51, abs=3)
    if cell == "lstm":
        torch.testing.assert_close(bias[:500], -bias[500:1000])


def test_a_started_rnn_is_orthogonal_in_every_layer_and_direction():
    net = long_memory_init_(make_recurrent("rnn", 3, 8, n_layers=2, bidirectional=True), 100, generator())
    for suffix in net.suffixes:
        w = net.get_parameter(f"weight_hh{suffix}").detach()
        torch.testing.assert_close(w @ w.t(), torch.eye(8), rtol=0, atol=1e-5)


def test_gradients_by_lag_are_products_of_jacobians():
    torch.manual_seed(0)
    net, readout = make_recurrent("rnn", 2, 3).double(), nn.Linear(3, 1).double()
    x = torch.randn(1, 6, 2).double()
    output, _ = net(x)
    gradient, wanted = readout.weight[0].detach(), []
    for h in output[0].detach().flip(0):
        wanted.append(gradient.norm())
        gradient = (gradient * (1 - h**2)) @ net.weight_hh_l0.detach()  # by the tanh's slope, then by W_hh
    torch.testing.assert_close(gradient_by_lag(net, x, readout), torch.stack(wanted))


@pytest.mark.parametrize("cell", ["lstm", "gru", "mingru"])
def test_a_start_for_long_memory_lets_gradients_reach_further(cell):
    x, _ = adding_problem(8, 100, generator())
    reach = {}
    for start in ("pytorch", "memory"):
        torch.manual_seed(0)
        net, readout = make_recurrent(cell, 2, 32), nn.Linear(32, 1)
        if start == "memory":
            long_memory_init_(net, 100, generator())
        reach[start] = gradient_by_lag(net, x, readout)[[0, 99]]
    assert reach["pytorch"][1] < 1e-6 * reach["pytorch"][0]
    assert reach["memory"][1] > 1e-3 * reach["memory"][0]


def test_a_small_adding_problem_is_learned():
    torch.manual_seed(0)
    draws = generator()
    net, readout = long_memory_init_(make_recurrent("mingru", 2, 16), 10, draws), nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=0.02)
    for _ in range(400):
        x, y = adding_problem(64, 10, draws)
        loss = (readout(net(x)[0][:, -1])[:, 0] - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01
