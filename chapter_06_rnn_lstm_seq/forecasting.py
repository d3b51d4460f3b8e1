"""Forecasts of any series, with bands that come from how wrong the same method was before.
预测任意数列，误差带取自同一方法过去的误差。
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.baselines.autoregression import LinearAutoregression, persistence
from chapter_06_rnn_lstm_seq.baselines.echo import echo_forecast
from chapter_06_rnn_lstm_seq.model import Forecaster
from chapter_06_rnn_lstm_seq.reservoir import EchoStateNetwork
from utils.evaluating import evaluating

SHORTEST = 8  # values, and as many times the steps ahead, from which something can be learnt
N_BACKTESTS = 20
BAND = 0.9  # share of the past forecasts whose errors the band holds
CONTEXT = 200  # values that a forecast starts from, if there are so many

Method = Callable[[Tensor, Tensor, int], Tensor]  # (what to learn from (T,), contexts (N, C), steps) -> (N, steps)


class Forecast(NamedTuple):
    values: Tensor  # (H,)
    band: Tensor  # (H,): how far off the forecasts of the past were at each step, but for the worst tenth
    method: str
    errors: dict[str, float]  # each method's root mean square error on the past


@torch.no_grad()
def free_run(model: Forecaster, context: Tensor, n_ahead: int) -> Tensor:
    """Let the model go on from context (N, T) for n_ahead steps: (N, n_ahead), on the CPU, float64."""
    with evaluating(model):
        predictions = model(context.float().to(model.head.weight.device), n_ahead - 1)
    return predictions[:, context.shape[1] - 1 :].cpu().double()


def methods(network: Forecaster | None) -> dict[str, Method]:
    """Return the ways to forecast a standardised series: three that learn from it, and a `network` trained before."""
    found = {"persistence": _persistence, "linear": _linear, "reservoir": _reservoir}
    if network is not None:
        found["network"] = lambda past, context, n: free_run(network, context, n)
    return found


def _persistence(past: Tensor, context: Tensor, n_ahead: int) -> Tensor:
    return persistence(context, n_ahead)


def _linear(past: Tensor, context: Tensor, n_ahead: int) -> Tensor:
    order = max(1, min(32, len(past) // 4, context.shape[1]))
    return LinearAutoregression(order, penalty=1e-2).fit(past).forecast(context, n_ahead)


def _reservoir(past: Tensor, context: Tensor, n_ahead: int) -> Tensor:
    size = max(10, min(200, len(past) // 4))  # more weights than values would only learn them by heart
    network = EchoStateNetwork(
        1,
        size,
        torch.Generator().manual_seed(0),
        spectral_radius=0.95,
        leak=0.7,
        input_scaling=0.3,
        density=min(1.0, 10 / size),  # each neuron hears about ten others
        ridge=1e-4,
    )
    network.fit(past[:-1, None], past[1:, None], washout=min(50, len(past) // 4))
    return echo_forecast(network, context, n_ahead)


def forecast(series: Tensor, n_ahead: int, network: Forecaster | None = None) -> Forecast:
    """Forecast n_ahead values of a series (T,), float64, by the method that was best on its own last third.

    Each method learns from the first two thirds and forecasts from places in the last; the winner then learns from all.

    Raises:
        ValueError: the series is too short.
    """
    least = SHORTEST * max(n_ahead, 3)
    if n_ahead < 1 or len(series) < least:
        raise ValueError(f"to forecast {n_ahead} steps takes at least {least} values, and there are {len(series)}")
    mean, std = series.mean(), series.std()
    scaled = (series - mean) / (std if std > 0 else 1.0)
    cut = len(series) * 2 // 3
    n_context = min(CONTEXT, cut)
    starts = torch.linspace(cut, len(series) - n_ahead, N_BACKTESTS).long().unique()
    contexts = torch.stack([scaled[start - n_context : start] for start in starts])
    truth = torch.stack([scaled[start : start + n_ahead] for start in starts])
    candidates = methods(network)
    deviations = {name: (method(scaled[:cut], contexts, n_ahead) - truth).abs() for name, method in candidates.items()}
    deviations = {name: d.nan_to_num(nan=torch.inf) for name, d in deviations.items()}  # a forecast can run away
    errors = {name: (std * d.square().mean().sqrt()).item() for name, d in deviations.items()}
    best = min(errors, key=errors.__getitem__)
    values = candidates[best](scaled, scaled[None, -n_context:], n_ahead)[0]
    return Forecast(mean + std * values, std * deviations[best].quantile(BAND, dim=0), best, errors)
