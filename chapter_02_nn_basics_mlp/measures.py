"""How good a trained network is: what it answers, how far off that is, and the mean over several seeds.
训练好的网络有多好：它的回答、回答的误差，以及多个随机种子上的平均。
"""

from statistics import mean, stdev

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.problems import mirrored


@torch.no_grad()
def answers(model: nn.Module, x: Tensor) -> Tensor:
    """Return the model's outputs (N, d_out) in eval mode, a thousand rows at a time."""
    model.eval()
    return torch.cat([model(part) for part in x.split(1000)])


def two_views(model: nn.Module, x: Tensor) -> Tensor:
    """Return the class probabilities (N, C) for pictures x (N, 784): the mean over each and its mirror image."""
    return (answers(model, x).softmax(dim=1) + answers(model, mirrored(x)).softmax(dim=1)) / 2


def rmse(prediction: Tensor, target: Tensor) -> float:
    """Return the root of the mean squared error, in the target's own unit."""
    return (prediction - target).square().mean().sqrt().item()


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Return the share of rows (N, C) whose largest logit, or probability, is the label's."""
    return (scores.argmax(dim=1) == labels).sum().item() / len(labels)


def summary(rows: list[dict]) -> dict:
    """Return each figure's mean over the seeds' rows, and as <name>_std its spread, 0 for a single seed."""
    final = {}
    for name in rows[0]:
        if name != "seed":
            values = [row[name] for row in rows]
            final |= {name: mean(values), f"{name}_std": stdev(values) if len(values) > 1 else 0.0}
    return final
