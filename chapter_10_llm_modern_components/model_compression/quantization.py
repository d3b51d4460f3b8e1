"""Weights in 8 or 4 bits: int8 for each channel, int4 and NF4 for each group; packed, and unpacked as they are used.
把权重存成 8 位或 4 位：按通道的 int8，按组的 int4 与 NF4；打包存放，用时再展开。

    int8    w = scale * code,           255 codes, one scale a row        8 bits + 32 / (numbers of a row)
    int4    w = scale * levels[code],   16 equally spaced levels          4 bits + 16 / (numbers of a group)
    nf4     the same, with levels that lie where a normal distribution has its weights

Only the weights are rounded: what a layer reads and returns keeps its precision.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_09_efficient_attention.kv_cache import quantize
from chapter_10_llm_modern_components.model_compression.linear_layers import PROJECTIONS, replace_layers_

FORMATS = ("int8", "int4", "nf4")


def int4_levels() -> Tensor:
    """Return (16,): -8 / 7, -1, ..., 1. A group's largest number becomes 1 or -1, so that the first is never used."""
    return torch.arange(-8, 8) / 7


def nf4_levels() -> Tensor:
    """Return (16,) quantiles of a normal distribution, from -1 to 1, with 0 among them (Dettmers et al. 2023, sec. 3).

    Levels that lie so are used about equally often by normal weights. The smallest and the largest probability cannot
    be 0 and 1, whose quantiles are infinite: half a step is left at each end, 1/32 with 16 steps and 1/30 with 15,
    and the mean of the two is what the authors' code takes for both. Eight levels above 0 and seven below leave one
    for 0 itself, which padding and pruned weights need.
    """
    end = 1 - (1 / 32 + 1 / 30) / 2
    above = torch.special.ndtri(torch.linspace(0.5, end, 9, dtype=torch.float64)[1:])  # (8,)
    below = -torch.special.ndtri(torch.linspace(0.5, end, 8, dtype=torch.float64)[1:])  # (7,)
    levels = torch.cat([below, torch.zeros(1, dtype=torch.float64), above]).sort().values
    return (levels / levels.abs().max()).float()


def quantize_groups(w: Tensor, levels: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Return codes (out, in) of uint8 and scales (out, groups) of 16 bits: w is about scale * levels[code].

    A group is `group_size` numbers of a row, the last one what is left. Its scale is its largest number, so one outlier
    coarsens its own group and no other.
    """
    n_in = w.shape[1]
    groups = F.pad(w, (0, -n_in % group_size)).unflatten(1, (-1, group_size))  # (out, groups, group_size)
    scales = groups.abs().amax(dim=2, keepdim=True).clamp(min=2**-24).half()  # (out, groups, 1): none is rounded to 0
    middles = ((levels[1:] + levels[:-1]) / 2).to(w)  # (15,): between two of them their own level is nearest
    codes = torch.bucketize((groups / scales.to(w)).contiguous(), middles)  # (out, groups, group_size)
    return codes.flatten(1)[:, :n_in].to(torch.uint8), scales.squeeze(2)


def dequantize_groups(codes: Tensor, scales: Tensor, levels: Tensor, group_size: int) -> Tensor:
    """Return the weights (out, in) that codes (out, in) and scales (out, groups) stand for, in the levels' type."""
    scales = scales.to(levels).repeat_interleave(group_size, dim=1)[:, : codes.shape[1]]  # (out, in)
    return levels[codes.int()] * scales


def pack_nibbles(codes: Tensor) -> Tensor:
    """Put two codes from 0 to 15 into each byte: (..., n) of uint8 -> (..., n / 2 rounded up), the first one low."""
    low, high = F.pad(codes, (0, codes.shape[-1] % 2)).unflatten(-1, (-1, 2)).unbind(-1)
    return low | (high << 4)


def unpack_nibbles(packed: Tensor, n: int) -> Tensor:
    """Return the first n codes (..., n) of what `pack_nibbles` returned."""
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)[..., :n]


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8, quantized row by row as chapter 9's caches.

    It cannot be trained, but gradients pass through it to what it reads.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        codes, scales = quantize(linear.weight.detach())
        self.register_buffer("codes", codes)  # (out, in) int8
        self.register_buffer("scales", scales)  # (out, 1) float32
        self.bias = linear.bias

    @property
    def weight(self) -> Tensor:
        """The weights (out, in) that the codes stand for, in float32."""
        return self.codes * self.scales

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out); the scales of the rows are multiplied with the few outputs, not the weights."""
        y = F.linear(x, self.codes.to(x.dtype)) * self.scales[:, 0].to(x.dtype)  # (..., out)
        return y if self.bias is None else y + self.bias


class FourBitLinear(nn.Module):
    """A linear layer whose weights are codes of 16 levels, two in a byte, and a scale for each group of them.

    Like `Int8Linear` it cannot be trained, but gradients pass through it: adapters can be, see lora.py.
    """

    def __init__(self, linear: nn.Linear, levels: Tensor, group_size: int):
        super().__init__()
        self.in_features, self.out_features, self.group_size = linear.in_features, linear.out_features, group_size
        codes, scales = quantize_groups(linear.weight.detach(), levels, group_size)
        self.register_buffer("packed", pack_nibbles(codes))  # (out, in / 2) uint8
        self.register_buffer("scales", scales)  # (out, groups) float16
        self.register_buffer("levels", levels.to(linear.weight), persistent=False)  # (16,)
        self.bias = linear.bias

    @property
    def weight(self) -> Tensor:
        """The weights (out, in) that the codes stand for."""
        return dequantize_groups(
            unpack_nibbles(self.packed, self.in_features), self.scales, self.levels, self.group_size
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return F.linear(x, self.weight.to(x.dtype), self.bias)


def layer_maker(number_format: str, group_size: int) -> Callable[[nn.Linear], nn.Module]:
    """Return what makes of a linear layer one whose weights have a format of `FORMATS`.

    Raises:
        ValueError: no such format.
    """
    if number_format == "int8":
        return Int8Linear
    if number_format not in FORMATS:
        raise ValueError(f"weights are rounded to {', '.join(FORMATS)}, not to {number_format}")
    levels = int4_levels() if number_format == "int4" else nf4_levels()
    return partial(FourBitLinear, levels=levels, group_size=group_size)


def quantize_(model: nn.Module, number_format: str, group_size: int = 64) -> None:
    """Round the weights of all linear layers inside the model's blocks; embedding, head and norms keep 16 bits."""
    replace_layers_(model, PROJECTIONS, layer_maker(number_format, group_size))


def stored_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's file: 2 for each number of a parameter, tied ones once, and buffers as they are."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = [tensor for name, tensor in model.state_dict().items() if name not in parameters]
    return sum(2 * p.numel() for p in model.parameters()) + sum(t.numel() * t.element_size() for t in buffers)
