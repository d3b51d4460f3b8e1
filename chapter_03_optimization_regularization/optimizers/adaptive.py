"""Optimizers that give every weight a step size of its own, from the size of its past gradients.
自适应优化器：根据历史梯度的大小，为每个权重单独调整步长。

All divide by a measure of how large past gradients were; they differ in how the past is averaged, and in what they
divide. The running means m and v start at zero and are therefore too small at first: 1 - beta^t of what they should be
after t steps. Dividing by that makes up for it.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from chapter_03_optimization_regularization.optimizers.base import Optimizer, remembered

Betas = tuple[float, float]


class Adagrad(Optimizer):
    """s <- s + g^2, p <- p - lr g / sqrt(s): steps only ever shrink (Duchi et al. 2011)."""

    def __init__(
        self, params: Iterable, lr: float = 0.01, lr_decay: float = 0.0, weight_decay: float = 0.0, eps: float = 1e-10
    ):
        super().__init__(params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, step = self.with_l2(p, g, group), count(state)
        total = remembered(state, "sum", p).addcmul_(g, g)
        lr = group["lr"] / (1 + (step - 1) * group["lr_decay"])
        p.addcdiv_(g, self.root(p, total, group["eps"]), value=-lr)


class Adadelta(Optimizer):
    """Scale the gradient by rms(past steps) / rms(past gradients), so that steps carry p's unit (Zeiler 2012)."""

    def __init__(
        self, params: Iterable, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0
    ):
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, rho, eps = self.with_l2(p, g, group), group["rho"], group["eps"]
        square, step_square = remembered(state, "square", p), remembered(state, "step_square", p)
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
    ):
        super().__init__(
            params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered
        )

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, alpha = self.with_l2(p, g, group), group["alpha"]
        square = remembered(state, "square", p).mul_(alpha).addcmul_(g, g, value=1 - alpha)
        if group["centered"]:
            mean = remembered(state, "mean", p).lerp_(g, 1 - alpha)
            square = torch.addcmul(square, mean, mean, value=-1, out=self.scratch(p, "variance"))
        root = self.root(p, square, group["eps"])
        if group["momentum"] == 0:
            p.addcdiv_(g, root, value=-group["lr"])
        else:
            velocity = remembered(state, "velocity", p).mul_(group["momentum"]).addcdiv_(g, root)
            p.add_(velocity, alpha=-group["lr"])


class Adam(Optimizer):
    """p <- p - lr m_hat / (sqrt(v_hat) + eps), m and v being running means of g and g^2 (Kingma and Ba 2015, alg. 1).

    `amsgrad` divides by the largest v so far, so that a rare large gradient is not forgotten (Reddi et al. 2018).
    Weight decay is L2: it passes through the moments like a gradient. AdamW's does not.
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        if not self.decoupled:
            g = self.with_l2(p, g, group)
        step, m, v = moments(p, g, state, group["betas"])
        if group["amsgrad"]:
            largest = remembered(state, "largest", p)
            v = torch.maximum(largest, v, out=largest)
        correction = (1 - beta2**step) ** 0.5
        root = self.root(p, v, group["eps"] * correction)  # sqrt(v_hat) + eps, times the correction
        kept = 1 - lr * group["weight_decay"] if self.decoupled else 1.0
        if kept == 0:  # nothing is kept, and a division by it would be one by zero
            p.zero_()
            kept = 1.0
        p.addcdiv_(m, root, value=-lr * correction / (1 - beta1**step) / kept)
        if kept != 1:
            p.mul_(kept)  # last, while p is in the cache; the step has been divided by it


class AdamW(Adam):
    """Adam whose weight decay shrinks p directly, by lr * weight_decay a step (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)


class Adamax(Optimizer):
    """Adam divided by the largest recent |g|, slowly forgotten, in place of sqrt(v) (Kingma and Ba 2015, alg. 2)."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, step, (beta1, beta2) = self.with_l2(p, g, group), count(state), group["betas"]
        m = remembered(state, "m", p).lerp_(g, 1 - beta1)
        largest = remembered(state, "largest", p).mul_(beta2)
        torch.maximum(largest, torch.abs(g, out=self.scratch(p, "size")).add_(group["eps"]), out=largest)
        p.addcdiv_(m, largest, value=-group["lr"] / (1 - beta1**step))


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead, and a momentum mu_t that warms up to beta1 (Dozat 2016)."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, lr, (beta1, beta2) = self.with_l2(p, g, group), group["lr"], group["betas"]
        step, m, v = moments(p, g, state, group["betas"])
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1))
        product = state["mu_product"] = state.get("mu_product", 1.0) * mu
        correction = (1 - beta2**step) ** 0.5
        root = self.root(p, v, group["eps"] * correction)
        p.addcdiv_(g, root, value=-lr * correction * (1 - mu) / (1 - product))
        p.addcdiv_(m, root, value=-lr * correction * mu_next / (1 - product * mu_next))


class RAdam(Optimizer):
    """Adam that waits until v can be trusted: plain momentum at first, then steps scaled by r_t (Liu et al. 2020).

    v is an average of about rho_t squares; with 4 of them or fewer the step's variance is unbounded. PyTorch waits for
    more than 5, and so does this. After that r_t evens the variance out.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, (beta1, beta2) = self.with_l2(p, g, group), group["betas"]
        step, m, v = moments(p, g, state, group["betas"])
        lr = group["lr"] / (1 - beta1**step)
        last = 2 / (1 - beta2) - 1
        rho = last - 2 * step * beta2**step / (1 - beta2**step)
        if rho <= 5:
            p.add_(m, alpha=-lr)
        else:
            r = ((rho - 4) * (rho - 2) * last / ((last - 4) * (last - 2) * rho)) ** 0.5
            p.addcdiv_(m, self.root(p, v, group["eps"]), value=-lr * r * (1 - beta2**step) ** 0.5)


def count(state: dict) -> int:
    """Return the number of this parameter's step, from 1."""
    state["step"] = state.get("step", 0) + 1
    return state["step"]


def moments(p: Tensor, g: Tensor, state: dict, betas: Betas) -> tuple[int, Tensor, Tensor]:
    """Update and return the step's number and the running means of g and g^2."""
    v = remembered(state, "v", p).mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    m = remembered(state, "m", p).lerp_(g, 1 - betas[0])  # g is still in the cache
    return count(state), m, v
