"""Activation functions, each with the derivative that backpropagation needs, written out by hand.
激活函数，以及反向传播所需的、手工写出的导数。

A class states f as `value` and f' as `derivative`, and autograd is made to use that derivative. So the formulas can be
the textbook's: where e^1000 overflows on the way, only the finished value and derivative have to be right.
"""

import math

import torch
from torch import nn


class _Elementwise(torch.autograd.Function):
    """y = f(x) element by element. The backward pass is the chain rule and nothing else: dL/dx = dL/dy f'(x)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, activation: "Activation") -> torch.Tensor:
        return activation.value(x)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: torch.Tensor) -> None:
        x, ctx.activation = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * ctx.activation.derivative(x), None


class Activation(nn.Module):
    """A function of one number, applied to every element of a tensor of any shape."""

    def value(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def derivative(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Elementwise.apply(x, self)


class Sigmoid(Activation):
    """1 / (1 + e^-x)."""

    def value(self, x):
        return 1 / (1 + torch.exp(-x))  # e^1000 is inf, and 1 / inf is 0: right at both ends

    def derivative(self, x):
        y = self(x)
        return y * (1 - y)


sigmoid = Sigmoid()


class Tanh(Activation):
    """(e^x - e^-x) / (e^x + e^-x)."""

    def value(self, x):
        # Divided by e^|x|, nothing overflows: tanh |x| = (1 - u) / (1 + u) with u = e^(-2|x|); expm1 gives u - 1.
        # 分子分母同除以 e^|x| 就不会溢出；expm1 直接给出 u - 1，在 0 附近不损失精度。
        d = torch.expm1(-2 * x.abs())
        return torch.copysign(d / (2 + d), x)

    def derivative(self, x):
        return 1 - self(x) ** 2


class ReLU(Activation):
    """max(x, 0). At the kink the derivative is taken to be 0."""

    def value(self, x):
        return x.clamp(min=0)

    def derivative(self, x):
        return (x > 0).to(x.dtype)


class LeakyReLU(Activation):
    """x, or `negative_slope` x below zero (Maas et al. 2013)."""

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = negative_slope

    def value(self, x):
        return torch.where(x > 0, x, self.negative_slope * x)

    def derivative(self, x):
        return torch.where(x > 0, torch.ones_like(x), self.negative_slope)


class ELU(Activation):
    """x, or alpha (e^x - 1) below zero (Clevert et al. 2016)."""

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = alpha

    def value(self, x):
        return torch.where(x > 0, x, self.alpha * torch.expm1(x))

    def derivative(self, x):
        return torch.where(x > 0, 1.0, self.alpha * torch.exp(x.clamp(max=0)))


class GELU(Activation):
    """x Phi(x), with Phi the normal distribution function (Hendrycks & Gimpel 2016)."""

    def value(self, x):
        return x * self._phi(x)

    def derivative(self, x):
        density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)  # Phi'
        return self._phi(x) + x * density

    @staticmethod
    def _phi(x):
        return (1 + torch.erf(x / math.sqrt(2))) / 2


class SiLU(Activation):
    """x sigmoid(x), also called swish (Elfwing et al. 2018)."""

    def value(self, x):
        return x * sigmoid(x)

    def derivative(self, x):
        s = sigmoid(x)
        return s + x * s * (1 - s)


class Softplus(Activation):
    """log(1 + e^x), a ReLU without the kink."""

    def value(self, x):
        return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))  # log(1 + e^x) = x + log(1 + e^-x)

    def derivative(self, x):
        return sigmoid(x)


softplus = Softplus()


class Snake(Activation):
    """x + sin^2(a x) / a: a rising line with a wave on it, of period pi / a (Ziyin et al. 2020, equation 3).

    The frequency `a` is learned with the weights unless `learnable` is False.
    """

    def __init__(self, a: float = 1.0, learnable: bool = True):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(float(a)), requires_grad=learnable)

    def forward(self, x):
        return self.value(x)  # left to autograd, which differentiates by `a` as well

    def value(self, x):
        return x + torch.sin(self.a * x) ** 2 / self.a

    def derivative(self, x):
        return 1 + torch.sin(2 * self.a * x)


ACTIVATIONS: dict[str, type[Activation]] = {
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "gelu": GELU,
    "silu": SiLU,
    "softplus": Softplus,
    "snake": Snake,
}
