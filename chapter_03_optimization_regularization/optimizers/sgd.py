"""Gradient descent, plain, with momentum, and with Nesterov's look ahead.
梯度下降：朴素版、动量版，以及 Nesterov 的前瞻版。
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from chapter_03_optimization_regularization.optimizers.base import Optimizer


class SGD(Optimizer):
    """v <- momentum v + (1 - dampening) g, then p <- p - lr v (Polyak 1964; Sutskever et al. 2013).

    v starts as the first gradient. With `nesterov` the step is g + momentum v: the gradient is taken as if v's next
    move had already been made.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ):
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            nesterov=nesterov,
            weight_decay=weight_decay,
            maximize=maximize,
        )

    def add_param_group(self, group: dict) -> None:
        settings = self.defaults | group
        if settings["nesterov"] and (settings["momentum"] <= 0 or settings["dampening"] != 0):
            raise ValueError("nesterov needs a momentum, and no dampening")
        super().add_param_group(group)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g = self.with_l2(p, g, group)
        if group["momentum"] != 0:
            v, momentum = state.get("velocity"), group["momentum"]
            if v is None:
                v = state["velocity"] = g.clone()
            elif group["dampening"] == 0 and v.element_size() > 2:  # alpha is rounded: 0.9 to 0.8984 in bfloat16
                torch.add(g, v, alpha=momentum, out=v)  # one pass over the memory where mul_ and add_ take two
            else:
                v.mul_(momentum).add_(g, alpha=1 - group["dampening"])
            g = torch.add(g, v, alpha=momentum, out=self.scratch(p, "step")) if group["nesterov"] else v
        p.add_(g, alpha=-group["lr"])
