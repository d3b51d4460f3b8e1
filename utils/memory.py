"""The most memory that a computation held at once.
一段计算同时占用的最大内存。
"""

from collections.abc import Callable
from itertools import accumulate

import torch


def torch_peak(call: Callable[[], object]) -> int:
    """Return the bytes that `call` held on the CPU at its worst moment, beyond what PyTorch held before.

    They come from the profiler's record of every allocation and release.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate((e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns())), initial=0))
