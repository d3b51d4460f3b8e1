"""Two series made here: a chaotic one that obeys an equation with a delay, and mixtures of sines.
两种在此生成的数列：由时滞方程产生的混沌数列，以及正弦波的混合。
"""

import torch
from torch import Tensor

STEP = 0.1  # time units of an integration step


def mackey_glass(length: int, tau: float = 17.0, seed: int = 0, washout: int = 1000, refine: int = 1) -> Tensor:
    """Return x(0), x(1), ... of dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t), (length,), float64.

    A model of blood cells whose making lags behind their count (Mackey & Glass 1977); with tau = 17 it is chaotic.
    Integrated by the classical Runge-Kutta method with steps of 0.1 / `refine`; the delayed value in the middle of a
    step is interpolated by a cubic. Before t = 0 the series is constant, between 1.2 and 1.3 by `seed`; `washout` time
    units, in which this is forgotten, are left out.
    """
    h = STEP / refine
    delay = round(tau / h)  # steps
    generator = torch.Generator().manual_seed(seed)
    # plain numbers: a million steps one after another, each too small for a tensor
    x = (1.2 + 0.1 * torch.rand(1, generator=generator, dtype=torch.float64)).expand(delay + 3).tolist()
    per_unit = round(1 / h)
    for _ in range((washout + length) * per_unit):
        before, a, b, after = x[-delay - 2], x[-delay - 1], x[-delay], x[-delay + 1]
        middle = (9 * (a + b) - before - after) / 16
        now = x[-1]
        k1 = _slope(now, a)
        k2 = _slope(now + h / 2 * k1, middle)
        k3 = _slope(now + h / 2 * k2, middle)
        k4 = _slope(now + h * k3, b)
        x.append(now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    start = delay + 3 + washout * per_unit - 1
    return torch.tensor(x[start::per_unit][:length], dtype=torch.float64)


def _slope(x: float, delayed: float) -> float:
    return 0.2 * delayed / (1 + delayed**10) - 0.1 * x


def sine_mixture(length: int, n_waves: int = 3, seed: int = 0) -> Tensor:
    """Return a sum of sines with periods from 10 to 60 steps and random heights and phases, (length,), float64."""
    generator = torch.Generator().manual_seed(seed)
    period, height, phase = torch.rand(3, n_waves, 1, generator=generator, dtype=torch.float64)
    t = torch.arange(length, dtype=torch.float64)
    waves = (0.5 + height) * (2 * torch.pi * (t / (10 + 50 * period) + phase)).sin()  # (n_waves, length)
    return waves.sum(dim=0)
