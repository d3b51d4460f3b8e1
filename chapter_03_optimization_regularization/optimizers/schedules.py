"""Learning rates that change during training, and a search for the rate to start from.
随训练变化的学习率，以及寻找合适学习率的方法。

A schedule is a function from the step, counted from 0, to the share of the peak rate that this step gets.
"""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from utils.seed import rng_state, set_rng_state

Factor = Callable[[int], float]


def _progress(step: float, total: float) -> float:
    """From 0 at step 0 to 1 at step `total`, and 1 ever after."""
    return step / total if step < total else 1.0


def _ease(start: float, end: float, progress: float) -> float:
    """Go from `start` to `end` along half a cosine wave: slow at both ends, fast between."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def step_decay(every: int, gamma: float = 0.1) -> Factor:
    """gamma^floor(step / every)."""
    return lambda step: gamma ** (step // every)


def exponential(gamma: float) -> Factor:
    """gamma^step."""
    return lambda step: gamma**step


def cosine(total: int, floor: float = 0.0) -> Factor:
    """Fall along half a cosine wave to `floor`, and stay there (Loshchilov and Hutter 2017, eq. 5)."""
    return lambda step: _ease(1.0, floor, _progress(step, total))


def warm_restarts(first: int, growth: int = 1, floor: float = 0.0) -> Factor:
    """Cosines one after another, the first of `first` steps, each next one `growth` times as long (the same eq. 5)."""
    if first < 1 or growth < 1:
        raise ValueError("a cycle takes at least one step, and the next is no shorter")

    def factor(step: int) -> float:
        length = first
        while step >= length:
            step, length = step - length, length * growth
        return _ease(1.0, floor, step / length)

    return factor


def one_cycle(total: int, warmup_share: float = 0.3, start: float = 0.04, end: float = 4e-6) -> Factor:
    """Rise from `start` to the peak during a share of the steps, then fall to `end` (Smith and Topin 2018)."""
    peak, last = warmup_share * total - 1, total - 1

    def factor(step: int) -> float:
        if step < peak:
            return _ease(start, 1.0, step / peak)
        return _ease(1.0, end, _progress(step - peak, last - peak))

    return factor


def warmup_stable_decay(total: int, warmup_share: float = 0.05, decay_share: float = 0.2, floor: float = 0.0) -> Factor:
    """Rise in a straight line, stay, fall in one to `floor` (Hu et al. 2024), for such shares of `total`.

    A run can be prolonged from any point before its fall.
    """
    warmup_steps, decay_steps = round(warmup_share * total), round(decay_share * total)
    stay = total - warmup_steps - decay_steps
    return warmup(
        lambda step: 1.0 if step < stay else 1 - (1 - floor) * _progress(step - stay, decay_steps), warmup_steps
    )


def inverse_sqrt(scale: int) -> Factor:
    """sqrt(scale / (scale + step)): after `scale` steps of warmup the Transformer's (Vaswani et al. 2017, eq. 3)."""
    return lambda step: math.sqrt(scale / (scale + step))


def warmup(factor: Factor, steps: int, start: float | None = None) -> Factor:
    """Rise in a straight line from `start` for so many steps, and only then begin with `factor`.

    Without `start` the first step gets 1 / (steps + 1) of the rate: a step at rate 0 would be wasted.
    """
    first = 1 / (steps + 1) if start is None else start
    return lambda step: first + (1 - first) * step / steps if step < steps else factor(step - steps)


SCHEDULES: dict[str, Callable[[int], Factor]] = {  # for flags: each takes the number of steps
    "constant": lambda total: lambda step: 1.0,
    "step": lambda total: step_decay(max(math.ceil(total / 3), 1)),  # two drops
    "exponential": lambda total: exponential(0.01 ** (1 / max(total, 1))),  # to a hundredth
    "cosine": cosine,
    "warm_restarts": lambda total: warm_restarts(max(math.ceil(total / 7), 1), growth=2),  # 1 + 2 + 4 sevenths
    "one_cycle": one_cycle,
    "warmup_stable_decay": warmup_stable_decay,
    "inverse_sqrt": lambda total: inverse_sqrt(max(total // 20, 1)),  # the last step gets about 0.22
}


class Schedule:
    """Multiplies each group's rate, as it was given, by `factor(step)`. Works for our optimizers and for PyTorch's.

    Call `step` after each step of the optimizer (or after each epoch, if `factor` counts those).
    """

    def __init__(self, optimizer, factor: Factor):
        self.optimizer, self.factor = optimizer, factor
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.done = 0
        self._set_rates()

    def step(self) -> None:
        self.done += 1
        self._set_rates()

    def _set_rates(self) -> None:
        share = self.factor(self.done)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * share

    def state_dict(self) -> dict:
        return {"done": self.done, "peaks": self.peaks}

    def load_state_dict(self, saved: dict) -> None:
        self.done, self.peaks = saved["done"], list(saved["peaks"])
        self._set_rates()


class RateSearch(NamedTuple):
    rates: list[float]
    losses: list[float]  # smoothed
    suggestion: float


def find_learning_rate(
    model: nn.Module,
    optimizer,
    loss_of: Callable[[nn.Module], Tensor],
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
) -> RateSearch:
    """Train while the rate rises from `low` to `high` by equal factors, until the loss explodes (Smith 2017).

    `loss_of` draws a batch and returns the model's loss on it, a positive number. Suggested is a tenth of the rate at
    which the smoothed loss was lowest. The rate is the first group's; others keep their ratio to it. A copy is trained:
    model, optimizer and PyTorch's generators stay as they were.
    """
    model, optimizer = copy.deepcopy((model, optimizer))  # in one go, so that the copies belong together
    now = optimizer.param_groups[0]["lr"]
    schedule = Schedule(optimizer, lambda step: low * (high / low) ** (step / (steps - 1)) / now)
    generators = rng_state()
    rates, losses, average = [], [], 0.0
    try:
        for step in range(1, steps + 1):
            # batch, forward, loss
            loss = loss_of(model)
            # log
            average = smoothing * average + (1 - smoothing) * loss.item()
            smooth = average / (1 - smoothing**step)  # as if the average had not begun at 0
            if not math.isfinite(smooth) or smooth > 4 * min(losses, default=smooth):
                break
            rates.append(optimizer.param_groups[0]["lr"])
            losses.append(smooth)
            # backward
            optimizer.zero_grad()
            loss.backward()
            # step
            optimizer.step()
            schedule.step()
    finally:
        set_rng_state(generators)
    if not losses:
        raise ValueError(f"the loss is {smooth} before the first step")
    return RateSearch(rates, losses, rates[losses.index(min(losses))] / 10)
