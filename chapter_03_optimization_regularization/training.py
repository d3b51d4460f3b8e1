"""What the chapter's experiments share: parameter groups, a short training, and measuring.
本章各实验共用的部分：参数分组、一次短训练、评测。
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_03_optimization_regularization.dataset import to_input
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, Muon, Optimizer
from chapter_03_optimization_regularization.optimizers.schedules import Factor, Schedule
from utils.device import autocast


def make_optimizers(model: nn.Module, name: str, lr: float, weight_decay: float, **options: object) -> list[Optimizer]:
    """Return the optimizer called `name` for the model: one, or two for "muon".

    Weights decay, biases and norms' parameters do not. Muon takes the hidden layers' matrices, at AdamW's scale, and
    AdamW at the same rate what is left.
    """
    matrices = [p for p in model.parameters() if p.squeeze().ndim >= 2]  # a norm's (C, 1, 1) is none
    vectors = [p for p in model.parameters() if p.squeeze().ndim < 2]
    if name == "muon":
        head = {id(p) for p in model.head.parameters()}
        hidden = [p for p in matrices if id(p) not in head]
        rest = [{"params": [p for p in matrices if id(p) in head]}, {"params": vectors, "weight_decay": 0.0}]
        muon = Muon(hidden, lr=lr, weight_decay=weight_decay, match_rms=True, **options)
        return [muon, OPTIMIZERS["adamw"](rest, lr=lr, weight_decay=weight_decay)]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return [OPTIMIZERS[name](groups, lr=lr, weight_decay=weight_decay, **options)]


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizers: list[Optimizer],
    factor: Factor,
    steps: int,
    batch_size: int,
    amp: str = "off",
    augment: Callable[[Tensor], Tensor] = lambda images: images,
    loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
    to_input: Callable[[Tensor], Tensor] = to_input,
) -> list[float]:
    """Train for so many steps, in memory, and return each step's loss; stop early where it is not finite.

    Args:
        images, labels: (N, C, H, W), uint8, and (N,). Every pass over them is in a new order; short batches are
            left out.
        factor: of the learning rates, by step.
        loss_of: the loss for (model, inputs, labels); by default the cross-entropy.
        to_input: makes the network's inputs of augmented pictures; by default for grey ones.
    """
    loss_of = loss_of or (lambda model, x, y: cross_entropy(model(x).float(), y))
    schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
    model.train()
    losses, order = [], images.new_empty(0)
    for _ in range(steps):
        if len(order) < batch_size:
            order = torch.randperm(len(labels), device=labels.device)
        index, order = order[:batch_size], order[batch_size:]
        with autocast(images.device, amp):
            loss = loss_of(model, to_input(augment(images[index])), labels[index])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        losses.append(loss.item())
        if not losses[-1] < float("inf"):
            break
    return losses


@torch.no_grad()
def probabilities(
    model: nn.Module,
    images: Tensor,
    amp: str = "off",
    views: int = 1,
    to_input: Callable[[Tensor], Tensor] = to_input,
) -> Tensor:
    """Return class probabilities (N, K) in eval mode; with two `views` the mean over each picture and its mirror."""
    model.eval()
    parts = []
    for part in images.split(500):
        seen = [part, part.flip(-1)][:views]
        with autocast(images.device, amp):
            parts.append(sum(model(to_input(view)).float().softmax(dim=1) for view in seen) / views)
    return torch.cat(parts)


def score(p: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the accuracy and the mean cross-entropy (nats) of class probabilities (N, K)."""
    right = (p.argmax(dim=1) == labels).float().mean().item()
    surprise = -p[torch.arange(len(p)), labels].clamp(min=1e-12).log().mean().item()
    return right, surprise
