"""Normalisation: give activations mean 0 and variance 1, then let the network choose its own scale and shift.
归一化：先让激活值均值为 0、方差为 1，再由网络自己学习缩放与平移。

The norms differ only in which values share a mean and a variance. For pictures x (B, C, H, W):

    BatchNorm      over B, H, W     for each channel               (Ioffe & Szegedy 2015)
    LayerNorm      over C, H, W     for each picture               (Ba et al. 2016)
    GroupNorm      over C/G, H, W   for each picture and group     (Wu & He 2018)
    InstanceNorm   over H, W        for each picture and channel   (Ulyanov et al. 2016)
    RMSNorm        as LayerNorm, without subtracting the mean      (Zhang & Sennrich 2019)

Only BatchNorm mixes pictures, so only it needs running statistics for the time when pictures come one by one.
几种归一化的区别只在于哪些值共用均值与方差。只有 BatchNorm 让样本之间互相影响，因此也只有它需要滑动统计量。

WeightNorm (Salimans & Kingma 2016) leaves activations alone and gives the weights' lengths parameters of their own.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from chapter_03_optimization_regularization.normalization.backward import normalize_by_hand


def normalize(
    x: Tensor, axes: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float, center: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x - mean) / sqrt(variance + eps) * weight + bias, and the mean and variance over `axes`.

    Weight and bias broadcast against x. Without `center` the mean counts as 0: the divisor is the root mean square.
    bfloat16 goes in and comes out; in between all is float32.
    """
    given = x.dtype
    x = x.to(torch.promote_types(given, torch.float32))
    mean = x.mean(axes, keepdim=True) if center else x.new_zeros((1,) * x.ndim)
    centered = x - mean
    variance = centered.square().mean(axes, keepdim=True)  # on CPUs two simple passes are faster than torch.var_mean
    y = centered * torch.rsqrt(variance + eps)
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return y.to(given), mean, variance


class Norm(nn.Module):
    """What the norms share: `weight`, which starts at 1, `bias`, which starts at 0, or neither; as torch.nn has them.

    `normalize` may be either function, the plain one or the one whose backward pass is written by hand. The plain one
    can be differentiated twice.
    """

    normalize = staticmethod(normalize_by_hand)

    def __init__(self, shape: tuple[int, ...], eps: float, affine: bool, bias: bool = True):
        super().__init__()
        if not 0 <= eps < math.inf:
            raise ValueError(f"eps is a finite number of at least 0, not {eps}")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(shape)) if affine else None
        self.bias = nn.Parameter(torch.zeros(shape)) if affine and bias else None

    def affine(self, *shape: int) -> tuple[Tensor | None, Tensor | None]:
        """Return weight and bias as views of this shape."""
        return tuple(None if p is None else p.view(shape) for p in (self.weight, self.bias))


class BatchNorm(Norm):
    """Normalises each channel over the batch, and over time or space: x (B, C), (B, C, T) or (B, C, H, W).

    In training the batch's own statistics serve, and a share `momentum` of them enters the running statistics, with
    which evaluation normalises. With momentum None these are the equal mean over all batches so far.
    """

    def __init__(self, n_channels: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True):
        super().__init__((n_channels,), eps, affine)
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum lies from 0 to 1, or is None, not {momentum}")
        self.n_channels, self.momentum = n_channels, momentum
        self.register_buffer("running_mean", torch.zeros(n_channels))
        self.register_buffer("running_var", torch.ones(n_channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        _check_channels(x, self.n_channels)
        weight, bias = self.affine(-1, *[1] * (x.ndim - 2))  # (C, 1, 1)
        if not self.training:
            return self._normalize_with_running_statistics(x, weight, bias)
        count = x.numel() // self.n_channels
        if count == 0:  # a batch of 0: as in PyTorch it is counted, and leaves the running statistics alone
            self.num_batches_tracked += 1
            return self._normalize_with_running_statistics(x, weight, bias)
        _check_several(count, "channel")
        y, mean, variance = self.normalize(x, (0, *range(2, x.ndim)), weight, bias, self.eps)
        self._update(mean.detach().flatten(), variance.detach().flatten() * (count / (count - 1)))
        return y

    @torch.no_grad()
    def _update(self, mean: Tensor, unbiased: Tensor) -> None:
        # A batch varies around its own mean by (n - 1) / n less than the data do. Training divides by it all the same;
        # the running variance is to be the data's. 训练时除以批内（有偏）方差；滑动方差要估计数据的方差，故取无偏。
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)

    def _normalize_with_running_statistics(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        mean, variance = (t.to(dtype).view(-1, *[1] * (x.ndim - 2)) for t in (self.running_mean, self.running_var))
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        return torch.addcmul(shift, x, scale).to(x.dtype)  # constants: one pass over x is enough

    def extra_repr(self) -> str:
        return f"{self.n_channels}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}"


class LayerNorm(Norm):
    """Normalises each sample over its last axes, whose sizes are `shape`: of x (..., D) over D, for shape D.

    A size of 1 stands for any size: LayerNorm((C, 1, 1)) normalises x (B, C, H, W) over C, H and W, with one weight
    for each channel, and so does not depend on the size of the pictures.
    """

    center = True

    def __init__(self, shape: int | tuple[int, ...], eps: float = 1e-5, affine: bool = True, bias: bool = True):
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        super().__init__(shape, eps, affine, bias)
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        pairs = zip(reversed(self.shape), reversed(x.shape), strict=False)
        if x.ndim < len(self.shape) or any(mine not in (1, size) for mine, size in pairs):
            raise ValueError(f"the input's last axes should be {self.shape}, but its shape is {tuple(x.shape)}")
        axes = tuple(range(-len(self.shape), 0))
        return self.normalize(x, axes, self.weight, self.bias, self.eps, self.center)[0]

    def extra_repr(self) -> str:
        return f"{self.shape}, eps={self.eps}, affine={self.weight is not None}, bias={self.bias is not None}"


class RMSNorm(LayerNorm):
    """Divides by the root mean square over the last axes, given as for LayerNorm; no mean is taken off, no bias added.

    torch.nn's `eps` is the input type's machine precision unless you give one.
    """

    center = False

    def __init__(self, shape: int | tuple[int, ...], eps: float = 1e-6, affine: bool = True):
        super().__init__(shape, eps, affine, bias=False)


class GroupNorm(Norm):
    """Normalises each sample over each of `n_groups` groups of neighbouring channels: x (B, C, ...).

    A group of a single value becomes its bias. PyTorch refuses that in a batch of 1, and accepts it in larger ones.
    """

    def __init__(self, n_groups: int, n_channels: int, eps: float = 1e-5, affine: bool = True):
        super().__init__((n_channels,), eps, affine)
        if n_groups < 1 or n_channels % n_groups != 0:
            raise ValueError(f"{n_channels} channels do not make {n_groups} groups of one size")
        self.n_groups, self.n_channels = n_groups, n_channels

    def forward(self, x: Tensor) -> Tensor:
        _check_channels(x, self.n_channels)
        groups = x.unflatten(1, (self.n_groups, -1))  # (B, G, C/G, ...), a view in either memory format
        axes = tuple(range(2, groups.ndim))
        weight, bias = self.affine(self.n_groups, -1, *[1] * (x.ndim - 2))  # (G, C/G, 1, 1)
        return self.normalize(groups, axes, weight, bias, self.eps)[0].flatten(1, 2)  # (B, C, ...)

    def extra_repr(self) -> str:
        return f"{self.n_groups}, {self.n_channels}, eps={self.eps}, affine={self.weight is not None}"


class InstanceNorm(GroupNorm):
    """Normalises every channel of every sample by itself: GroupNorm with a group for each channel.

    It has weights and biases unless `affine` is False; torch.nn's has none unless `affine` is True.
    """

    def __init__(self, n_channels: int, eps: float = 1e-5, affine: bool = True):
        super().__init__(n_channels, n_channels, eps, affine)

    def forward(self, x: Tensor) -> Tensor:
        _check_channels(x, self.n_channels)
        _check_several(math.prod(x.shape[2:]), "channel of a sample")
        return super().forward(x)


def _check_channels(x: Tensor, n_channels: int) -> None:
    if x.ndim < 2 or x.shape[1] != n_channels:
        raise ValueError(f"the input should be (B, {n_channels}, ...), but its shape is {tuple(x.shape)}")


def _check_several(count: int, place: str) -> None:
    if count == 1:
        raise ValueError(f"a norm needs more than 1 value for a {place}: less its own mean, nothing is left of one")


# --- by name ----------------------------------------------------------------------------------------------------------


def _layer(channels: int, **options) -> LayerNorm:
    return LayerNorm((channels, 1, 1), **options)


def _group(channels: int, n_groups: int | None = None, **options) -> GroupNorm:
    """By default a group has 8 channels, or a few more where 8 do not divide them, and there are at most 32 groups."""
    return GroupNorm(n_groups or math.gcd(channels, min(32, max(1, channels // 8))), channels, **options)


def _rms(channels: int, **options) -> RMSNorm:
    return RMSNorm((channels, 1, 1), **options)


NORMS: dict[str, Callable[..., nn.Module]] = {
    "none": nn.Identity,
    "batch": BatchNorm,
    "layer": _layer,
    "group": _group,
    "instance": InstanceNorm,
    "rms": _rms,
}


def make_norm(name: str, channels: int, **options: object) -> nn.Module:
    """Return a norm for pictures (B, C, H, W), by its name in NORMS, with one weight for each channel.

    "layer" and "rms" are taken over C, H and W, as Wu & He (2018) compare them. `options` go to the class, for instance
    `n_groups=4` for "group" or `momentum=0.01` for "batch".
    """
    return NORMS[name](channels, **options)


# --- weights ----------------------------------------------------------------------------------------------------------


class WeightNorm(nn.Module):
    """weight = g v / |v| for each output unit (Salimans & Kingma 2016, equation 2): `g` its length, `v` its direction.

    The gradient by v is at a right angle to v: a step only turns v, and makes it a little longer on the way.
    """

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """g (out, 1, ...), v (out, in, ...) -> weight (out, in, ...)."""
        return v * (g / _length(v))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the g and v to start from, which give this weight."""
        return _length(weight), weight


def _length(weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)  # (out, 1, ...)


def weight_norm(layer: nn.Module) -> nn.Module:
    """Put WeightNorm under a linear or convolutional layer's `weight`, and return the layer.

    g and v are `layer.parametrizations.weight.original0` and `original1`, as in PyTorch's own weight_norm.
    """
    register_parametrization(layer, "weight", WeightNorm())
    return layer
