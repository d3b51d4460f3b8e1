"""Chapter 6: the echo state network has its spectral radius, forgets its start, solves its ridge and runs freely.
第 6 章：回声状态网络的谱半径正确，会遗忘初始状态，岭回归解正确，并能自由运行。
"""

import math

import pytest
import torch

from chapter_06_rnn_lstm_seq.recurrent.cells import rnn_cell
from chapter_06_rnn_lstm_seq.reservoir import EchoStateNetwork


def network(size=60, n_inputs=1, seed=0, **options):
    return EchoStateNetwork(n_inputs, size, torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("radius", [0.3, 0.95, 1.4])
@pytest.mark.parametrize("density", [0.05, 1.0])
def test_radius_density_and_scales_are_as_asked_for(radius, density):
    net = network(200, n_inputs=2, spectral_radius=radius, density=density, input_scaling=0.5, bias_scaling=0.1)
    assert torch.linalg.eigvals(net.w).abs().max().item() == pytest.approx(radius)
    assert (net.w != 0).double().mean().item() == pytest.approx(density, abs=0.01)
    assert 0.45 < net.w_in.abs().max() <= 0.5 and 0.09 < net.b.abs().max() <= 0.1


def test_a_step_without_leak_is_an_rnns():
    net = network(7, n_inputs=2, density=1.0)
    u, h = torch.randn(2).double(), torch.randn(7).double()
    torch.testing.assert_close(net.step(u, h), rnn_cell(u, h, net.w_in, net.w, net.b, torch.zeros(7).double()))
    net.leak = 0.25
    whole = rnn_cell(u, h, net.w_in, net.w, net.b, torch.zeros(7).double())
    torch.testing.assert_close(net.step(u, h), 0.75 * h + 0.25 * whole)


def test_a_radius_below_1_forgets_the_start_and_one_above_does_not():
    u = torch.zeros(300, 1)
    starts = torch.randn(2, 60, generator=torch.Generator().manual_seed(1)).double()
    gap = {}
    for radius in (0.8, 1.6):
        net = network(spectral_radius=radius, bias_scaling=0.0)
        one, other = (net.run(u, start)[-1] for start in starts)
        gap[radius] = (one - other).norm().item()
    assert gap[0.8] < 1e-9 and gap[1.6] > 0.1


def test_the_readout_is_the_ridge_solution():
    net = network(20, ridge=0.1)
    u = torch.randn(100, 1, generator=torch.Generator().manual_seed(1)).double()
    y = torch.randn(100, 2, generator=torch.Generator().manual_seed(2)).double()
    last = net.fit(u, y, washout=10)
    states = net.run(u)
    x = torch.cat([states, u, torch.ones(100, 1)], dim=1)[10:]
    augmented = torch.cat([x, math.sqrt(0.1) * torch.eye(22).double()])  # ridge as least squares with more rows
    wanted = torch.linalg.lstsq(augmented, torch.cat([y[10:], torch.zeros(22, 2).double()])).solution
    torch.testing.assert_close(net.readout, wanted, rtol=0, atol=1e-9)
    assert torch.equal(last, states[-1])
    torch.testing.assert_close(net.predict(states[10:], u[10:]), x @ wanted)


def test_it_foretells_a_sine_on_its_own_predictions():
    t = torch.arange(700.0, dtype=torch.float64)
    wave = torch.sin(0.2 * t)[:, None]  # (T, 1)
    net = network(100)
    h = net.fit(wave[:500], wave[1:501], washout=100)
    free = net.generate(h, wave[499], n_steps=199)
    assert (free - wave[500:699]).abs().max() < 0.01


def test_a_stream_goes_on_from_its_state():
    net = network(10, density=0.5)
    u = torch.randn(9, 1).double()
    whole, first = net.run(u), net.run(u[:4])
    torch.testing.assert_close(torch.cat([first, net.run(u[4:], first[-1])]), whole)


def test_the_same_seed_gives_the_same_reservoir():
    assert torch.equal(network(seed=3).w, network(seed=3).w) and not torch.equal(network(seed=3).w, network(seed=4).w)


def test_a_reservoir_without_loops_is_refused():
    with pytest.raises(ValueError, match="no loops"):
        network(5, density=0.0)
