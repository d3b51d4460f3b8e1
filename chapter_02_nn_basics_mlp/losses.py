"""Loss functions, each the mean negative log-likelihood of some noise, stable for scores of any size.
损失函数：每一个都是某种噪声下的平均负对数似然，无论得分多大，数值都稳定。

mse belongs to Gaussian noise, mae to Laplace noise, huber to a Gaussian with Laplace tails, and the two cross-entropies
to coins and dice whose probabilities the network sets.
"""

import torch

from chapter_02_nn_basics_mlp.activations import softplus
from utils.shape_checks import check_labels, check_same_shape


def mse(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error, over all elements of two tensors of one shape; ValueError if they have two."""
    check_same_shape(prediction, target)
    return ((prediction - target) ** 2).mean()


def mae(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute error."""
    check_same_shape(prediction, target)
    return (prediction - target).abs().mean()


def huber(prediction: torch.Tensor, target: torch.Tensor, delta: float = 1.0) -> torch.Tensor:
    """Return the mean of r^2 / 2 where |r| <= delta, and of delta (|r| - delta / 2) beyond (Huber 1964)."""
    check_same_shape(prediction, target)
    r = (prediction - target).abs()
    inner = r.clamp(max=delta)  # one formula for both cases: the parabola up to delta, a straight line for the rest
    return (inner**2 / 2 + delta * (r - inner)).mean()


def binary_cross_entropy_with_logits(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean of -t log p - (1 - t) log(1 - p) with p = sigmoid(logit), in nats.

    `target` has the shape of `logits` and values from 0 to 1.
    """
    check_same_shape(logits, target)
    # -log sigmoid(z) = softplus(-z) and -log(1 - sigmoid(z)) = softplus(z): the logarithm never meets a rounded 0.
    # 这样写，对数永远不会遇到被舍入成 0 的概率。
    return (target * softplus(-logits) + (1 - target) * softplus(logits)).mean()


def log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Return log(e^z_k / sum_j e^z_j) along the last dimension."""
    z = logits - logits.amax(dim=-1, keepdim=True).detach()  # changes no ratio, and no e^z exceeds 1
    return z - z.exp().sum(dim=-1, keepdim=True).log()


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return the mean negative log-probability of the right class, in nats.

    Args:
        logits: (B, C). target: (B,), int64, from 0 to C - 1.
        label_smoothing: the share of the target that is spread evenly over all classes (Szegedy et al. 2016).

    Raises:
        ValueError: the labels' shape is another, such as (B, 1) or one-hot (B, C), or one of them is out of range.
    """
    check_labels(logits, target)
    log_p = log_softmax(logits)  # (B, C)
    right = log_p.gather(1, target[:, None]).mean()
    if label_smoothing == 0:
        return -right
    return -(1 - label_smoothing) * right - label_smoothing * log_p.mean()
