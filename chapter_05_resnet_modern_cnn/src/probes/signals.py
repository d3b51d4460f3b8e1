"""What a network's layers hand on: how large gradients are, how smooth slopes are, from where on a class is readable.
网络各层传递了什么：梯度有多大，斜率有多平滑，从哪一层起可以读出类别。
"""

import copy

import torch
from torch import Tensor, nn
from torch.func import jvp

from chapter_02_nn_basics_mlp.losses import cross_entropy
from utils.batch_norm import recompute_batch_norm_
from utils.shape_checks import check_labels


def norms_by_layer(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, list[float], list[float]]:
    """Return the loss in training mode and, by layer, the norms of its gradient by the weight and of the weight.

    Layers are convolutions and linear ones, from the input on. A copy of the model runs: its norms count these inputs,
    the model's do not.
    """
    model = copy.deepcopy(model).train()
    weights = [m.weight for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    loss = cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, weights)
    return loss.item(), [g.norm().item() for g in gradients], [w.norm().item() for w in weights]


def geometric_mean(curves: list[list[float]]) -> list[float]:
    """Return the geometric mean of several curves, point by point, to four digits."""
    means = torch.tensor(curves, dtype=torch.float64).clamp(min=1e-30).log().mean(dim=0).exp()
    return [float(f"{value:.4g}") for value in means.tolist()]


def with_statistics(model: nn.Module, x: Tensor) -> nn.Module:
    """Return a copy in eval mode whose BatchNorms have the means and variances that the batch x (B, ...) gives them."""
    model = copy.deepcopy(model).eval()
    recompute_batch_norm_(model, [x])
    return model


@torch.no_grad()
def slopes(model: nn.Module, start: Tensor, end: Tensor, points: int, chunk: int = 64) -> Tensor:
    """Return each logit's slope by t, (points, K), where the input goes from `start`, t = 0, to `end`, t = 1.

    In eval mode, where an answer depends on its own input alone. The slope is J (end - start), with the Jacobian J of
    the logits by the input: chapter 1's jvp, which takes all logits in one pass forward.
    """

    def logits(t: Tensor) -> Tensor:
        return model(start + t.view(-1, *[1] * start.ndim) * (end - start))  # (chunk, ...) -> (chunk, K)

    path = torch.linspace(0, 1, points, dtype=start.dtype, device=start.device)
    return torch.cat([jvp(logits, (t,), (torch.ones_like(t),))[1] for t in path.split(chunk)])


def autocorrelation(values: Tensor, lags: int) -> Tensor:
    """Return how alike values (N, K) are at 0, 1, ..., `lags` places apart, from -1 to 1: (lags + 1,), a mean over K.

    At lag l the mean of d_i d_(i + l) over the variance, d being differences from the column's mean. White noise has 1
    at lag 0 and about 0 elsewhere (Balduzzi et al. 2017, section 2).
    """
    d = values - values.mean(dim=0)
    products = torch.stack([(d[: len(d) - lag] * d[lag:]).mean(dim=0) for lag in range(lags + 1)])  # (lags + 1, K)
    return (products / products[0]).mean(dim=1)


@torch.no_grad()
def maps_by_depth(model: nn.Module, x: Tensor) -> dict[str, tuple[int, Tensor]]:
    """Return the maps (B, C, h, w) of x after the stem and each block, with how many layers of weights lie before.

    Layers on a shortcut do not count: the way through the branches is what gives a network its depth.
    """
    stages = {stage: getattr(model, stage) for stage in model.stage_names}
    blocks = {f"{stage}.{i}": block for stage, part in stages.items() for i, block in enumerate(part)}
    found, layers = {}, 1

    def keep_stem(module: nn.Module, args: tuple[Tensor]) -> None:
        found["stem"] = (1, args[0])

    handles = [blocks[f"{model.stage_names[0]}.0"].register_forward_pre_hook(keep_stem)]
    for name, block in blocks.items():
        layers += sum(isinstance(m, nn.Conv2d) for m in block.children())

        def keep(module: nn.Module, args: tuple, output: Tensor, place: tuple = (name, layers)) -> None:
            found[place[0]] = (place[1], output)

        handles.append(block.register_forward_hook(keep))
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def nearest_mean_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Return how often a test row (M, C) lies nearest to the mean of its own class's training rows (N, C).

    Each channel is measured in units of its standard deviation over the training rows, so that none counts for its
    scale. No weight is fitted: what this can tell apart, the features have laid apart.

    Raises:
        ValueError: the labels are not one for each row.
    """
    n_classes = 1 + int(torch.cat([labels.flatten(), test_labels.flatten()]).max())
    for rows, own in ((train, labels), (test, test_labels)):
        check_labels(rows, own, n_classes)
    std = train.std(dim=0)
    std[std == 0] = torch.inf  # a channel that never speaks does not count
    means = torch.stack([train[labels == k].mean(dim=0) for k in labels.unique()])  # (K, C)
    nearest = torch.cdist(test / std, means / std).argmin(dim=1)  # (M,)
    return (labels.unique()[nearest] == test_labels).double().mean().item()
