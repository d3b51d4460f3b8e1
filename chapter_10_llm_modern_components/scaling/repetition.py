"""Data that is read again is worth less each time.
数据反复读，一遍比一遍值得少。
"""

from collections.abc import Sequence

import numpy as np

from chapter_10_llm_modern_components.scaling.law import Law

HALF_LIVES = np.geomspace(0.1, 1000, 2001)  # the constants that are tried, 0.5 % apart


def effective_tokens(unique: np.ndarray | float, total: np.ndarray | float, r_star: float) -> np.ndarray | float:
    """Return how many new tokens teach as much as `total` tokens of which `unique` are different.

    U + U r* (1 - exp(-R / r*)) with R = total / unique - 1 repetitions (Muennighoff et al. 2023, equation 5): the first
    few are nearly as good as new tokens, and all together they are worth at most r* further passes.
    """
    repeats = np.maximum(total / unique - 1, 0)
    return np.minimum(unique, total) + np.minimum(unique, total) * r_star * -np.expm1(-repeats / r_star)


def fit_repetition(
    law: Law, n: Sequence[float], unique: Sequence[float], total: Sequence[float], loss: Sequence[float]
) -> float:
    """Return the r* with which the law of `effective_tokens` comes closest to the losses, by least squares of logs.

    All but r* is as fitted on trainings without repetition. A value at an end of the range that is tried, from 0.1 to
    1,000, says that these losses do not tell it.
    """
    n, unique, total, loss = (np.asarray(values, dtype=np.float64) for values in (n, unique, total, loss))
    errors = [np.square(np.log(law(n, effective_tokens(unique, total, r)) / loss)).sum() for r in HALF_LIVES]
    return float(HALF_LIVES[int(np.argmin(errors))])
