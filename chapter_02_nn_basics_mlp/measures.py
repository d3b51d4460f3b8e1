"""How good a trained network is: what it answers, and how far off that is.
训练好的网络有多好：它的回答，以及回答的误差。
"""

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.problems import mirrored
from utils.evaluating import evaluating
from utils.shape_checks import check_labels, check_same_shape


@torch.no_grad()
def network_outputs(model: nn.Module, x: Tensor) -> Tensor:
    """Return the model's outputs (N, d_out) in eval mode, a thousand rows at a time."""
    with evaluating(model):
        return torch.cat([model(part) for part in x.split(1000)])


def two_view_probabilities(model: nn.Module, x: Tensor) -> Tensor:
    """Return the class probabilities (N, C) for pictures x (N, 784): the mean over each and its mirror image."""
    views = (network_outputs(model, view).softmax(dim=1) for view in (x, mirrored(x)))
    return sum(views) / 2


def rmse(prediction: Tensor, target: Tensor) -> float:
    """Return the root of the mean squared error, in the target's own unit, of two tensors of one shape."""
    check_same_shape(prediction, target)
    return (prediction - target).square().mean().sqrt().item()


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Return the share of rows (N, C) whose largest logit, or probability, is the label's; labels (N,)."""
    check_labels(scores, labels)
    return (scores.argmax(dim=1) == labels).sum().item() / len(labels)
