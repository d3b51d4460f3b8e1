"""The multilayer perceptron, on a linear layer of our own.
多层感知机，建立在我们自己的线性层上。
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from chapter_02_nn_basics_mlp.activations import ACTIVATIONS
from chapter_02_nn_basics_mlp.initialization import INITIALIZERS, calculate_gain, kaiming_uniform_


class Linear(nn.Module):
    """y = x W^T + b, with `weight` (d_out, d_in) and `bias` (d_out,); starts where `torch.nn.Linear` starts."""

    def __init__(self, d_in: int, d_out: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in))
        kaiming_uniform_(self.weight, gain=1 / math.sqrt(3))  # U(-bound, bound)
        bound = 1 / math.sqrt(d_in)
        self.bias = nn.Parameter(torch.empty(d_out).uniform_(-bound, bound)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., d_in) -> (..., d_out)."""
        y = x @ self.weight.T  # (..., d_out)
        return y if self.bias is None else y + self.bias


@dataclass
class MLPConfig:
    d_in: int = 1
    d_hidden: int = 64
    n_hidden: int = 2
    d_out: int = 1
    activation: str = "relu"  # a name in ACTIVATIONS
    initialization: str = "pytorch"  # as Linear starts; or a name in INITIALIZERS, biases zero
    batch_norm: bool = False
    dropout: float = 0.0


class MLP(nn.Module):
    """x -> `n_hidden` layers of `d_hidden` units -> a linear head. Without hidden layers it is a linear model."""

    def __init__(self, config: MLPConfig):
        super().__init__()
        widths = [config.d_in] + [config.d_hidden] * config.n_hidden
        self.hidden = nn.Sequential(*(hidden_layer(a, b, config) for a, b in pairwise(widths)))
        self.head = Linear(widths[-1], config.d_out)
        if config.initialization != "pytorch":
            self._initialize(config)

    def _initialize(self, config: MLPConfig) -> None:
        initialize_ = INITIALIZERS[config.initialization]
        # Glorot & Bengio took the units to be linear; the others make up for what the activation takes away.
        linear = config.initialization.startswith("xavier")
        gain = 1.0 if linear else calculate_gain(ACTIVATIONS[config.activation]())
        for layer in self.hidden:
            initialize_(layer.linear.weight, gain)
            nn.init.zeros_(layer.linear.bias)
        initialize_(self.head.weight, 1.0)
        nn.init.zeros_(self.head.bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, d_in) -> the last hidden layer's activations (B, d_hidden)."""
        return self.hidden(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, d_in) -> predictions or logits (B, d_out)."""
        return self.head(self.features(x))


def hidden_layer(d_in: int, d_out: int, config: MLPConfig) -> nn.Sequential:
    """Return linear -> (batch norm) -> activation -> (dropout); the parts are attributes, such as `layer.linear`."""
    parts = OrderedDict(linear=Linear(d_in, d_out))
    if config.batch_norm:
        parts["norm"] = nn.BatchNorm1d(d_out)
    parts["activation"] = ACTIVATIONS[config.activation]()
    if config.dropout > 0:
        parts["dropout"] = nn.Dropout(config.dropout)
    return nn.Sequential(parts)


def build(config: dict) -> MLP:
    """Rebuild the network that a checkpoint's `config` describes."""
    return MLP(MLPConfig(**config))
