"""What the chapter's experiments share: parameter groups, a short training, and measuring.
本章各实验共用的部分：参数分组、一次短训练、评测。
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, Muon, Optimizer
from chapter_03_optimization_regularization.optimizers.schedules import Factor, Schedule
from utils.device import autocast
from utils.evaluating import evaluating
from utils.shape_checks import check_labels


def make_optimizers(model: nn.Module, name: str, lr: float, weight_decay: float, **options: object) -> list[Optimizer]:
    """Return the optimizer called `name` for the model: one, or two for "muon".

    Weights decay, biases and norms' parameters do not. Muon takes the hidden layers' matrices, at AdamW's scale, and
    AdamW at the same rate what is left: `model.head`, embeddings, and all that is no matrix.
    """
    matrices = [p for p in model.parameters() if p.squeeze().ndim >= 2]  # a norm's (C, 1, 1) is none
    vectors = [p for p in model.parameters() if p.squeeze().ndim < 2]
    if name == "muon":
        outer = [model.head, *(module for module in model.modules() if isinstance(module, nn.Embedding))]
        head = {id(p) for module in outer for p in module.parameters()}
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
    *,
    to_input: Callable[[Tensor], Tensor],
    augment: Callable[[Tensor], Tensor] = lambda images: images,
    loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
    after_step: Callable[[int], bool | None] | None = None,
) -> list[float]:
    """Train for so many steps, in memory, and return each step's loss; stop early where it is not finite.

    Args:
        images, labels: (N, C, H, W), uint8, and (N,). Every pass over them is in a new order; short batches are
            left out.
        factor: of the learning rates, by step.
        to_input: makes the network's inputs of augmented pictures.
        loss_of: the loss for (model, inputs, labels); by default the cross-entropy.
        after_step: is told how many steps are done, while the rates are still this step's. It may change the weights;
            if it returns True, the training ends.
    """
    loss_of = loss_of or mean_cross_entropy
    schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
    model.train()
    losses, order = [], images.new_empty(0)
    for done in range(1, steps + 1):
        # batch
        if len(order) < batch_size:
            order = torch.randperm(len(labels), device=labels.device)
        index, order = order[:batch_size], order[batch_size:]
        x = to_input(augment(images[index]))
        # forward, loss
        with autocast(images.device, amp):
            loss = loss_of(model, x, labels[index])
        # backward
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        # step
        for optimizer in optimizers:
            optimizer.step()
        stop = after_step is not None and after_step(done)
        for schedule in schedules:
            schedule.step()
        # log
        losses.append(loss.item())
        if stop or not math.isfinite(losses[-1]):
            break
    return losses


def mean_cross_entropy(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy in nats, computed in float32 whatever the precision of the forward pass."""
    return cross_entropy(model(x).float(), labels)


@torch.no_grad()
def probabilities(
    model: nn.Module,
    images: Tensor,
    amp: str = "off",
    views: int = 1,
    *,
    to_input: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return class probabilities (N, K) in eval mode; with two `views` the mean over each picture and its mirror.

    Afterwards every layer is in the mode that it was in.
    """
    parts = []
    with evaluating(model), autocast(images.device, amp):
        for part in images.split(500):
            pair = [part, part.flip(-1)][:views]
            parts.append(sum(model(to_input(view)).float().softmax(dim=1) for view in pair) / views)
    return torch.cat(parts)


def score(p: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the accuracy and the mean cross-entropy (nats) of class probabilities (N, K) for labels (N,).

    Raises:
        ValueError: the labels have another shape, or name no class.
    """
    check_labels(p, labels)
    accuracy = (p.argmax(dim=1) == labels).float().mean().item()
    loss = -p[torch.arange(len(p)), labels].clamp(min=1e-12).log().mean().item()
    return accuracy, loss


def confusion_counts(p: Tensor, labels: Tensor) -> Tensor:
    """Return (K, K): how many pictures of class i were taken for class j, by class probabilities p (N, K)."""
    check_labels(p, labels)
    n_classes = p.shape[1]
    pairs = labels * n_classes + p.argmax(dim=1)  # (N,): each pair of classes is one number
    return torch.bincount(pairs, minlength=n_classes**2).view(n_classes, n_classes)  # (K, K)


def class_accuracies(counts: Tensor, classes: list[str]) -> dict[str, float]:
    """Return each class's accuracy, by name, from `confusion_counts`; 0 for a class of no pictures."""
    accuracies = counts.diagonal().double() / counts.sum(dim=1).clamp(min=1)
    return dict(zip(classes, accuracies.tolist(), strict=True))
