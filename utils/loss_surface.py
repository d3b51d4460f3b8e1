"""Slices through a loss surface along random directions, scaled filter by filter (Li et al. 2018).
损失曲面的切片：沿随机方向走，步长按每个滤波器的范数缩放（Li 等人 2018）。

Weights before a norm can be doubled without changing what the network computes; a step of fixed length would then look
half as large, and the same network flatter. A direction whose every filter is as long as the network's own undoes that:
at coordinate 1 each filter has been changed by its own length.

归一化层之前的权重放大一倍，网络的输出不变，固定长度的一步却显得小了一半，曲面也就“变平”了。让方向中的每个滤波器与网络中对应的滤波器等长，
就消除了这种假象：坐标为 1 处，每个滤波器的改变量恰好等于它自身的长度。
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from utils.batch_norm import batch_norms
from utils.evaluating import evaluating

Direction = dict[str, Tensor]  # what moves, under its parameter's name


def random_directions(model: nn.Module, count: int = 2, seed: int = 0) -> list[Direction]:
    """Draw so many filter-normalised directions. PyTorch's own generator stays as it was.

    Only weights move. Biases and norms' parameters do not, as in the authors' experiments: a norm's factor has no
    filter whose length could be its measure, and most of the function is in the weights.
    """
    dice = torch.Generator().manual_seed(seed)
    weights = {name: p.detach() for name, p in model.named_parameters() if p.ndim >= 2}
    found = []
    for _ in range(count):  # drawn on the CPU: the same on every device
        noise = {name: torch.randn(w.shape, generator=dice, dtype=torch.float64).to(w) for name, w in weights.items()}
        found.append({name: filter_normalise(noise[name], w) for name, w in weights.items()})
    return found


def filter_normalise(direction: Tensor, weight: Tensor) -> Tensor:
    """Scale each filter of `direction` to the norm of the same one in `weight`, both (C_out, ...).

    A filter is what makes one channel or one unit: a slice along the first dimension (Li et al. 2018, section 4). Where
    the network's filter is 0, so is the direction's.
    """
    return direction * (filter_norms(weight) / filter_norms(direction))


def filter_norms(weight: Tensor) -> Tensor:
    """Return the norm of each filter of `weight` (C_out, ...), as (C_out, 1, ...)."""
    return torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)


def vector_direction(model: nn.Module, vector: Tensor) -> Direction:
    """Split a vector (P,) of all parameters, such as the difference of two trainings, by name."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    parts = vector.split(list(sizes.values()))
    return {name: part.view_as(p) for (name, p), part in zip(model.named_parameters(), parts, strict=True)}


@torch.no_grad()
def loss_surface(
    model: nn.Module,
    batches: Sequence[tuple[Tensor, Tensor]],
    directions: Sequence[Direction],
    axes: Sequence[Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    batch_statistics: bool = True,
) -> Tensor:
    """Return the loss at w + a d, or at w + a d + b e, for every a and b on the axes; `model` stays as it is.

    Args:
        batches: inputs and targets, the same at every point.
        directions, axes: one each for a curve, two each for a surface, ...
        loss: of outputs and targets, a mean over the batch.
        batch_statistics: let BatchNorm use each batch's own mean and variance, as in training. The running ones fit
            the trained weights alone: with them (as in the paper) far points are bad for that reason, too, and
            rescaled weights no longer compute the same.

    Returns:
        the mean over all the examples, float64, (len(axes[0]), len(axes[1]), ...).
    """
    if len(directions) != len(axes):
        raise ValueError(f"{len(directions)} directions need as many axes, not {len(axes)}")
    weights, values = dict(model.named_parameters()), []
    with evaluating(model, training=batch_norms(model) if batch_statistics else ()):
        for point in itertools.product(*(axis.tolist() for axis in axes)):
            moved = dict(weights)
            for step, direction in zip(point, directions, strict=True):
                for name, change in direction.items():
                    moved[name] = moved[name] + step * change
            # The model computes with `moved` but keeps its own; the norms count what they see in copies, too.
            moved |= {name: buffer.clone() for name, buffer in model.named_buffers()}
            summed = sum(loss(functional_call(model, moved, (x,)), y).item() * len(x) for x, y in batches)
            values.append(summed / sum(len(x) for x, _ in batches))
    return torch.tensor(values, dtype=torch.float64).view([len(axis) for axis in axes])
