"""What looks alike to a network: the angle between two pictures' features.
在网络看来哪些图片相似：两张图片特征之间的夹角。
"""

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS = 1000  # pictures compared with all others together


def nearest(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Compare each of N pictures' features (N, C) with all others': the cosine of the angle between the two vectors.

    Returns:
        the largest cosines, and which pictures they belong to: (N, `count`), or (N, N - 1) if there are no more.
    """
    unit = F.normalize(features)  # (N, C)
    cosines, others = [], []
    for start in range(0, len(unit), ROWS):
        rows = unit[start : start + ROWS] @ unit.T  # (ROWS, N)
        rows.diagonal(start).fill_(-torch.inf)  # nobody is their own neighbour
        best = rows.topk(min(count, len(unit) - 1))
        cosines.append(best.values.clamp(-1, 1))  # rounding can lead beyond
        others.append(best.indices)
    return torch.cat(cosines), torch.cat(others)


def mean_cosine(features: Tensor) -> float:
    """Return the mean over all pairs of the N rows (N, C), without making the pairs: from the length of their sum.

    |u_1 + ... + u_N|^2 is the sum of |u_i|^2 and of every pair's cosine, twice.
    """
    unit = F.normalize(features.double())  # (N, C)
    pairs = unit.sum(dim=0).square().sum() - unit.square().sum()
    return (pairs / (len(unit) * (len(unit) - 1))).item()
