"""Chapter 6: backpropagation through time by hand equals autograd, and trains.
第 6 章：手写的沿时间反向传播与自动求导一致，并且能用来训练。
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from chapter_06_rnn_lstm_seq.manual_bptt import backward, cross_entropy, forward, init_weights
from chapter_06_rnn_lstm_seq.recurrent import RNN


def problem(n_steps, batch, n_tokens, hidden, seed=0):
    rng = np.random.default_rng(seed)
    x, targets = rng.integers(n_tokens, size=(2, n_steps, batch))
    return x, targets, rng.normal(size=(batch, hidden)), init_weights(n_tokens, hidden, rng)


@pytest.mark.parametrize("shape", [(1, 1, 2, 1), (1, 3, 5, 4), (6, 1, 3, 2), (9, 4, 7, 5)], ids=str)
def test_loss_and_gradients_are_autograds(shape):
    n_steps, batch, n_tokens, hidden = shape
    x, targets, h0, weights = problem(*shape)
    h, p = forward(x, h0, weights)
    gradients, dh = backward(x, targets, h0, h, p, weights)

    w = {name: torch.tensor(value, requires_grad=True) for name, value in weights.items()}
    state, states, loss = torch.tensor(h0), [], 0
    for x_t, target in zip(torch.tensor(x), torch.tensor(targets), strict=True):
        state = torch.tanh(F.one_hot(x_t, n_tokens).double() @ w["w_xh"].t() + state @ w["w_hh"].t() + w["b_h"])
        state.retain_grad()
        states.append(state)
        loss = loss + F.cross_entropy(state @ w["w_hy"].t() + w["b_y"], target) / n_steps
    loss.backward()
    assert cross_entropy(p, targets) == pytest.approx(loss.item(), abs=1e-9)
    for name, tensor in w.items():
        np.testing.assert_allclose(gradients[name], tensor.grad.numpy(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(dh, torch.stack([s.grad for s in states]).numpy(), rtol=0, atol=1e-9)


def test_it_is_the_chapters_rnn():
    x, targets, h0, weights = problem(7, 2, 5, 4)
    net = RNN(5, 4).double()
    net.load_state_dict(
        {
            "weight_ih_l0": torch.tensor(weights["w_xh"]),
            "weight_hh_l0": torch.tensor(weights["w_hh"]),
            "bias_ih_l0": torch.tensor(weights["b_h"]),
            "bias_hh_l0": torch.zeros(4).double(),
        }
    )
    output, _ = net(F.one_hot(torch.tensor(x).t(), 5).double(), torch.tensor(h0)[None])
    h, _ = forward(x, h0, weights)
    np.testing.assert_allclose(h, output.detach().transpose(0, 1).numpy(), rtol=0, atol=1e-12)


def test_it_learns_to_repeat_what_came_two_steps_before():
    rng = np.random.default_rng(0)
    weights, h0 = init_weights(3, 16, rng), np.zeros((32, 16))
    losses = []
    for _ in range(400):
        x = rng.integers(3, size=(8, 32))
        targets = np.roll(x, 2, axis=0)  # the first two steps cannot be known: the loss stays above (2 / 8) log 3
        h, p = forward(x, h0, weights)
        losses.append(cross_entropy(p, targets))
        gradients, _ = backward(x, targets, h0, h, p, weights)
        for name in weights:
            weights[name] -= 1.0 * gradients[name]
    floor = np.log(3) / 4
    assert losses[0] > np.log(3) - 0.1 and floor < np.mean(losses[-20:]) < floor + 0.05
