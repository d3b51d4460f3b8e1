"""The chapter's network: a multilayer perceptron on our own engine.
本章的网络：跑在自制引擎上的多层感知机。
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from chapter_01_tensor_autograd.nn import Linear, Module, ReLU, Sequential, Tanh


@dataclass
class MLPConfig:
    widths: tuple[int, ...] = (784, 256, 128, 10)  # inputs, hidden layers, logits
    activation: str = "relu"


def mlp(config: MLPConfig, rng: np.random.Generator) -> Sequential:
    """Return Linear, activation, Linear, ..., Linear: x (N, widths[0]) -> logits (N, widths[-1])."""
    activation: type[Module] = {"relu": ReLU, "tanh": Tanh}[config.activation]
    layers: list[Module] = []
    for d_in, d_out in pairwise(config.widths):
        layers += [Linear(d_in, d_out, rng), activation()]
    return Sequential(*layers[:-1])


def build(config: dict) -> Sequential:
    """Rebuild the network that a checkpoint's `config` describes; its weights are still to be loaded."""
    return mlp(MLPConfig(**config), np.random.default_rng(0))
