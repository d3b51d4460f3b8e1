"""The most memory that a computation held at once, and timing without the system's share of it.
一段计算同时占用的最大内存；以及计时时不计系统分配内存的开销。
"""

import ctypes
import sys
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


def keep_freed_memory() -> None:
    """Have this process keep the memory that it frees; Linux's C library alone can be told so.

    Else a large tensor's pages go back to the system when it is freed, and come anew, page by page, with the next one:
    on long sequences a benchmark would time that as well.
    """
    trim_threshold, mmap_max = -1, -4  # their numbers in malloc.h
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(mmap_max, 0)  # nothing is too large for the heap,
        library.mallopt(trim_threshold, -1)  # which never shrinks
