"""The loss as a function of parameters and tokens, fitted to trainings that were made.
把损失写成参数量与词元数的函数，并用实际训练结果拟合。
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ALPHAS = BETAS = (0.1, 0.2, 0.35, 0.5, 0.8, 1.2)  # exponents to start from
POLISHED = 4  # of these starts, the best, go on to L-BFGS
FARTHEST = 100.0  # a logarithm beyond which a number means nothing
DELTA = 1e-3  # relative error from which on Huber's loss grows only linearly


class Law(NamedTuple):
    """L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, equation 2)."""

    E: float  # loss of an endless model with endless data
    A: float
    B: float
    alpha: float
    beta: float

    def __call__(self, n: np.ndarray | float, d: np.ndarray | float) -> np.ndarray | float:
        """Return the loss of n parameters trained on d tokens."""
        return self.E + self.A / n**self.alpha + self.B / d**self.beta

    def compute_optimal(self, c: float) -> tuple[float, float]:
        """Return parameters N and tokens D of the lowest loss where 6 N D = c (equation 4).

        Raises:
            ValueError: there is no such place, as the loss hardly falls with one of the two.
        """
        n_part, d_part = self.alpha * self.A, self.beta * self.B
        if min(n_part, d_part) > 0:
            log_n = (math.log(n_part / d_part) + self.beta * math.log(c / 6)) / (self.alpha + self.beta)
            if abs(log_n) < FARTHEST:
                n = math.exp(log_n)
                return n, c / (6 * n)
        raise ValueError("this law has no best size")


def fit_law(n: Sequence[float], d: Sequence[float], loss: Sequence[float], delta: float = DELTA) -> Law:
    """Return the law that fits best the losses of trainings with n parameters and d tokens.

    The error is Huber's loss of log L, which one failed training cannot bend much. L-BFGS goes down from several
    starts, for there are local minima: of a grid of exponents, with E, A and B by least squares, the best ones
    (Hoffmann et al. 2022, section 3.3, with a larger grid).

    Raises:
        ValueError: there are fewer trainings than constants.
    """
    n, d, loss = (np.asarray(values, dtype=np.float64) for values in (n, d, loss))
    if len(loss) < 5:
        raise ValueError(f"five constants cannot be fitted to {len(loss)} trainings")
    problem = _Problem(n, d, loss, delta)
    starts = sorted((problem.start(a, b) for a, b in product(ALPHAS, BETAS)), key=problem.error)
    return problem.law(min((problem.descend(start) for start in starts[:POLISHED]), key=problem.error))


def bootstrap_laws(
    n: Sequence[float],
    d: Sequence[float],
    loss: Sequence[float],
    rounds: int,
    rng: np.random.Generator,
    delta: float = DELTA,
) -> list[Law]:
    """Return laws fitted to as many trainings, drawn with replacement: they lie apart as new trainings' laws would.

    Each descent begins at the law of all trainings. Draws with fewer than five different trainings are drawn again.
    """
    n, d, loss = (np.asarray(values, dtype=np.float64) for values in (n, d, loss))
    whole, laws = fit_law(n, d, loss, delta), []
    while len(laws) < rounds:
        drawn = rng.integers(len(loss), size=len(loss))
        if len(set(drawn.tolist())) >= 5:
            problem = _Problem(n[drawn], d[drawn], loss[drawn], delta)
            laws.append(problem.law(problem.descend(problem.parameters(whole))))
    return laws


def interval(values: Sequence[float], share: float = 0.9) -> tuple[float, float]:
    """Return the bounds between which the middle `share` of the values lies."""
    low, high = np.quantile(np.asarray(values), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def r_squared(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """Return the part of the measured values' variance that the predictions explain: 1 at best, 0 for their mean."""
    predicted, measured = np.asarray(predicted), np.asarray(measured)
    return float(1 - ((predicted - measured) ** 2).sum() / ((measured - measured.mean()) ** 2).sum())


class _Problem:
    """The fit in coordinates that suit L-BFGS: the logarithms of E, A / n0^alpha, B / d0^beta, alpha and beta.

    So all of them are positive. n0 and d0 are the trainings' geometric means: around them a change of an exponent
    hardly changes the two terms.
    """

    def __init__(self, n: np.ndarray, d: np.ndarray, loss: np.ndarray, delta: float):
        self.n0, self.d0, self.delta = math.exp(np.log(n).mean()), math.exp(np.log(d).mean()), delta
        self.log_n, self.log_d = torch.from_numpy(np.log(n / self.n0)), torch.from_numpy(np.log(d / self.d0))
        self.loss, self.log_loss = loss, torch.from_numpy(np.log(loss))

    def residuals(self, x: Tensor) -> Tensor:
        """Return predicted minus measured log L of each training, in units of delta."""
        e, a, b, log_alpha, log_beta = x
        terms = [e.expand_as(self.log_n), a - log_alpha.exp() * self.log_n, b - log_beta.exp() * self.log_d]
        return (torch.stack(terms).logsumexp(dim=0) - self.log_loss) / self.delta

    def objective(self, x: Tensor) -> Tensor:
        r = self.residuals(x)
        return F.huber_loss(r, torch.zeros_like(r), delta=1.0)

    def error(self, x: Tensor) -> float:
        """Return the objective, or infinity where it is none."""
        error = self.objective(x).item()
        return error if math.isfinite(error) else math.inf

    def start(self, alpha: float, beta: float) -> Tensor:
        """Return the best E, A and B for given exponents by least squares, none of them below a hundredth of L."""
        terms = torch.ones_like(self.log_n), (-alpha * self.log_n).exp(), (-beta * self.log_d).exp()
        found = np.linalg.lstsq(torch.stack(terms, dim=1).numpy(), self.loss, rcond=None)[0]
        logs = np.log(np.maximum(found, 0.01 * self.loss.mean()))
        return torch.tensor([*logs, math.log(alpha), math.log(beta)], dtype=torch.float64)

    def descend(self, start: Tensor) -> Tensor:
        """Return where L-BFGS comes to from a start."""
        x = start.clone().requires_grad_()
        settings = {"max_iter": 500, "tolerance_grad": 1e-10, "tolerance_change": 1e-14}
        optimizer = torch.optim.LBFGS([x], line_search_fn="strong_wolfe", **settings)

        def closure() -> Tensor:
            optimizer.zero_grad()
            objective = self.objective(x)
            objective.backward()
            return objective

        optimizer.step(closure)
        return x.detach()

    def law(self, x: Tensor) -> Law:
        e, a, b, log_alpha, log_beta = x.clamp(min=-FARTHEST).tolist()
        alpha, beta = math.exp(log_alpha), math.exp(log_beta)
        return Law(math.exp(e), math.exp(a) * self.n0**alpha, math.exp(b) * self.d0**beta, alpha, beta)

    def parameters(self, law: Law) -> Tensor:
        """Return the coordinates of a law, the inverse of `law`."""
        at_middle = law.A / self.n0**law.alpha, law.B / self.d0**law.beta
        return torch.tensor([law.E, *at_middle, law.alpha, law.beta], dtype=torch.float64).log()
