"""What tasks share: how spread out attention is.
各任务共用的部分：注意力有多分散。
"""

import torch
from torch import Tensor


def attention_entropy(weights: Tensor, real: Tensor) -> float:
    """Return the mean entropy (nats) of weights (B, T, S) at the places of the target that are real (B, T).

    0: all weight on one place; log n: equal weights on n places.
    """
    return torch.special.entr(weights.float()).sum(dim=-1)[real].mean().item()
