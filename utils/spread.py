"""The mean over several seeds, and how far they lie apart.
多个随机种子上的均值与离散程度。
"""

from collections.abc import Iterable, Sequence
from statistics import mean, stdev


def mean_and_std(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the mean as `name`, and as name_std the sample standard deviation, 0 for a single value."""
    return {name: mean(values), f"{name}_std": stdev(values) if len(values) > 1 else 0.0}


def over_seeds(rows: Sequence[dict], names: Iterable[str] | None = None) -> dict[str, float]:
    """Return `mean_and_std` of each of the `names` over the rows, one a seed; by default of every name but "seed"."""
    found = {}
    for name in names or [name for name in rows[0] if name != "seed"]:
        found |= mean_and_std(name, [row[name] for row in rows])
    return found
