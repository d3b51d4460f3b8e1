"""Receptive fields: which pixels a unit sees, by rule and by gradient, and how much each of them counts.
感受野：一个单元看得见哪些像素（按规则推算，用梯度测量），每个像素又占多少分量。

Along one axis (kernels here are square) let r pixels be the field of a unit, j the distance in pixels between two
neighbours' fields, and q the first pixel of unit 0's field. A window of k units, with stride s, padding p, dilation d:

    r' = r + d (k - 1) j        j' = s j        q' = q - p j
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chapter_04_cnn_classic.conv.geometry import pair

POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)
POINTWISE = (
    *(nn.Identity, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d),  # in eval mode a place minds its own business
    *(nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
)


@dataclass(frozen=True)
class Field:
    """What the units of one layer see: unit t the `size` pixels from `start` + t `jump` on. As it is: the input's."""

    size: int = 1
    jump: int = 1
    start: int = 0

    def through(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "Field":
        """Return the fields of a layer with this window on top."""
        reach = dilation * (kernel - 1)
        return Field(self.size + reach * self.jump, self.jump * stride, self.start - padding * self.jump)

    def pixels(self, unit: int) -> range:
        """The pixels from the first to the last that the unit sees; numbers below 0 and past the edge are padding."""
        first = self.start + unit * self.jump
        return range(first, first + self.size)


def receptive_field(module: nn.Module, field: Field = Field()) -> Field:  # noqa: B008 (frozen)
    """Return the fields of the module's outputs, when those of its inputs are `field`, by the rule.

    Knows convolutions, poolings, pointwise layers, chains of them, the `stages` of a ConvNet (not its head, which sees
    everything) and modules whose `branches` all read the same input: their union counts. Raises ValueError for others.
    """
    if isinstance(module, (nn.Sequential, nn.ModuleList)):
        for layer in module:
            field = receptive_field(layer, field)
        return field
    if hasattr(module, "stages"):
        return receptive_field(module.stages, field)
    if hasattr(module, "branches"):
        return _union([receptive_field(branch, field) for branch in module.branches])
    if isinstance(module, (nn.Conv2d, *POOLINGS)):
        return field.through(*map(_square, _window(module)))
    if isinstance(module, POINTWISE):
        return field
    raise ValueError(f"there is no rule for the field of a {type(module).__name__}")


def stage_paths(model: nn.Module) -> dict[str, nn.Sequential]:
    """Return, by the name of each of a ConvNet's stages, what leads from the input to its end."""
    return {name: nn.Sequential(*model.stages[: i + 1]) for i, name in enumerate(model.stage_names)}


def measured_receptive_field(module: nn.Module, side: int = 192) -> Field:
    """Return what `receptive_field` does, by gradient: send 1 back from a unit, and see which pixels it reaches.

    In the network as it is, that would miss pixels: a closed ReLU and the losers of a maximum pass nothing back, and
    positive and negative paths may cancel. The field is a matter of wiring, so a copy of the network is measured that
    has the same wiring and none of this: convolutions with equal positive weights, means for maxima, nothing in place
    of pointwise layers. Its gradient is the sum over all paths of positive numbers: 0 if and only if there is no path.
    感受野只取决于连线。所以测的是一个连线相同的副本：权重全为正，最大值换成平均值，逐点的层去掉。梯度是各条路径上的正数
    之和，当且仅当没有路径时为 0。

    Raises ValueError where a picture of `side` pixels is too small to hold the field.
    """
    twin = _linear_twin(module)
    x = torch.ones(1, _channels(twin), side, side, dtype=torch.float64, requires_grad=True)
    y = twin(x)  # (1, C, h, w)
    unit = (y.shape[2] - 1) // 2
    rows = [_reached(x, y, place) for place in (unit, unit + 1) if place < y.shape[2]]
    if len(rows) < 2 or rows[0][0] == 0 or rows[1][1] == side - 1:  # the edge may have cut something off
        raise ValueError(f"a picture of {side} pixels is too small for this field")
    (first, last), (next_first, _) = rows
    jump = next_first - first
    return Field(last - first + 1, jump, first - unit * jump)


def effective_field(module: nn.Module, x: Tensor, unit: int) -> Tensor:
    """Return how much each pixel counts for the output's unit (unit, unit) (Luo et al. 2016): a map that sums to 1.

    x (B, C, H, W) are pictures; the map (H, W) is the mean size of the gradient over them and their channels.
    """
    module = copy.deepcopy(_chain(module)).eval()
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[:, :, unit, unit].sum(), x)
    weight = gradient.abs().mean((0, 1))  # (H, W)
    return weight / weight.sum()


def middle_size(weight: Tensor, centre: float, share: float = 0.95) -> int:
    """Return the side of the smallest square around pixel (centre, centre) that holds this share of a map (H, W)."""
    rows, columns = (torch.arange(n, device=weight.device) for n in weight.shape)
    distance = torch.maximum((rows - centre).abs()[:, None], (columns - centre).abs())  # (H, W)
    for radius in distance.unique().tolist():
        if weight[distance <= radius].sum() >= share * weight.sum():
            return round(2 * radius) + 1
    raise ValueError(f"no square holds a share of {share}")


def _chain(module: nn.Module) -> nn.Module:
    return nn.Sequential(*getattr(module, "stages", [module]))


def _window(module: nn.Module) -> tuple:
    """Return the (kernel, stride, padding, dilation) of a convolution or a pooling."""
    return module.kernel_size, module.stride, module.padding, getattr(module, "dilation", 1)


def _square(value: int | tuple[int, int] | str) -> int:
    height, width = (value, None) if isinstance(value, str) else pair(value)
    if height != width:
        raise ValueError(f"{value!r}: there is a rule only for numbers, the same along both axes")
    return height


def _union(fields: list[Field]) -> Field:
    """Return the smallest field around all of these."""
    if len({field.jump for field in fields}) > 1:
        raise ValueError(f"branches side by side need the same stride: {fields}")
    start = min(field.start for field in fields)
    return Field(max(field.start + field.size for field in fields) - start, fields[0].jump, start)


def _linear_twin(module: nn.Module) -> nn.Module:
    twin = copy.deepcopy(_chain(module)).double().eval()
    for parent in list(twin.modules()):
        for name, layer in parent._modules.items():  # named_children() leaves out a layer's second use
            if isinstance(layer, nn.Conv2d):
                nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())  # means too: nothing overflows
            elif isinstance(layer, nn.MaxPool2d):
                kernel, stride, padding, dilation = _window(layer)
                if dilation not in (1, (1, 1)):
                    raise ValueError("there is no mean to replace a maximum over a dilated window")
                parent._modules[name] = nn.AvgPool2d(kernel, stride, padding, layer.ceil_mode)
            elif isinstance(layer, POINTWISE):
                parent._modules[name] = nn.Identity()
    return twin


def _channels(module: nn.Module) -> int:
    """How many channels the module reads; 1 if it does not care."""
    return next((layer.in_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)), 1)


def _reached(x: Tensor, y: Tensor, unit: int) -> tuple[int, int]:
    """Return the first and the last row of x that y's unit (unit, unit) has a path to."""
    (gradient,) = torch.autograd.grad(y[:, :, unit, unit].sum(), x, retain_graph=True)
    rows = gradient.sum((0, 1, 3)).nonzero()  # no cancelling: none is negative
    return rows[0].item(), rows[-1].item()
