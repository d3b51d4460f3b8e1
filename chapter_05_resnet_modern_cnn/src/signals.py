"""How large the gradient is that reaches each layer.
传到每一层的梯度有多大。
"""

import copy

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.losses import cross_entropy


def layer_norms(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, list[float], list[float]]:
    """Return the loss in training mode and, by layer, the norms of its gradient by the weight and of the weight.

    Layers are convolutions and linear ones, from the input on. A copy of the model runs: its norms count these inputs,
    the model's do not.
    """
    model = copy.deepcopy(model).train()
    weights = [m.weight for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    loss = cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, weights)
    return loss.item(), [g.norm().item() for g in gradients], [w.norm().item() for w in weights]


def typical(curves: list[list[float]]) -> list[float]:
    """Return the geometric mean of several curves, point by point, to four digits."""
    means = torch.tensor(curves, dtype=torch.float64).clamp(min=1e-30).log().mean(dim=0).exp()
    return [float(f"{value:.4g}") for value in means.tolist()]
