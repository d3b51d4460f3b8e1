"""Where weights start: random, and just large enough that a signal keeps its size through every layer.
权重的起点：随机，而且大小恰好使信号逐层传递时既不消失也不爆炸。

A layer z = W a multiplies the mean square of its input by fan_in Var(W), and its activation shrinks that again. The
schemes differ in how they hold the product at one.
"""

import math
from collections.abc import Callable

import torch
from torch import nn


def fans(weight: torch.Tensor) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight (out, in) or (out, in, kernel...): the inputs a unit sees, and feeds."""
    taps = math.prod(weight.shape[2:])
    return weight.shape[1] * taps, weight.shape[0] * taps


@torch.no_grad()
def xavier_normal_(weight: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
    """Fill with N(0, 2 gain^2 / (fan_in + fan_out)): a compromise of both passes (Glorot & Bengio 2010, eq. 12)."""
    return weight.normal_(0, gain * math.sqrt(2 / sum(fans(weight))))


@torch.no_grad()
def xavier_uniform_(weight: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
    """Like `xavier_normal_`, from a uniform distribution of the same variance (equation 16)."""
    return _uniform_(weight, gain * math.sqrt(2 / sum(fans(weight))))


@torch.no_grad()
def kaiming_normal_(weight: torch.Tensor, gain: float = math.sqrt(2), mode: str = "fan_in") -> torch.Tensor:
    """Fill with N(0, gain^2 / fan): keeps the forward pass's size with "fan_in", the backward pass's with "fan_out".

    The gain makes up for what the activation takes away: sqrt(2) for ReLU (He et al. 2015, equation 10).
    """
    return weight.normal_(0, gain / math.sqrt(_fan(weight, mode)))


@torch.no_grad()
def kaiming_uniform_(weight: torch.Tensor, gain: float = math.sqrt(2), mode: str = "fan_in") -> torch.Tensor:
    """Like `kaiming_normal_`, from a uniform distribution of the same variance."""
    return _uniform_(weight, gain / math.sqrt(_fan(weight, mode)))


@torch.no_grad()
def orthogonal_(weight: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
    """Fill with `gain` times a random matrix of orthonormal rows, or columns if those are fewer (Saxe et al. 2014)."""
    rows, columns = weight.shape[0], weight[0].numel()
    tall = torch.randn(max(rows, columns), min(rows, columns), dtype=weight.dtype, device=weight.device)
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal().sign()  # without this, q is not uniform over the orthogonal matrices (Mezzadri 2007)
    return weight.copy_(gain * (q if rows >= columns else q.T).view_as(weight))


@torch.no_grad()
def lsuv_(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Start every layer orthogonal, then scale it until its outputs for the batch `x` have variance 1.

    Layer-sequential unit variance (Mishkin & Matas 2015). The paper repeats the division until it is close enough; with
    the biases at zero a layer's output is proportional to its weight, and one division is exact.
    """

    def rescale(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        std = output.std()
        layer.weight.div_(std)
        return output / std  # what the next layer sees, so one forward pass serves them all

    layers = [m for m in model.modules() if isinstance(getattr(m, "weight", None), nn.Parameter) and m.weight.dim() > 1]
    for layer in layers:
        orthogonal_(layer.weight)
        if layer.bias is not None:
            layer.bias.zero_()
    hooks = [layer.register_forward_hook(rescale) for layer in layers]
    model(x)
    for hook in hooks:
        hook.remove()
    return model


@torch.no_grad()
def second_moment(activation: Callable[[torch.Tensor], torch.Tensor], variance: float = 1.0) -> float:
    """Return E[f(z)^2] for z ~ N(0, variance), by the trapezoid rule over ten standard deviations either way."""
    z = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return torch.trapezoid(activation(math.sqrt(variance) * z) ** 2 * density, z).item()


def calculate_gain(activation: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Return the gain with which pre-activations of variance 1 lead to pre-activations of variance 1.

    ReLU: E[max(z, 0)^2] = 1/2, so sqrt(2). The other activations have gains of their own: tanh 1.59, GELU 1.53.
    """
    return 1 / math.sqrt(second_moment(activation))


def predicted_variances(
    activation: Callable[[torch.Tensor], torch.Tensor], gain: float, depth: int, first: float = 1.0
) -> list[float]:
    """Return the variance of the pre-activations in each of `depth` wide layers with Var(W) = gain^2 / fan_in.

    By the law of large numbers q_{l+1} = gain^2 E[f(z)^2], z ~ N(0, q_l) (Poole et al. 2016, equation 3).
    """
    variances = [first]
    while len(variances) < depth:
        variances.append(gain**2 * second_moment(activation, variances[-1]))
    return variances


def _fan(weight: torch.Tensor, mode: str) -> int:
    fan_in, fan_out = fans(weight)
    return {"fan_in": fan_in, "fan_out": fan_out}[mode]


def _uniform_(weight: torch.Tensor, std: float) -> torch.Tensor:
    bound = math.sqrt(3) * std  # the variance of U(-b, b) is b^2 / 3
    return weight.uniform_(-bound, bound)


INITIALIZERS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "xavier_normal": xavier_normal_,
    "xavier_uniform": xavier_uniform_,
    "kaiming_normal": kaiming_normal_,
    "kaiming_uniform": kaiming_uniform_,
    "orthogonal": orthogonal_,
}
