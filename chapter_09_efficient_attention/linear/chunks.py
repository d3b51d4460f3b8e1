"""What all chunked forms share: cutting a sequence into chunks, and sums that bfloat16 would be too coarse for.
各种分段形式的共用部分：把序列切成段，以及 bfloat16 精度不够、须换更高精度的累加。
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor
from torch.nn import functional as F


def into_chunks(x: Tensor, chunk_size: int) -> Tensor:
    """Cut x (..., T, d) into chunks (..., n, C, d), the last one filled up with 0."""
    return F.pad(x, (0, 0, 0, -x.shape[-2] % chunk_size)).unflatten(-2, (-1, chunk_size))


def from_chunks(x: Tensor, length: int) -> Tensor:
    """Join chunks (..., n, C, d) again: (..., T, d)."""
    return x.flatten(-3, -2)[..., :length, :]


def at_least_float32(x: Tensor) -> Tensor:
    """Return x in float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def in_full_precision(form: Callable) -> Callable:
    """Let a function of tensors work in float32 at least, even under autocast.

    A state is a sum over all tokens, and bfloat16 loses what is added to a sum 256 times as large. An output comes back
    in the type of the first argument; a second result, the state, stays as it is.
    """

    @wraps(form)
    def wrapped(q: Tensor, *tensors: Tensor | None, **options):
        given = [None if x is None else at_least_float32(x) for x in (q, *tensors)]
        with torch.autocast(q.device.type, enabled=False):
            result = form(*given, **options)
        return (result[0].to(q.dtype), *result[1:]) if isinstance(result, tuple) else result.to(q.dtype)

    return wrapped
