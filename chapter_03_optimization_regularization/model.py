"""A small convolutional network, with this chapter's norms and dropout in it.
一个小型卷积网络，装有本章的归一化层与 dropout。

Convolutions are PyTorch's: chapter 4 takes them apart. So are the kernels of the norms, where PyTorch has one: tests
prove ours equal, and its are several times faster on channels_last pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from chapter_02_nn_basics_mlp.network import Linear
from chapter_03_optimization_regularization.normalization import make_norm
from chapter_03_optimization_regularization.regularization import Dropout

KERNELS: dict[str, Callable[[int], nn.Module]] = {  # equal to make_norm(name, channels), weights' names included
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "group": lambda channels: nn.GroupNorm(make_norm("group", channels).n_groups, channels),
    "instance": lambda channels: nn.GroupNorm(channels, channels),
}


@dataclass
class CNNConfig:
    n_classes: int = 10
    width: int = 32  # channels of the first of three stages; each next one has twice as many
    n_convs: int = 2  # convolutions in each stage
    norm: str = "batch"  # a name in normalization.NORMS
    dropout: float = 0.0  # before the head


class CNN(nn.Module):
    """Pictures (B, 1, H, W) -> three stages at full, half and quarter size -> the mean over all places -> logits."""

    def __init__(self, config: CNNConfig):
        super().__init__()
        widths = [config.width * 2**stage for stage in range(3)]
        self.stages = nn.ModuleList()
        c_in = 1
        for c_out in widths:
            convs = [conv_block(c_in if i == 0 else c_out, c_out, config.norm) for i in range(config.n_convs)]
            self.stages.append(nn.Sequential(*convs))
            c_in = c_out
        self.pool = nn.MaxPool2d(2)
        self.dropout = Dropout(config.dropout)
        self.head = Linear(c_in, config.n_classes)

    def features(self, x: Tensor) -> Tensor:
        """x (B, 1, H, W) -> (B, 4 * width)."""
        for i, stage in enumerate(self.stages):
            x = stage(self.pool(x) if i > 0 else x)  # (B, width * 2^i, H / 2^i, W / 2^i)
        return x.mean(dim=(2, 3))  # (B, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 1, H, W) -> logits (B, n_classes)."""
        return self.head(self.dropout(self.features(x)))


def conv_block(c_in: int, c_out: int, norm: str) -> nn.Sequential:
    """Return convolution 3x3 -> norm -> ReLU. A norm's bias makes the convolution's superfluous."""
    conv = nn.Conv2d(c_in, c_out, kernel_size=3, padding=1, bias=norm == "none")
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(
        conv, KERNELS[norm](c_out) if norm in KERNELS else make_norm(norm, c_out), nn.ReLU(inplace=True)
    )


def build(config: dict) -> CNN:
    """Rebuild the network that a checkpoint's `config` describes."""
    return CNN(CNNConfig(**config))
