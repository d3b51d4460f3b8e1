"""LoRA: a trained model learns something new through two thin matrices beside each of its frozen ones.
LoRA：冻结训练好的每个矩阵，只训练它旁边两个瘦长的矩阵，让模型学会新东西。

    y = W x + alpha / r * B A x     W (out, in) frozen, A (r, in), B (out, r) with r far below both

B begins at zero, so the model begins as it was. Afterwards B A can be added to W, and costs nothing any more.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chapter_10_llm_modern_components.model_compression.linear_layers import PROJECTIONS, replace_layers_
from chapter_10_llm_modern_components.model_compression.quantization import FourBitLinear, Int8Linear


@dataclass
class LoRAConfig:
    """What rebuilds a model's adapters."""

    rank: int = 4
    alpha: float = 8.0  # the update is multiplied by alpha / rank, so that another rank asks for no other rate
    layers: tuple[str, ...] = PROJECTIONS  # names of the layers that get one


class LoRALinear(nn.Module):
    """A frozen linear layer, of full precision or quantized, and an update of low rank (Hu et al. 2021, equation 3).

    Raises:
        ValueError: a rank below 1, or one that saves nothing.
    """

    def __init__(self, base: nn.Module, rank: int, alpha: float):
        super().__init__()
        if not 1 <= rank <= min(base.in_features, base.out_features):
            sizes = f"a layer from {base.in_features} to {base.out_features} numbers"
            raise ValueError(f"the rank of {sizes} is at least 1 and at most the smaller, not {rank}")
        self.base = base.requires_grad_(False)
        self.in_features, self.out_features, self.scale = base.in_features, base.out_features, alpha / rank
        like = base.weight  # for its device and precision
        self.a = nn.Parameter(torch.randn(rank, base.in_features).to(like) / math.sqrt(base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank).to(like))
        self.merged, self.active = False, True

    def update(self) -> Tensor:
        """Return (out, in), what is added to the frozen weights."""
        return self.scale * self.b @ self.a

    @property
    def weight(self) -> Tensor:
        """The weights (out, in) with which the layer computes."""
        return self.base.weight + self.update() if self.active and not self.merged else self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out); the thin matrices one after the other, their product is never formed."""
        y = self.base(x)
        if self.merged or not self.active:
            return y
        return y + self.scale * (x @ self.a.T @ self.b.T)  # (..., r) in between

    @torch.no_grad()
    def merge_(self, sign: int = 1) -> None:
        """Add the update to the base's weights; with a sign of -1 take it away again.

        Raises:
            ValueError: the base is quantized, whose weights cannot take up a small change.
        """
        if not isinstance(self.base, nn.Linear):
            raise ValueError("an update cannot be merged into quantized weights: merge it into those of full precision")
        if self.merged != (sign == 1):
            self.base.weight += sign * self.update()
            self.merged = sign == 1


def add_lora_(model: nn.Module, config: LoRAConfig) -> None:
    """Freeze the model and give the layers that `config` names an adapter each; those alone are trained from now on.

    Raises:
        ValueError: no layer has such a name, or the rank does not fit one.
    """
    model.requires_grad_(False)
    replace_layers_(model, config.layers, lambda layer: LoRALinear(layer, config.rank, config.alpha))


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def merge_(model: nn.Module) -> None:
    """Add all updates to the frozen weights: the model then computes as fast as without."""
    for layer in lora_layers(model).values():
        layer.merge_()


def unmerge_(model: nn.Module) -> None:
    """Take all updates out of the weights again, to train on, or to put in others; rounding may change last bits."""
    for layer in lora_layers(model).values():
        layer.merge_(sign=-1)


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Let the model compute as before its adapters for a while: the reference of DPO and PPO, which needs no copy.

    Raises:
        ValueError: the updates are merged into the weights.
    """
    layers = lora_layers(model).values()
    if any(layer.merged for layer in layers):
        raise ValueError("the adapters are merged into the weights: unmerge them first")
    for layer in layers:
        layer.active = False
    try:
        yield
    finally:
        for layer in layers:
            layer.active = True


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the matrices A and B of all layers by name: all that a training has changed, and needs to save."""
    return {f"{name}.{part}": getattr(layer, part) for name, layer in lora_layers(model).items() for part in "ab"}


@torch.no_grad()
def load_adapter_(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy in what `adapter_state` returned.

    Raises:
        ValueError: it is of other layers, or of another rank, or the updates are merged.
    """
    own = adapter_state(model)
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in state.items()}:
        raise ValueError("the adapters are another model's, of other layers, or of another rank")
    if any(layer.merged for layer in lora_layers(model).values()):
        raise ValueError("the adapters are merged into the weights: unmerge them first")
    for name, tensor in own.items():
        tensor.copy_(state[name])


class AdaptedModel:
    """What an adapter's file is read into: a model, which gets its adapters when their weights are there."""

    def __init__(self, model: nn.Module, config: LoRAConfig):
        self.model, self.config = model, config

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        add_lora_(self.model, self.config)
        load_adapter_(self.model, state)


def trained_share(model: nn.Module) -> float:
    """Return the share, from 0 to 1, of a model's weights that are trained; quantized ones count, too."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    packed = [layer for layer in model.modules() if isinstance(layer, (Int8Linear, FourBitLinear))]
    total = sum(n for n, _ in sizes) + sum(layer.in_features * layer.out_features for layer in packed)
    return sum(n for n, trained in sizes if trained) / total
