"""Series and forecasts: the equation, the baselines, a free run, a column of a CSV file.
数列与预测：方程、基线、自由运行，以及 CSV 文件中的一列。
"""

import math

import pytest
import torch

from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_06_rnn_lstm_seq.baselines.autoregression import LinearAutoregression, best_autoregression, persistence
from chapter_06_rnn_lstm_seq.baselines.echo import echo_forecast
from chapter_06_rnn_lstm_seq.columns import read_column
from chapter_06_rnn_lstm_seq.forecasting import forecast, free_run
from chapter_06_rnn_lstm_seq.model import Forecaster, ForecasterConfig
from chapter_06_rnn_lstm_seq.reservoir import EchoStateNetwork
from chapter_06_rnn_lstm_seq.series import mackey_glass, sine_mixture
from chapter_06_rnn_lstm_seq.tasks.series import (
    CONTEXT,
    HORIZON,
    TEST,
    TRAIN,
    VALIDATION,
    Series,
    nrmse,
    valid_steps,
    windows,
)
from tests.conftest import ROOT
from utils.errors import UserError

CPU = torch.device("cpu")


# --- the series -------------------------------------------------------------------------------------------------------


def test_mackey_glass_is_integrated_finely_enough():
    coarse, fine = mackey_glass(120), mackey_glass(120, refine=4)
    assert (coarse - fine).abs().max() < 1e-3  # the equation is chaotic: over 1,100 units errors have grown
    early = [mackey_glass(100, washout=0, refine=n) for n in (1, 2, 4)]
    first, second = ((a - b).abs().max() for a, b in zip(early, early[1:], strict=False))
    assert second < first / 3.5 and first < 1e-4


def test_mackey_glass_obeys_its_equation():
    x = mackey_glass(200, refine=1, washout=100)
    slope = (x[19:] - x[17:-2]) / 2  # at 18, 19, ..., over two units: crude, but it knows nothing of how x was made
    delayed, now = x[1:-18], x[18:-1]
    assert (slope - (0.2 * delayed / (1 + delayed**10) - 0.1 * now)).abs().max() < 5e-3


def test_without_a_delay_it_rests_where_gain_and_loss_are_equal():
    x = mackey_glass(50, tau=0.5, washout=200)
    torch.testing.assert_close(x, torch.ones(50, dtype=torch.float64), rtol=0, atol=1e-9)  # 0.2 / (1 + 1) = 0.1


def test_series_start_differently_by_seed():
    assert torch.equal(mackey_glass(20, seed=1), mackey_glass(20, seed=1))
    assert not torch.equal(mackey_glass(20, seed=1), mackey_glass(20, seed=2))
    assert torch.equal(sine_mixture(30, seed=1), sine_mixture(50, seed=1)[:30])


def test_no_forecast_that_is_measured_has_values_in_training():
    assert TRAIN.stop <= VALIDATION.start and VALIDATION.stop <= TEST.start
    context, truth = windows(torch.arange(float(TEST.stop))[TEST], HORIZON, 40)
    assert context.min() >= VALIDATION.stop and truth.shape[1] == HORIZON
    assert torch.equal(truth[:, 0], context[:, -1] + 1) and context.shape[1] == CONTEXT


# --- measures ---------------------------------------------------------------------------------------------------------


def test_measures_by_hand():
    truth = torch.zeros(2, 100, dtype=torch.float64)
    predictions = truth.clone()
    predictions[0, HORIZON - 1], predictions[1, 30:] = 0.05, 0.2
    assert nrmse(predictions, truth) == pytest.approx(math.sqrt((0.05**2 + 0.2**2) / 2))
    assert valid_steps(predictions, truth) == (100 + 30) / 2


# --- forecasts --------------------------------------------------------------------------------------------------------


def test_a_linear_autoregression_continues_a_sine_for_ever():
    x = torch.sin(0.3 * torch.arange(400.0, dtype=torch.float64))
    context, truth = x[None, :100], x[None, 100:400]
    assert (LinearAutoregression(2, 0.0).fit(x).forecast(context, 300) - truth).abs().max() < 1e-6
    assert (LinearAutoregression(2, 0.0, ahead=300).fit(x).direct(context) - truth[:, -1]).abs().max() < 1e-6
    assert torch.equal(persistence(context, 2), x[99].expand(1, 2))


def test_the_best_autoregression_is_chosen_on_the_validation_windows():
    generator = torch.Generator().manual_seed(0)
    x = torch.sin(0.3 * torch.arange(1500.0, dtype=torch.float64))
    noisy = x + 0.3 * torch.randn(1500, dtype=torch.float64, generator=generator)
    rows = noisy[1000:].unfold(0, 210, 10)
    best = best_autoregression(noisy[:1000], (rows[:, :200], rows[:, 200:]))
    assert best.order > 8  # two values would do without noise


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "mingru"])
def test_a_free_run_reads_its_own_predictions(cell):
    torch.manual_seed(0)
    model = Forecaster(ForecasterConfig(cell, 6, n_layers=2)).eval()
    x = torch.randn(2, 9)
    with torch.no_grad():
        whole = model(x, n_ahead=3)
        read = x
        for step in range(4):
            last = model(read)[:, -1:]
            torch.testing.assert_close(whole[:, 8 + step : 9 + step], last, rtol=1e-4, atol=1e-5)
            read = torch.cat([read, last], dim=1)
        torch.testing.assert_close(free_run(model, x, 4).float(), whole[:, 8:])


def test_an_echo_forecast_is_its_networks_free_run():
    x = sine_mixture(400)
    network = EchoStateNetwork(1, 50, torch.Generator().manual_seed(0))
    network.fit(x[:-1, None], x[1:, None], 50)
    found = echo_forecast(network, x[None, :300], 5)[0]
    h, u = network.run(x[:299, None])[-1], x[299:300]
    assert torch.allclose(found, network.generate(network.step(u, h), u, 5)[:, 0])
    assert torch.equal(echo_forecast(network, x[None, :300], 1)[0], found[:1])


def test_it_learns_to_foretell_a_sine():
    torch.manual_seed(0)
    options = {"cell": "lstm", "hidden_size": 24, "n_layers": 1}
    task = Series(0, sine_mixture(TEST.stop, n_waves=1), "validation", options, 16, CPU)
    model = task.build()
    optimizers = make_optimizers(model, "muon", lr=1e-2, weight_decay=0.0)
    for _ in range(100):
        inputs, targets = task.batch()
        loss = task.loss(model(*inputs), targets)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        clip_by_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
    assert loss < 0.03 and task.validate(model)["val_nrmse_84"] < 0.3


def test_the_method_is_chosen_by_its_past():
    x = torch.sin(0.3 * torch.arange(300.0, dtype=torch.float64))
    found = forecast(5 + 2 * x[:280], 20)
    assert found.method == "linear" and found.errors["persistence"] > 1
    torch.testing.assert_close(found.values, 5 + 2 * x[280:], rtol=0, atol=0.05)
    walk = torch.randn(500, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).cumsum(0)
    off = forecast(walk, 5)
    assert off.band[4] > off.band[0] > 0 and torch.isfinite(off.values).all()


def test_odd_series():
    constant = forecast(torch.full((40,), 3.0, dtype=torch.float64), 4)
    torch.testing.assert_close(constant.values, torch.full((4,), 3.0, dtype=torch.float64))
    with pytest.raises(ValueError, match="at least 80 values"):
        forecast(torch.arange(79.0, dtype=torch.float64), 10)


# --- columns ----------------------------------------------------------------------------------------------------------


def write(path, text):
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    "text, column, name, values",
    [
        ("day,price\n1,2.5\n2,3\n", None, "price", [2.5, 3]),
        ("\ufeffday;price\r\nMo;2.5\r\nTu;-1e3\r\n\r\n", None, "price", [2.5, -1000]),
        ("1\t5\n2\t6\n", "1", "1", [1, 2]),
        ('name,x\n"a, b",1\n"c",2', "x", "x", [1, 2]),
        ("3\n4\n", None, "1", [3, 4]),
        ("\n\nx\n3\n4\n", None, "x", [3, 4]),
    ],
)
def test_a_column_is_found(text, column, name, values, tmp_path):
    found, called = read_column(write(tmp_path / "a.csv", text), column)
    assert found.tolist() == values and called == name


@pytest.mark.parametrize(
    "text, column, message",
    [
        ("t,x\n1,2\n2,\n3,4\n", "x", "line 3, column 'x': a gap"),
        ("t,x\n1,2\n2\n", "x", "line 3, column 'x': a gap"),
        ("t,x\n1,2\n2,n/a\n", "x", "line 3, column 'x': 'n/a' is not a finite number"),
        ("t,x\n1,2\n2,inf\n", None, "line 3, column 'x': 'inf'"),
        ("x\n1\n\n3\n", None, "line 3, column 'x': a gap"),
        ("note,x\n'two\nlines',1\nb,\n".replace("'", '"'), "x", "line 4, column 'x': a gap"),
        ("\n\nx\n1\n,\n3\n", None, "line 5, column 'x': a gap"),
        ("t,x\n1,2\n", "y", "no column 'y'; there are t, x"),
        ("a,b\nc,d\n", None, "no column of numbers"),
        ("a,b\n", None, "no line of numbers"),
        ("", None, "is empty"),
        (",,\n,,\n", None, "is empty"),
    ],
)
def test_what_is_missing_is_named_with_its_line(text, column, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_column(write(tmp_path / "a.csv", text), column)


def test_the_table_that_ships_is_a_series_that_no_network_learned_from():
    values, _ = read_column(ROOT / "chapter_06_rnn_lstm_seq" / "data" / "mackey_glass.csv")
    torch.testing.assert_close(values, mackey_glass(600, seed=1), rtol=0, atol=5.1e-6)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_column(tmp_path / "a.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_column(tmp_path / "none.csv")
