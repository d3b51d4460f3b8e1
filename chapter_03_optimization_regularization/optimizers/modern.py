"""Three optimizers that look at more than single numbers: the sign, the matrix, the neighbourhood.
三种不只看单个数值的优化器：看符号的 Lion，看矩阵的 Muon，看邻域的 SAM。
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from chapter_03_optimization_regularization.optimizers.base import Optimizer, buffer


class Lion(Optimizer):
    """p <- p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p), m <- beta2 m + (1 - beta2) g (Chen et al. 2023).

    Every weight moves by lr, whatever its gradient's size: take a third to a tenth of AdamW's lr, and its weight decay
    that many times larger.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        maximize: bool = False,
    ):
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        m, (beta1, beta2) = buffer(state, "m", p), group["betas"]
        direction = torch.lerp(m, g, 1 - beta1, out=self.scratch(p, "step")).sign_()
        p.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
        m.lerp_(g, 1 - beta2)


class Muon(Optimizer):
    """Momentum whose step is made orthogonal: all directions of a weight matrix move equally far (Jordan et al. 2024).

    For hidden layers' matrices (convolutions count as (C_out, everything else)); biases, embeddings and the head belong
    to AdamW. `match_rms` scales steps to the size of AdamW's (Liu et al. 2025), so that its learning rates fit;
    otherwise steps grow by sqrt(rows / columns) for tall matrices.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        match_rms: bool = False,
        maximize: bool = False,
    ):
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            match_rms=match_rms,
            maximize=maximize,
        )

    def add_param_group(self, group: dict) -> None:
        group = group | {"params": list(group["params"])}
        if any(p.ndim < 2 for p in group["params"]):
            raise ValueError("Muon is for matrices: give vectors to another optimizer")
        super().add_param_group(group)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        v = buffer(state, "velocity", p).lerp_(g, 1 - group["momentum"])
        step = torch.lerp(g, v, group["momentum"], out=self.scratch(p, "step")) if group["nesterov"] else v
        step = orthogonalize(step.flatten(1)).view(p.shape)  # as (rows, columns), and back
        rows, columns = p.shape[0], p[0].numel()
        scale = 0.2 * max(rows, columns) ** 0.5 if group["match_rms"] else max(1.0, rows / columns) ** 0.5
        p.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-group["lr"] * scale)


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return about U V^T for a `matrix` U S V^T, in bfloat16: each singular value is brought near 1.

    Newton-Schulz: x <- a x + b (x x^T) x + c (x x^T)^2 x acts on each singular value alone, as
    s <- a s + b s^3 + c s^5. These coefficients push small ones up fast: after five steps all from 0.003 of the
    matrix's norm on lie between 0.68 and 1.21 (Jordan et al. 2024).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x  # the product x x^T is then the smaller one
    x = x / x.norm().clamp(min=1e-7)  # no singular value exceeds 1
    for _ in range(steps):
        gram = x @ x.T  # (rows, rows)
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class SAM:
    """Sharpness-aware minimisation: step by the gradient at the worst point nearby (Foret et al. 2021, algorithm 1).

    Wraps another optimizer. The worst point within distance `rho` is, to first order, p + rho g / |g|, with the norm
    over all parameters. Costs a second forward and backward pass.
    """

    def __init__(self, optimizer: Optimizer, rho: float = 0.05):
        if not 0 <= rho < math.inf:
            raise ValueError(f"rho is a distance, not {rho}")
        self.optimizer, self.rho = optimizer, rho
        self.param_groups = optimizer.param_groups  # for schedules

    def step(self, loss_and_backward: Callable[[], Tensor]) -> Tensor:
        """Climb, differentiate again, come back and step; return the loss up there.

        Before it the gradients at p must be in place. `loss_and_backward` clears them, computes the loss of the same
        batch and calls backward.

        Raises:
            ValueError: no parameter has a gradient.
        """
        starts = {p: p.detach().clone() for p in self.optimizer.state if p.grad is not None}
        if not starts:
            raise ValueError("SAM climbs along the gradient at p: call backward before step")
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in starts]).norm()
            for group in self.param_groups:
                distance = -self.rho if group["maximize"] else self.rho  # where most is best, the worst lies below
                for p in group["params"]:
                    if p in starts:
                        p.add_(p.grad * (distance / (norm + 1e-12)))
        loss = loss_and_backward()
        with torch.no_grad():
            for p, start in starts.items():
                p.copy_(start)
        self.optimizer.step()
        return loss

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def state_dict(self) -> dict:
        return self.optimizer.state_dict()

    def load_state_dict(self, saved: dict) -> None:
        self.optimizer.load_state_dict(saved)
