"""Adam and AdamW, and what was made of them: momentum, divided by the size of past gradients.
Adam、AdamW 及其变体：动量除以历史梯度的大小。

The running means m and v start at zero and are therefore too small at first: 1 - beta^t of what they should be after t
steps. Dividing by that makes up for it.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from chapter_03_optimization_regularization.optimizers.base import Optimizer, buffer, next_step

Betas = tuple[float, float]


def adamw_step(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, *, lr: float, betas: Betas, eps: float, weight_decay: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return p, m and v after step t = 1, 2, ... with the gradient g (Loshchilov and Hutter 2019, algorithm 2).

    This is the definition. `AdamW` computes the same in place, in fewer passes over the memory.
    """
    beta1, beta2 = betas
    p = p - lr * weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    p = p - lr * m_hat / (v_hat.sqrt() + eps)
    return p, m, v


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
        maximize: bool = False,
    ):
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize
        )

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        if self.decoupled:
            p.mul_(1 - lr * group["weight_decay"])
        else:
            g = self.with_l2(p, g, group)
        step, m, v = update_moments_(p, g, state, group["betas"])
        if group["amsgrad"]:
            largest = buffer(state, "largest", p)
            v = torch.maximum(largest, v, out=largest)
        # m_hat / (sqrt(v_hat) + eps), both halves of the fraction times the root of v's correction: a pass less over v
        correction = (1 - beta2**step) ** 0.5
        denominator = self.denominator(p, v, group["eps"] * correction)
        p.addcdiv_(m, denominator, value=-lr * correction / (1 - beta1**step))


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
        maximize: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize)


class Adamax(Optimizer):
    """Adam divided by the largest recent |g|, slowly forgotten, in place of sqrt(v) (Kingma and Ba 2015, alg. 2)."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, step, (beta1, beta2) = self.with_l2(p, g, group), next_step(state), group["betas"]
        m = buffer(state, "m", p).lerp_(g, 1 - beta1)
        largest = buffer(state, "largest", p).mul_(beta2)
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
        maximize: bool = False,
    ):
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
            maximize=maximize,
        )

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, lr, (beta1, beta2) = self.with_l2(p, g, group), group["lr"], group["betas"]
        step, m, v = update_moments_(p, g, state, group["betas"])
        mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1))
        product = state["mu_product"] = state.get("mu_product", 1.0) * mu
        correction = (1 - beta2**step) ** 0.5
        denominator = self.denominator(p, v, group["eps"] * correction)
        p.addcdiv_(g, denominator, value=-lr * correction * (1 - mu) / (1 - product))
        p.addcdiv_(m, denominator, value=-lr * correction * mu_next / (1 - product * mu_next))


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
        maximize: bool = False,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        g, (beta1, beta2) = self.with_l2(p, g, group), group["betas"]
        step, m, v = update_moments_(p, g, state, group["betas"])
        lr = group["lr"] / (1 - beta1**step)
        last = 2 / (1 - beta2) - 1
        rho = last - 2 * step * beta2**step / (1 - beta2**step)
        if rho <= 5:
            p.add_(m, alpha=-lr)
        else:
            r = ((rho - 4) * (rho - 2) * last / ((last - 4) * (last - 2) * rho)) ** 0.5
            p.addcdiv_(m, self.denominator(p, v, group["eps"]), value=-lr * r * (1 - beta2**step) ** 0.5)


def update_moments_(p: Tensor, g: Tensor, state: dict, betas: Betas) -> tuple[int, Tensor, Tensor]:
    """Update and return the step's number, from 1, and the running means of g and g^2."""
    m = buffer(state, "m", p).lerp_(g, 1 - betas[0])
    v = buffer(state, "v", p).mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])  # last: its root comes next
    return next_step(state), m, v
