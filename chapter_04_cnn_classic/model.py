"""Five classic convolutional networks, from 1998 to 2014, each sized for pictures of 32 x 32 pixels.
五个经典卷积网络（1998 至 2014 年），都改成适合 32 × 32 图片的大小。

Convolutions are PyTorch's from here on: the package conv proves ours equal. LeNet-5 keeps its tanh and average pooling;
the four younger ones have batch normalisation (2015) in place of what they used to keep deep networks trainable.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.network import Linear

WIDEST = 8  # as a factor on the channels; AlexNet then has 490 million parameters


@dataclass
class ModelConfig:
    model: str = "vgg"  # a name in MODELS
    n_classes: int = 10
    width: float = 1.0  # factor on every number of channels
    dropout: float = 0.0  # before each linear layer of the head


class ConvNet(nn.Module):
    """Pictures (B, 3, 32, 32) -> stages, each ending at a smaller size -> head -> logits (B, n_classes)."""

    def __init__(self, stages: dict[str, nn.Module], head: nn.Module):
        super().__init__()
        self.stage_names = list(stages)
        self.stages = nn.ModuleList(stages.values())
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> the last stage's maps (B, C, h, w)."""
        for stage in self.stages:
            x = stage(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, 32, 32) -> logits (B, n_classes)."""
        return self.head(self.features(x))


class Branches(nn.Module):
    """Paths side by side, their outputs stacked along the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, sum of the branches' channels, H, W)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def conv_block(c_in: int, c_out: int, kernel: int, stride: int = 1, pool: nn.Module | None = None) -> nn.Sequential:
    """Return convolution -> pooling, if any -> batch norm -> ReLU, with padding that keeps the size at stride 1.

    A maximum commutes with every rising function. So max pooling may come before the norm and the ReLU, which then have
    a quarter of the numbers to work on. (Where the norm's learned factor is negative, the order does matter.)
    取最大值与任何单调递增的函数可以交换次序，所以最大池化可以放在归一化和 ReLU 之前，后两步的计算量就只剩四分之一。
    """
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)  # the norm has a bias
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    pooling = [pool] if pool else []
    return nn.Sequential(conv, *pooling, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


def global_head(c_in: int, config: ModelConfig) -> nn.Sequential:
    """Return the mean over all places (Lin et al. 2013) and one linear layer: works at any picture size."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(config.dropout), Linear(c_in, config.n_classes)
    )  # (B, C, h, w) -> (B, C, 1, 1) -> (B, C) -> (B, n_classes)


def lenet(config: ModelConfig) -> ConvNet:
    """LeNet-5 (LeCun et al. 1998): two rounds of convolution and average pooling, then a small MLP. No batch norm."""
    c1, c2, c3, hidden = _scaled(config, 6, 16, 120, 84)
    stages = {
        "conv1": nn.Sequential(nn.Conv2d(3, c1, 5), nn.Tanh(), nn.AvgPool2d(2)),  # 32 -> 28 -> 14
        "conv2": nn.Sequential(nn.Conv2d(c1, c2, 5), nn.Tanh(), nn.AvgPool2d(2)),  # 14 -> 10 -> 5
        "conv3": nn.Sequential(nn.Conv2d(c2, c3, 5), nn.Tanh()),  # 5 -> 1
    }
    head = [nn.Flatten(), Linear(c3, hidden), nn.Tanh(), nn.Dropout(config.dropout), Linear(hidden, config.n_classes)]
    return ConvNet(stages, nn.Sequential(*head))


def alexnet(config: ModelConfig) -> ConvNet:
    """AlexNet (Krizhevsky et al. 2012): ReLU, overlapping pooling, five convolutions, dropout in a wide MLP."""
    c1, c2, c3, c4, hidden = _scaled(config, 64, 192, 384, 256, 1024)
    stages = {
        "conv1": conv_block(3, c1, 5, pool=nn.MaxPool2d(3, 2, padding=1)),  # 32 -> 16
        "conv2": conv_block(c1, c2, 5, pool=nn.MaxPool2d(3, 2, padding=1)),  # 16 -> 8
        "conv3-5": nn.Sequential(
            conv_block(c2, c3, 3), conv_block(c3, c4, 3), conv_block(c4, c4, 3, pool=nn.MaxPool2d(3, 2, padding=1))
        ),  # 8 -> 4
    }
    layers = [nn.Flatten()]
    for c_in, c_out in ((16 * c4, hidden), (hidden, hidden)):
        layers += [nn.Dropout(config.dropout), Linear(c_in, c_out), nn.ReLU(inplace=True)]
    return ConvNet(stages, nn.Sequential(*layers, nn.Dropout(config.dropout), Linear(hidden, config.n_classes)))


VGG_PLAN = "32 96 M 96 256 M 256 384 M 384"  # a number: a convolution with so many channels; M: max pooling


def vgg(config: ModelConfig) -> ConvNet:
    """VGG (Simonyan & Zisserman 2014): nothing but 3x3 convolutions and 2x2 max pooling, wider as the maps shrink."""
    stages, c_in, side = {}, 3, 32
    for stage in VGG_PLAN.split(" M "):
        widths = _scaled(config, *map(int, stage.split()))
        blocks = []
        for i, c_out in enumerate(widths, start=1):
            last = i == len(widths) and side > 4
            blocks.append(conv_block(c_in, c_out, 3, pool=nn.MaxPool2d(2) if last else None))
            c_in = c_out
        stages[f"{side}x{side}"] = nn.Sequential(*blocks)
        side //= 2
    return ConvNet(stages, global_head(c_in, config))


def nin(config: ModelConfig) -> ConvNet:
    """Network in Network (Lin et al. 2013): a small MLP at every place, as 1x1 convolutions; no MLP at the end."""
    c1, c2, c3 = _scaled(config, 96, 160, 192)
    stages = {
        "mlpconv1": mlpconv(3, (c3, c2, c1), 5, nn.MaxPool2d(3, 2, padding=1)),  # 32 -> 16
        "mlpconv2": mlpconv(c1, (c3, c3, c3), 5, nn.AvgPool2d(3, 2, padding=1)),  # 16 -> 8
        "mlpconv3": mlpconv(c3, (c3, c3, c3), 3, None),
    }
    return ConvNet(stages, global_head(c3, config))


def mlpconv(c_in: int, widths: tuple[int, int, int], kernel: int, pool: nn.Module | None) -> nn.Sequential:
    """Return a convolution and two of 1x1: linear layers across the channels, the same at every place."""
    a, b, c = widths
    return nn.Sequential(conv_block(c_in, a, kernel), conv_block(a, b, 1), conv_block(b, c, 1, pool=pool))


def inception(config: ModelConfig) -> ConvNet:
    """GoogLeNet (Szegedy et al. 2014), with six of its nine Inception blocks and without its two extra classifiers."""
    c1, c2, c3, c4 = _scaled(config, 64, 128, 256, 384)
    stages = {
        "stem": conv_block(3, c1, 3, pool=nn.MaxPool2d(2)),  # 32 -> 16
        "16x16": nn.Sequential(inception_block(c1, c2), inception_block(c2, c3), nn.MaxPool2d(2)),  # 16 -> 8
        "8x8": nn.Sequential(inception_block(c3, c3), inception_block(c3, c4), nn.MaxPool2d(2)),  # 8 -> 4
        "4x4": nn.Sequential(inception_block(c4, c4), inception_block(c4, c4)),
    }
    return ConvNet(stages, global_head(c4, config))


def inception_block(c_in: int, c_out: int) -> Branches:
    """Return a block that looks at four sizes at once, shares 1/4, 1/2, 1/8 and 1/8 of its `c_out` channels.

    The 1x1 convolutions before the 3x3 and the 5x5 are bottlenecks: they make the expensive ones cheap.
    """
    eighth = max(1, c_out // 8)
    narrow = max(1, eighth // 2)
    return Branches(
        conv_block(c_in, 2 * eighth, 1),
        nn.Sequential(conv_block(c_in, 3 * eighth, 1), conv_block(3 * eighth, c_out - 4 * eighth, 3)),
        nn.Sequential(conv_block(c_in, narrow, 1), conv_block(narrow, eighth, 5)),
        nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv_block(c_in, eighth, 1)),
    )


MODELS: dict[str, Callable[[ModelConfig], ConvNet]] = {
    "lenet": lenet,
    "alexnet": alexnet,
    "vgg": vgg,
    "nin": nin,
    "inception": inception,
}


def build(config: dict) -> ConvNet:
    """Rebuild the network that a checkpoint's `config` describes."""
    parsed = ModelConfig(**config)
    return MODELS[parsed.model](parsed)


def _scaled(config: ModelConfig, *channels: int) -> list[int]:
    return [max(1, round(config.width * count)) for count in channels]
