"""Chapter 6: recurrent networks equal torch.nn's, and the fast layers equal the cells unrolled step by step.
第 6 章：循环网络与 torch.nn 一致，快速实现与逐步展开的单元一致。
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from chapter_06_rnn_lstm_seq.recurrent import CELLS, GRU, LSTM, RNN, LayerNormLSTM, make_recurrent
from chapter_06_rnn_lstm_seq.recurrent import cells as plain
from chapter_06_rnn_lstm_seq.recurrent.fused import tanh_

CLOSE = {"rtol": 0, "atol": 1e-9}
PAIRS = {"rnn": (RNN, nn.RNN), "lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}
PLAIN = {
    "rnn": plain.rnn_cell,
    "lstm": plain.lstm_cell,
    "gru": plain.gru_cell,
    "mingru": plain.min_gru_cell,
    "minlstm": plain.min_lstm_cell,
    "lstm_ln": plain.layer_norm_lstm_cell,
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def tensors(state):
    return (state,) if isinstance(state, torch.Tensor) else tuple(state)


def random_state(net, batch, dtype=torch.float64):
    shape = (net.n_layers * net.directions, batch, net.hidden_size)
    states = [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(net.n_states)]
    return states[0] if net.n_states == 1 else tuple(states)


def gradients(output, state, wanted):
    """The gradients of a random weighting of all outputs and final states."""
    generator = torch.Generator().manual_seed(1)
    results = [output, *tensors(state)]
    loss = sum((r * torch.randn(r.shape, generator=generator, dtype=r.dtype)).sum() for r in results)
    return torch.autograd.grad(loss, wanted)


def assert_same(a, b):
    for ours, theirs in zip(a, b, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def twins(cell, d, h, n_layers, bidirectional):
    """Our network and PyTorch's with the same weights; loading them both ways is part of the test."""
    ours = PAIRS[cell][0](d, h, n_layers, bidirectional).double()
    theirs = PAIRS[cell][1](d, h, n_layers, batch_first=True, bidirectional=bidirectional).double()
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


# batch, steps, inputs, hidden
SHAPES = [(1, 1, 1, 1), (1, 7, 3, 5), (3, 1, 2, 4), (4, 6, 5, 3), (2, 11, 1, 7)]


@pytest.mark.parametrize("with_state", [False, True], ids=["from 0", "from a state"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", PAIRS)
def test_outputs_states_and_all_gradients_are_those_of_pytorch(cell, n_layers, bidirectional, shape, with_state):
    batch, n_steps, d, h = shape
    ours, theirs = twins(cell, d, h, n_layers, bidirectional)
    x = torch.randn(batch, n_steps, d, dtype=torch.float64, requires_grad=True)
    state = random_state(ours, batch) if with_state else None
    mine, other = ours(x, state), theirs(x, state)
    assert_same([mine[0], *tensors(mine[1])], [other[0], *tensors(other[1])])
    leaves = [x, *(tensors(state) if with_state else ())]
    assert_same(gradients(*mine, [*leaves, *ours.parameters()]), gradients(*other, [*leaves, *theirs.parameters()]))


@pytest.mark.parametrize("lengths", [[1, 6, 3, 6], [2, 1, 1, 5], [6, 6, 6, 6]], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", PAIRS)
def test_lengths_are_those_of_packed_sequences(cell, n_layers, bidirectional, lengths):
    ours, theirs = twins(cell, 3, 5, n_layers, bidirectional)
    x = torch.randn(4, 6, 3, dtype=torch.float64, requires_grad=True)
    state, lengths = random_state(ours, 4), torch.tensor(lengths)
    mine = ours(x, state, lengths)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    output, end = theirs(packed, state)
    output, _ = pad_packed_sequence(output, batch_first=True, total_length=6)
    assert_same([mine[0], *tensors(mine[1])], [output, *tensors(end)])
    leaves = [x, *tensors(state)]
    assert_same(
        gradients(*mine, [*leaves, *ours.parameters()]),
        gradients(output, end, [*leaves, *theirs.parameters()]),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_is_its_cell_unrolled(cell, shape):
    batch, n_steps, d, h = shape
    net = make_recurrent(cell, d, h).double()
    x = torch.randn(n_steps, batch, d, dtype=torch.float64, requires_grad=True)
    state = [s[0] for s in tensors(random_state(net, batch))]
    fast = net.layer(x, *state, *net.weights("_l0"))
    slow = plain.unroll(PLAIN[cell], x, tuple(state), *net.weights("_l0"))
    assert_same(fast, slow)
    leaves = [x, *state, *net.parameters()]
    assert_same(gradients(fast[0], fast, leaves), gradients(slow[0], slow, leaves))


@pytest.mark.parametrize("cell", CELLS)
def test_step_by_step_from_the_state_is_the_whole(cell):
    net = make_recurrent(cell, 3, 4, n_layers=2).double()
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    whole, end = net(x)
    state, pieces = None, []
    for piece in x.split([1, 1, 3, 4], dim=1):
        output, state = net(piece, state)
        pieces.append(output)
    assert_same([torch.cat(pieces, dim=1), *tensors(state)], [whole, *tensors(end)])


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("cell", CELLS)
def test_what_stands_in_the_padding_reaches_nothing(cell, bidirectional):
    net = make_recurrent(cell, 3, 4, n_layers=2, bidirectional=bidirectional).double()
    x, lengths = torch.randn(3, 5, 3, dtype=torch.float64), torch.tensor([2, 5, 1])
    spoiled = x.clone()
    for row, length in zip(spoiled, lengths, strict=True):
        row[length:] = torch.nan
    results = []
    for values in (x.requires_grad_(), spoiled.requires_grad_()):
        output, end = net(values, lengths=lengths)
        results.append([output, *tensors(end), *gradients(output, end, [values, *net.parameters()])])
    assert_same(*results)
    alone, end = net(x[:1, :2])  # and a sequence in a batch is what it is by itself
    assert_same([alone, *tensors(end)], [results[0][0][:1, :2], *(s[:, :1] for s in results[0][1 : net.n_states + 1])])


def test_a_norm_of_1_and_0_is_what_the_layer_norm_starts_from():
    net = LayerNormLSTM(3, 4)
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    weights = dict(net.named_parameters())
    gates = sum(
        nn.functional.layer_norm(v @ weights[f"weight_{which}_l0"].t(), (16,)) for v, which in ((x, "ih"), (h, "hh"))
    )
    i, f, g, o = gates.chunk(4, dim=1)
    c_new = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h_new = o.sigmoid() * nn.functional.layer_norm(c_new, (4,)).tanh()
    torch.testing.assert_close(plain.layer_norm_lstm_cell(x, h, c, *net.weights("_l0")), (h_new, c_new))


def test_dropout_is_between_layers_and_in_training_alone():
    torch.manual_seed(0)
    net = GRU(3, 64, n_layers=2, dropout=0.5)
    x = torch.randn(2, 4, 3)
    seen = []
    original = net.layer
    net.layer = lambda inputs, *rest: seen.append(inputs) or original(inputs, *rest)
    net(x)
    assert 0.3 < (seen[1] == 0).float().mean() < 0.7 and not (seen[0] == 0).any()
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])
    assert not (net(x)[0] == 0).any()


@pytest.mark.parametrize("cell", CELLS)
def test_under_autocast_products_are_bfloat16_and_gradients_float32(cell):
    net = make_recurrent(cell, 8, 16, n_layers=2, bidirectional=True)
    x, direction = torch.randn(4, 10, 8), torch.randn(4, 10, 32)
    exact, _ = net(x)
    want = torch.cat([g.flatten() for g in torch.autograd.grad((exact * direction).sum(), list(net.parameters()))])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, end = net(x)
        again, _ = net(x, end)  # the state goes back in
    assert output.dtype == again.dtype == torch.bfloat16
    have = torch.autograd.grad((output.float() * direction).sum(), list(net.parameters()))
    assert all(g.dtype == torch.float32 for g in have)
    # A norm divides by the spread of W h, which is small at first, and makes rounding errors larger by as much.
    off_by = {"output": 0.03, "gradient": 0.1} if cell == "lstm_ln" else {"output": 0.01, "gradient": 0.01}
    assert (output.float() - exact).norm() < off_by["output"] * exact.norm()
    assert (torch.cat([g.flatten() for g in have]) - want).norm() < off_by["gradient"] * want.norm()


def test_an_lstms_cell_stays_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, (h, c) = LSTM(3, 4)(torch.randn(2, 5, 3))
    assert h.dtype == torch.bfloat16 and c.dtype == torch.float32


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "mingru", "minlstm"])
def test_a_second_derivative_is_refused(cell):
    net = make_recurrent(cell, 2, 3)
    x = torch.randn(1, 4, 2, requires_grad=True)
    (dx,) = torch.autograd.grad(net(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def test_a_second_backward_pass_is_the_same():
    net = LSTM(3, 4)
    output, _ = net(torch.randn(2, 5, 3))
    first = torch.autograd.grad(output.sum(), list(net.parameters()), retain_graph=True)
    second = torch.autograd.grad(output.sum(), list(net.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_outputs_changed_in_place_are_noticed(cell):
    net = make_recurrent(cell, 3, 4)
    output, _ = net(torch.randn(2, 5, 3))
    output.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize(
    "x, state, lengths, message",
    [
        ((2, 5, 4), None, None, r"\(B, T, 3\).*\(2, 5, 4\)"),
        ((5, 3), None, None, r"\(B, T, 3\).*\(5, 3\)"),
        ((2, 0, 3), None, None, r"T > 0.*\(2, 0, 3\)"),
        ((2, 5, 3), [(1, 2, 4)], None, r"2 of \(1, 2, 4\)"),
        ((2, 5, 3), [(1, 2, 4), (1, 1, 4)], None, r"\(1, 1, 4\)"),
        ((2, 5, 3), None, [5], "2 lengths"),
        ((2, 5, 3), None, [5, 0], r"from 1 to 5.*\[5, 0\]"),
        ((2, 5, 3), None, [6, 1], r"from 1 to 5.*\[6, 1\]"),
    ],
)
def test_shapes_that_do_not_fit_are_named(x, state, lengths, message):
    state = state and tuple(torch.zeros(s) for s in state)
    with pytest.raises(ValueError, match=message):
        LSTM(3, 4)(torch.zeros(x), state, lengths and torch.tensor(lengths))


@pytest.mark.parametrize("cell", CELLS)
def test_a_copy_is_a_network_of_its_own(cell):
    net = make_recurrent(cell, 2, 3)
    other = copy.deepcopy(net)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    x = torch.randn(1, 4, 2)
    assert not torch.equal(net(x)[0], other(x)[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_fast_tanh_is_tanh(dtype):
    """Near 1, sigmoid and difference are each rounded by half an eps at most; the sigmoid's error then counts twice."""
    x = torch.cat([torch.linspace(-20, 20, 1001), torch.tensor([1e-6, -torch.inf, torch.inf])]).to(dtype)
    off_by = 0.0 if dtype == torch.bfloat16 else 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(tanh_(x.clone()), x.tanh(), rtol=0, atol=off_by)
