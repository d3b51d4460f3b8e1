"""The best size for a given amount of work: the bottom of a parabola, and how it moves as the work grows.
给定运算量时的最佳模型大小：抛物线的最低点，以及它如何随运算量移动。
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Parabola(NamedTuple):
    """loss = lowest + curvature (log n - log best)^2."""

    best: float  # parameters
    lowest: float  # the loss there
    curvature: float

    def __call__(self, n: np.ndarray | float) -> np.ndarray | float:
        return self.lowest + self.curvature * np.log(n / self.best) ** 2


def fit_parabola(n: Sequence[float], loss: Sequence[float]) -> Parabola:
    """Fit the losses of models of n parameters that had equally much work (Hoffmann et al. 2022, approach 2).

    Raises:
        ValueError: fewer than three sizes, or no valley: the best size lies outside of those that were tried.
    """
    log_n = np.log(np.asarray(n, dtype=np.float64))
    if len(set(log_n.tolist())) < 3:
        raise ValueError("a parabola needs three sizes")
    middle = log_n.mean()
    curvature, slope, level = np.polyfit(log_n - middle, np.asarray(loss, dtype=np.float64), 2)
    bottom = middle - slope / (2 * curvature)
    if curvature <= 0 or not log_n.min() <= bottom <= log_n.max():
        raise ValueError("the losses show no valley: try smaller and larger models")
    return Parabola(math.exp(bottom), float(level - slope**2 / (4 * curvature)), float(curvature))


def power_law(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return factor and exponent of y = factor x^exponent, by least squares of the logarithms."""
    exponent, level = np.polyfit(np.log(x), np.log(y), 1)
    return float(math.exp(level)), float(exponent)
