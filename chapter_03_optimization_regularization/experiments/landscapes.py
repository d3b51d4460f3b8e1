"""Four hills on which an optimizer's path can be seen: a bent valley, a plateau, a ravine and a saddle.
四种地形，用来观察优化器走出的路径：弯曲的山谷、平坦的高原、狭长的沟壑和鞍部。

Each has an x of shape (..., 2), a lowest value of 0, and a difficulty of its own.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from chapter_03_optimization_regularization.optimizers.base import Optimizer

REST = 1e-6  # every landscape's lowest value is 0


def rosenbrock(x: Tensor) -> Tensor:
    """(1 - x)^2 + 100 (y - x^2)^2: steep walls, and a bent floor that hardly falls (Rosenbrock 1960)."""
    x, y = x.unbind(dim=-1)
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def beale(x: Tensor) -> Tensor:
    """A plateau in the middle, walls of thousands in the corners, and the minimum at the end of a flat valley."""
    x, y = x.unbind(dim=-1)
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def ravine(condition: float = 50.0, degrees: float = 30.0) -> Callable[[Tensor], Tensor]:
    """Return (u^2 + condition v^2) / 2, with the floor's direction u turned by so many degrees from the x axis.

    At 0 degrees a step size for each coordinate undoes the condition number. At other angles it cannot.
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def function(x: Tensor) -> Tensor:
        x, y = x.unbind(dim=-1)
        return ((cos * x + sin * y) ** 2 + condition * (cos * y - sin * x) ** 2) / 2

    return function


def saddle(x: Tensor) -> Tensor:
    """(x^2 - 1)^2 / 4 + 10 y^2: two minima, and between them a pass at 0, where the gradient vanishes too."""
    x, y = x.unbind(dim=-1)
    return (x**2 - 1) ** 2 / 4 + 10 * y**2


@dataclass(frozen=True)
class Landscape:
    function: Callable[[Tensor], Tensor]
    start: tuple[float, float]
    minimum: tuple[float, float]  # where the function is 0; the saddle's other one mirrors it
    window: tuple[float, float, float, float]  # what to draw: left, right, bottom, top


LANDSCAPES = {
    "rosenbrock": Landscape(rosenbrock, (-1.4, 1.5), (1.0, 1.0), (-1.9, 1.9, -0.7, 2.4)),
    "beale": Landscape(beale, (0.7, 1.7), (3.0, 0.5), (-0.8, 4.2, -1.2, 2.1)),
    "ravine": Landscape(ravine(), (-3.2, -0.6), (0.0, 0.0), (-4.0, 1.6, -2.6, 1.2)),
    "saddle": Landscape(saddle, (0.02, 0.8), (1.0, 0.0), (-0.6, 1.6, -0.7, 0.95)),
}


def trajectory(
    function: Callable[[Tensor], Tensor],
    start: Iterable[float],
    make_optimizer: Callable[[list[Tensor]], Optimizer],
    steps: int,
) -> Tensor:
    """Return the points (steps + 1, len(start)), float64, that an optimizer visits; the first is `start`."""
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = make_optimizer([x])
    path = [x.detach().clone()]
    for _ in range(steps):
        # forward, backward
        optimizer.zero_grad()
        function(x).backward()
        # step
        optimizer.step()
        # log
        path.append(x.detach().clone())
    return torch.stack(path)


def sweep(
    function: Callable[[Tensor], Tensor],
    start: Iterable[float],
    make_optimizer: Callable[..., Optimizer],
    rates: list[float],
    steps: int,
) -> Tensor:
    """Return the `trajectory` of each learning rate: (len(rates), steps + 1, len(start)). All run at once."""
    points = [torch.tensor(start, dtype=torch.float64, requires_grad=True) for _ in rates]
    groups = [{"params": [x], "lr": rate} for x, rate in zip(points, rates, strict=True)]
    optimizer = make_optimizer(groups, lr=1.0)
    paths = [torch.stack(points).detach()]
    for _ in range(steps):
        # forward, backward
        optimizer.zero_grad()
        function(torch.stack(points)).sum().backward()  # a run that has gone to infinity leaves the others alone
        # step
        optimizer.step()
        # log
        paths.append(torch.stack(points).detach())
    return torch.stack(paths, dim=1)


def quickest(
    landscape: Landscape, make_optimizer: Callable[..., Optimizer], rates: list[float], steps: int, inside: bool = False
) -> dict:
    """Try every rate, and return the run that is first to rest; if none does, the one that stays lowest in the end.

    Args:
        inside: take only runs that never leave the landscape's window.

    Returns:
        lr; steps, from when on it is `at_rest`, or None; height, the highest value of its last tenth; values
        (steps + 1,) and path (steps + 1, 2).
    """
    left, right, bottom, top = landscape.window
    low, high = torch.tensor([left, bottom]), torch.tensor([right, top])
    found = []
    for lr, path in zip(rates, sweep(landscape.function, landscape.start, make_optimizer, rates, steps), strict=True):
        if inside and not ((low <= path) & (path <= high)).all():
            continue
        values = landscape.function(path).nan_to_num(nan=math.inf)
        height = values[-max(1, steps // 10) :].max().item()
        found.append({"lr": lr, "steps": at_rest(values), "height": height, "values": values, "path": path})
    return min(found, key=lambda run: (math.inf if run["steps"] is None else run["steps"], run["height"]))


def at_rest(values: Tensor) -> int | None:
    """Return the first step from which on all values are below REST; None if the last tenth is not among them."""
    above = (~(values < REST)).nonzero()  # NaN is not below
    first = int(above[-1]) + 1 if len(above) else 0
    return first if first <= 0.9 * len(values) else None
