"""Changes a sound's sampling rate with a windowed sinc, the curve that fits between samples.
用加窗 sinc 函数改变采样率。
"""

import torch
from torch import Tensor

ZERO_CROSSINGS = 24  # of the sinc on either side: more make the filter steeper
ROLLOFF = 0.95  # the filter's middle, as a share of the highest frequency that the lower rate can hold
CHUNK = 4096  # output samples at once


def resample(x: Tensor, old_rate: int, new_rate: int) -> Tensor:
    """Return the sound x (T,) sampled `new_rate` times a second, (ceil(T new / old),).

    y(t) = sum_n x[n] h(t - n / old), h a sinc with a Hann window over it. A sinc passes what lies below its cutoff:
    half of the lower rate, so that nothing is left that the new rate would turn into other tones (aliasing).
    """
    if old_rate == new_rate:
        return x
    cutoff = ROLLOFF * min(old_rate, new_rate) / old_rate  # as a share of half of the old rate
    reach = ZERO_CROSSINGS / cutoff  # samples on either side that count
    count = -(-len(x) * new_rate // old_rate)
    taps = torch.arange(-int(reach), int(reach) + 2)
    parts = []
    for first in range(0, count, CHUNK):
        place = torch.arange(first, min(first + CHUNK, count), dtype=torch.float64) * old_rate / new_rate  # (N,)
        index = place.floor().long()[:, None] + taps  # (N, taps)
        distance = place[:, None] - index
        window = torch.where(distance.abs() < reach, (torch.pi / 2 * distance / reach).cos() ** 2, 0)
        weights = torch.sinc(cutoff * distance) * window
        weights = weights / weights.sum(dim=1, keepdim=True)  # a constant stays what it is
        inside = (index >= 0) & (index < len(x))
        values = torch.where(inside, x[index.clamp(0, len(x) - 1)].double(), 0)
        parts.append((weights * values).sum(dim=1))
    return torch.cat(parts).to(x.dtype)
