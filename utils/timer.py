"""Measuring time so that a comparison holds on a noisy machine.
在负载波动的机器上可靠地计时。
"""

import time
from collections.abc import Callable
from statistics import median

import torch


class Timer:
    """A running clock. Kept in a training state, it goes on from the time that an interrupted run had taken."""

    def __init__(self):
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._start = time.perf_counter() - state["seconds"]


def compare_times(candidates: dict[str, Callable[[], object]], rounds: int = 20, warmup: int = 3) -> dict[str, float]:
    """Return each candidate's median seconds a call, all of them run in turn: A B C A B C ...

    Taking turns makes a slow moment of the machine hit every candidate alike, so the ratios hold.
    """
    seconds = {name: [] for name in candidates}
    for turn in range(warmup + rounds):
        for name, call in candidates.items():
            timer = Timer()
            call()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            if turn >= warmup:
                seconds[name].append(timer.seconds)
    return {name: median(values) for name, values in seconds.items()}
