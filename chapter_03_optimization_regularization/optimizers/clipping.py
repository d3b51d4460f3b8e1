"""Gradients made shorter before the step: number by number, all together, or row by row against the weights.
更新之前截断梯度：逐个数值、按整体范数，或逐行相对于权重。

Each function changes the gradients in place, after `backward` and before the optimizer's `step`.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from utils.errors import UserError


@torch.no_grad()
def clip_by_value_(parameters: Iterable[Tensor], limit: float) -> None:
    """Bring each number of the gradients into [-limit, limit]. The gradient's direction changes."""
    _check_not_negative("limit", limit)
    for g in _gradients(parameters):
        g.clamp_(-limit, limit)


@torch.no_grad()
def clip_by_norm_(parameters: Iterable[Tensor], max_norm: float, check: bool = True) -> Tensor:
    """Scale all gradients alike so that their common norm is at most `max_norm`; return the norm before.

    The direction stays (Pascanu et al. 2013, algorithm 1). Without `check` a norm that is not finite spreads NaN to the
    weights, and so to the loss; on a GPU this saves waiting for the norm.

    Raises:
        UserError: the norm is NaN or infinite; the gradients are left alone.
        ValueError: `max_norm` is negative, which would turn the gradients round.
    """
    _check_not_negative("max_norm", max_norm)
    gradients = _gradients(parameters)
    if not gradients:
        return torch.tensor(0.0)
    norm = torch.stack(torch._foreach_norm(gradients)).norm()  # `_foreach`: on a GPU one kernel for all tensors
    if check and not math.isfinite(norm):
        raise UserError(f"the norm of the gradients became {norm.item()}: start again with a lower --lr")
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # 1e-6 as in PyTorch: a gradient of 0 stays 0
    torch._foreach_mul_(gradients, scale)
    return norm


@torch.no_grad()
def clip_adaptive_(parameters: Iterable[Tensor], ratio: float = 0.01, eps: float = 1e-3) -> None:
    """Keep each unit's gradient no longer than `ratio` times its weights (Brock et al. 2021, eq. 3).

    The step relative to the weights is what counts, so one limit fits all layers. `eps` lets weights that start at 0
    move. The paper leaves the last layer out.
    """
    _check_not_negative("ratio", ratio)
    for p in parameters:
        if p.grad is not None:
            limit = unit_norms(p).clamp(min=eps) * ratio
            p.grad.mul_((limit / unit_norms(p.grad)).clamp(max=1.0))  # 0 / 0 cannot be: the limit is positive


def unit_norms(tensor: Tensor) -> Tensor:
    """Return the norm of each output unit's weights, shaped to broadcast; a vector (biases, gains) is one unit."""
    over = tuple(range(1, tensor.ndim)) if tensor.ndim > 1 else None
    return torch.linalg.vector_norm(tensor, dim=over, keepdim=True)


def _check_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} is at least 0, not {value}")


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]
