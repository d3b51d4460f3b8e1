"""Soft targets: label smoothing, and the two ways to train on mixtures of pictures, mixup and CutMix.
软目标：标签平滑，以及用混合图片训练的两种方法，mixup 与 CutMix。

All targets here are (B, K): a share for each of K classes, summing to 1. So the three can follow each other:

    targets = smooth_labels(labels, n_classes=10, smoothing=0.1)
    x, targets = mixup(x, targets, alpha=0.2)
    loss = soft_cross_entropy(model(x), targets)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from chapter_02_nn_basics_mlp.losses import log_softmax
from chapter_03_optimization_regularization.regularization.augmentation import boxes
from utils.shape_checks import check_same_shape


def smooth_labels(labels: Tensor, n_classes: int, smoothing: float = 0.0, dtype: torch.dtype | None = None) -> Tensor:
    """labels (B,), int64 -> targets (B, K): `smoothing` spread evenly, the rest on the label (Szegedy et al. 2016)."""
    if labels.ndim != 1:
        raise ValueError(f"labels are (B,), one class each, not {tuple(labels.shape)}")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing is a share from 0 to 1, not {smoothing}")
    one_hot = F.one_hot(labels, n_classes).to(dtype or torch.get_default_dtype())
    return (1 - smoothing) * one_hot + smoothing / n_classes


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of -sum_k t_k log p_k, in nats, for logits and targets (B, K).

    Raises:
        ValueError: the shapes differ, as they do for labels (B,).
    """
    check_same_shape(logits, targets)
    return -(targets * log_softmax(logits)).sum(dim=1).mean()


def mixup(x: Tensor, targets: Tensor, alpha: float = 0.2) -> tuple[Tensor, Tensor]:
    """Mix each sample with another of its batch: share * x + (1 - share) * x', targets alike (Zhang et al. 2018).

    Args:
        x: (B, ...), floating point. targets: (B, K).
        alpha: each sample's share is drawn from Beta(alpha, alpha): mostly near 0 or 1 for small alpha, uniform for 1.
    """
    share = _shares(x, alpha).to(x.dtype)  # (B,)
    partner = torch.randperm(len(x), device=x.device)
    mixed = x[partner].lerp(x, share.view(-1, *[1] * (x.ndim - 1)))
    return mixed, _mix_targets(targets, partner, share)


def cutmix(images: Tensor, targets: Tensor, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """Paste a box of another picture of the batch into each; targets mix by area (Yun et al. 2019).

    The box has the picture's proportions and should cover 1 - share of it, with the share drawn as in `mixup`. Where
    rounding or the picture's edge makes that another area, targets follow what was really pasted.

    Args:
        images: (B, C, H, W). targets: (B, K).
    """
    side = (1 - _shares(images, alpha)).sqrt()  # (B,), as a part of the picture's side
    height, width = ((length * side).round().long() for length in images.shape[-2:])
    pasted = boxes(images, height, width)  # (B, 1, H, W)
    partner = torch.randperm(len(images), device=images.device)
    share = (~pasted).flatten(1).to(targets.dtype).mean(dim=1)  # (B,), what is left of each picture
    return torch.where(pasted, images[partner], images), _mix_targets(targets, partner, share)


def _shares(x: Tensor, alpha: float) -> Tensor:
    """Draw (B,) from Beta(alpha, alpha), on the CPU: not every device can."""
    return torch.distributions.Beta(alpha, alpha).sample((len(x),)).to(x.device)


def _mix_targets(targets: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    return targets[partner].lerp(targets, share.to(targets.dtype)[:, None])  # (B, K)
