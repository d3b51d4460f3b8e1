"""The choice of a learning rate, fair to every arm of a comparison.
为对比实验的每一方公平地选择学习率。

A best rate at the edge of a grid says only that the grid was too narrow. So the grid grows until the best lies inside.
最优学习率若落在网格边缘，只说明网格太窄；所以要一直扩展网格，直到最优值落在内部。
"""

import math
from collections.abc import Callable, Sequence


def search_rates(
    trial: Callable[[str, float], float], grids: dict[str, Sequence[float]], ratio: float, reach: int
) -> dict[str, dict[float, float]]:
    """Try rates for several arms; while any arm's best lies at an edge of its grid, every arm gets one more there.

    Thus all arms whose grids begin equally long have the same number of trials.

    Args:
        trial: of an arm's name and a rate; returns a score, the higher the better. NaN counts as the worst.
        grids: for each arm the rates to begin with.
        ratio: above 1; from one rate to the next beyond an edge.
        reach: how many rates a grid grows by at most, at each end.

    Returns:
        for each arm its scores by rising rate.
    """
    found = {arm: {rate: trial(arm, rate) for rate in sorted(grid)} for arm, grid in grids.items()}
    for edge, factor in ((min, 1 / ratio), (max, ratio)):
        for _ in range(reach):
            if not any(best_rate(scores) == edge(scores) for scores in found.values()):
                break
            for arm, scores in found.items():
                rate = edge(scores) * factor
                scores[rate] = trial(arm, rate)
    return {arm: dict(sorted(scores.items())) for arm, scores in found.items()}


def search_rate(trial: Callable[[float], float], grid: Sequence[float], ratio: float, reach: int) -> dict[float, float]:
    """Like `search_rates` for one arm alone: return the score of each rate that was tried, by rising rate."""
    return search_rates(lambda _, rate: trial(rate), {"": grid}, ratio, reach)[""]


def best_rate(scores: dict[float, float]) -> float:
    """Return the rate of the highest score; of equals, the lowest rate."""
    return min(scores, key=lambda rate: (math.isnan(scores[rate]), -scores[rate], rate))
