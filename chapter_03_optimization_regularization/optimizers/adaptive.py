"""Optimizers that give every weight a step size of its own, from the size of its past gradients.
自适应优化器：根据历史梯度的大小，为每个权重单独调整步长。

All divide by a measure of how large past gradients were; they differ in how the past is averaged, and in what they
divide. Adam, which divides a mean of the gradients, and its relatives are in `adam.py`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from chapter_03_optimization_regularization.optimizers.base import Optimizer, buffer, next_step


class Adagrad(Optimizer):
    """s <- s + g^2, p <- p - lr g / sqrt(s): steps only ever shrink (Duchi et al. 2011)."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
    ):
        super().__init__(params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps, maximize=maximize)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, step = self.with_l2(p, g, group), next_step(state)
        total = buffer(state, "sum", p).addcmul_(g, g)
        lr = group["lr"] / (1 + (step - 1) * group["lr_decay"])
        p.addcdiv_(g, self.denominator(p, total, group["eps"]), value=-lr)


class Adadelta(Optimizer):
    """Scale the gradient by rms(past steps) / rms(past gradients), so that steps carry p's unit (Zeiler 2012)."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ):
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, rho, eps = self.with_l2(p, g, group), group["rho"], group["eps"]
        square, step_square = buffer(state, "square", p), buffer(state, "step_square", p)
        square.mul_(rho).addcmul_(g, g, value=1 - rho)
        step = torch.add(step_square, eps, out=self.scratch(p, "step"))
        step.div_(torch.add(square, eps, out=self.scratch(p, "square"))).sqrt_().mul_(g)
        step_square.mul_(rho).addcmul_(step, step, value=1 - rho)
        p.add_(step, alpha=-group["lr"])


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) g^2, p <- p - lr g / sqrt(v) (Tieleman and Hinton 2012).

    `centered` subtracts the squared mean gradient from v, which leaves the variance (Graves 2013); `momentum` runs over
    the scaled gradients.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
    ):
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
        )

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, alpha = self.with_l2(p, g, group), group["alpha"]
        square = buffer(state, "square", p).mul_(alpha).addcmul_(g, g, value=1 - alpha)
        if group["centered"]:
            mean = buffer(state, "mean", p).lerp_(g, 1 - alpha)
            square = torch.addcmul(square, mean, mean, value=-1, out=self.scratch(p, "variance"))
        denominator = self.denominator(p, square, group["eps"])
        if group["momentum"] == 0:
            p.addcdiv_(g, denominator, value=-group["lr"])
        else:
            velocity = buffer(state, "velocity", p).mul_(group["momentum"]).addcdiv_(g, denominator)
            p.add_(velocity, alpha=-group["lr"])
