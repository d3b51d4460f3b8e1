"""Solution: merge every step with the one d before it, for d = 1, 2, 4, ...
解答：对 d = 1, 2, 4, …，把每一步与它前面第 d 步合并。
"""

import torch
from torch import Tensor


def doubling_scan(a: Tensor, b: Tensor) -> Tensor:
    """Solve the recurrence from h = 0 on: a and b (T, ...) -> (T, ...)."""
    distance = 1
    while distance < len(b):
        merged_b = a[distance:] * b[:-distance] + b[distance:]
        merged_a = a[distance:] * a[:-distance]
        a, b = torch.cat([a[:distance], merged_a]), torch.cat([b[:distance], merged_b])
        distance *= 2
    return b
