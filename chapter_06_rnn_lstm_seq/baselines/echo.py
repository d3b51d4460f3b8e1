"""Echo state networks tried on a series: the random reservoir whose forecasts are best on a validation part.
在数列上试用回声状态网络：选出在验证段上预测最好的随机储备池。
"""

import itertools

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.reservoir import EchoStateNetwork

SIZE, WASHOUT = 300, 100
RADII, LEAKS, SCALES, RIDGES = (0.7, 0.95, 1.2), (0.4, 0.7, 1.0), (0.03, 0.1, 0.3, 1.0), (1e-11, 1e-9, 1e-7)
Setting = tuple[float, float, float, float]  # spectral radius, leak, input scaling, ridge
SETTINGS: list[Setting] = list(itertools.product(RADII, LEAKS, SCALES, RIDGES))
ONE_SETTING: list[Setting] = [(0.95, 1.0, 0.3, 1e-7)]  # for a series that is only there to try things out


def echo_forecast(network: EchoStateNetwork, context: Tensor, n_ahead: int) -> Tensor:
    """Let each series of context (N, T) echo, then run freely: (N, n_ahead)."""
    rows = []
    for u in context[..., None]:  # (T, 1)
        h = network.run(u)[-1]
        first = network.predict(h, u[-1].double())
        later = network.generate(network.step(first, h), first, n_ahead - 1) if n_ahead > 1 else first[None, :0]
        rows.append(torch.cat([first, later.flatten()]))
    return torch.stack(rows)


def best_reservoir(
    series: Tensor, validation: tuple[Tensor, Tensor], seed: int, settings: list[Setting] = SETTINGS
) -> EchoStateNetwork:
    """Fit reservoirs to a series (T,) to foretell its next value; return the best at the last step of the validation.

    `validation` is contexts (N, C) and what follows (N, H). All have the same random numbers, by `seed`.
    """
    context, truth = validation
    best, smallest = None, torch.inf
    for radius, leak, scale, ridge in settings:
        generator = torch.Generator().manual_seed(seed)
        network = EchoStateNetwork(
            1, SIZE, generator, spectral_radius=radius, leak=leak, input_scaling=scale, ridge=ridge
        )
        try:
            network.fit(series[:-1, None], series[1:, None], WASHOUT)
        except torch.linalg.LinAlgError:  # so small a ridge leaves the equations without a solution
            continue
        guess = echo_forecast(network, context, truth.shape[1])[:, -1]
        error = (guess - truth[:, -1]).square().mean().nan_to_num(nan=torch.inf).item()
        if error < smallest:
            best, smallest = network, error
    return best
