"""ResNet of 18, 34, 50 or 101 layers, as first published (v1) or pre-activated (v2), and PlainNet: without shortcuts.
18、34、50、101 层的 ResNet：最初的 v1 与预激活的 v2；去掉捷径，就是 PlainNet。

Parameters are named as in torchvision, so that its resnet18, 34, 50 and 101 load strictly into v1 with the stem "224".
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class ResNetConfig:
    depth: int = 18  # a key of DEPTHS: the convolutions on the main path, and the linear layer
    n_classes: int = 10
    width: int = 64  # channels of layer1's 3x3 convolutions; each later stage has twice as many
    version: str = "v1"  # "v1": ReLU after the sum (He et al. 2016a); "v2": norm and ReLU before (He et al. 2016b)
    residual: bool = True  # False: PlainNet
    stem: str = "96"  # a key of STEMS: for pictures of about that side
    zero_init: bool = True  # every block starts as the identity; not in PlainNet, which it would cut through


def convolution(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Return one that keeps the size at stride 1, without bias (a norm has one), started as by He et al. 2015.

    The standard deviation sqrt(2 / (kernel^2 c_out)) is the one that keeps gradients, not activations, at their size.
    """
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def relu_(x: Tensor) -> Tensor:
    """ReLU in place: of a norm's output or a sum, which nothing else reads."""
    return F.relu(x, inplace=True)


# --- version 1: ReLU after the sum ------------------------------------------------------------------------------------


def projection(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """Return v1's shortcut where the shape changes: a 1x1 convolution and a norm (option B)."""
    return nn.Sequential(convolution(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))


class Block(nn.Module):
    """y = relu(F(x) + x), F: convolution, norm, ReLU, ..., convolution, norm. Without shortcut y = relu(F(x)).

    `downsample` makes the shortcut of (C_in, C_out, stride) where the branch changes the shape.
    """

    expansion: int  # channels out / `width`

    def __init__(
        self,
        c_in: int,
        width: int,
        stride: int = 1,
        residual: bool = True,
        downsample: Callable[[int, int, int], nn.Module] = projection,
    ):
        super().__init__()
        c_out = self.expansion * width
        self.residual = residual
        self.downsample = None  # the identity
        if residual and (stride != 1 or c_in != c_out):
            self.downsample = downsample(c_in, c_out, stride)

    def branch(self, x: Tensor) -> Tensor:
        """Return F(x)."""
        raise NotImplementedError

    def zero_branch_(self) -> None:
        """Let F be 0, so that the block starts as its shortcut: the last norm's factor becomes 0."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C_in, H, W) -> (B, expansion * width, H / stride, W / stride), rounded up."""
        y = self.branch(x)  # (B, C_out, h, w)
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))
        return relu_(y)


class BasicBlock(Block):
    """Two 3x3 convolutions: of depths 18 and 34."""

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int = 1, residual: bool = True, downsample=projection):
        super().__init__(c_in, width, stride, residual, downsample)
        self.conv1 = convolution(c_in, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)

    def branch(self, x: Tensor) -> Tensor:
        """x (B, C_in, H, W) -> (B, width, h, w)."""
        x = relu_(self.bn1(self.conv1(x)))  # (B, width, h, w)
        return self.bn2(self.conv2(x))

    def zero_branch_(self) -> None:
        nn.init.zeros_(self.bn2.weight)


class Bottleneck(Block):
    """1x1 to few channels, 3x3 among these, 1x1 to four times as many: of depths 50 and 101.

    The stride is the 3x3 convolution's: in the first 1x1, where the paper has it, three places of four go unread.
    """

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int = 1, residual: bool = True, downsample=projection):
        super().__init__(c_in, width, stride, residual, downsample)
        self.conv1 = convolution(c_in, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, self.expansion * width, 1)
        self.bn3 = nn.BatchNorm2d(self.expansion * width)

    def branch(self, x: Tensor) -> Tensor:
        """x (B, C_in, H, W) -> (B, expansion * width, h, w)."""
        x = relu_(self.bn1(self.conv1(x)))  # (B, width, H, W)
        x = relu_(self.bn2(self.conv2(x)))  # (B, width, h, w)
        return self.bn3(self.conv3(x))

    def zero_branch_(self) -> None:
        nn.init.zeros_(self.bn3.weight)


# --- version 2: norm and ReLU before each convolution, nothing on the sum ---------------------------------------------


def bare_projection(c_in: int, c_out: int, stride: int) -> nn.Conv2d:
    """Return v2's shortcut where the shape changes; what it reads has been normalised already."""
    return nn.Sequential(convolution(c_in, c_out, 1, stride))


class PreActBlock(Block):
    """y = F(x) + x, F: norm, ReLU, convolution, ..., norm, ReLU, convolution. Without shortcut y = F(x).

    In v1 every block's ReLU acts on the sum. Here nothing does: along the sums runs one straight line through a stage.
    v1 的每个块都对“和”再做一次 ReLU；v2 则不做，于是整个阶段里有一条不被任何运算打断的直路。
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C_in, H, W) -> (B, expansion * width, H / stride, W / stride), rounded up."""
        start = relu_(self.bn1(x))  # (B, C_in, H, W)
        y = self.branch(start)  # (B, C_out, h, w)
        if self.residual:
            # Where the shape changes, the shortcut too starts after the norm and the ReLU (He et al. 2016b).
            y = y + (x if self.downsample is None else self.downsample(start))
        return y


class PreActBasicBlock(PreActBlock):
    """Two 3x3 convolutions, each behind a norm of its inputs."""

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int = 1, residual: bool = True, downsample=bare_projection):
        super().__init__(c_in, width, stride, residual, downsample)
        self.conv1 = convolution(c_in, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)

    def branch(self, x: Tensor) -> Tensor:
        """Normalised x (B, C_in, H, W) -> (B, width, h, w)."""
        x = relu_(self.bn2(self.conv1(x)))  # (B, width, h, w)
        return self.conv2(x)

    def zero_branch_(self) -> None:
        """A zeroed norm before a ReLU, whose gradient at 0 is 0, would stay dead for ever: the convolution becomes 0.

        v2 的归一化后面是 ReLU，在 0 处梯度为 0，这样置零的分支永远学不动；因此改为把最后一个卷积置零。
        """
        nn.init.zeros_(self.conv2.weight)


class PreActBottleneck(PreActBlock):
    """1x1 to few channels, 3x3 among these, 1x1 to four times as many, each behind a norm of its inputs."""

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int = 1, residual: bool = True, downsample=bare_projection):
        super().__init__(c_in, width, stride, residual, downsample)
        self.conv1 = convolution(c_in, width, 1)
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, self.expansion * width, 1)
        self.bn3 = nn.BatchNorm2d(width)

    def branch(self, x: Tensor) -> Tensor:
        """Normalised x (B, C_in, H, W) -> (B, expansion * width, h, w)."""
        x = relu_(self.bn2(self.conv1(x)))  # (B, width, H, W)
        x = relu_(self.bn3(self.conv2(x)))  # (B, width, h, w)
        return self.conv3(x)

    def zero_branch_(self) -> None:
        nn.init.zeros_(self.conv3.weight)


# --- networks ---------------------------------------------------------------------------------------------------------

DEPTHS = {  # the kind of block, and how many of them each stage has: He et al. 2016a, table 1
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
}
STEMS = {  # kernel and stride of the first convolution, and whether max pooling halves its maps
    "32": (3, 1, False),  # 32 -> 32 pixels for layer1, and 4 for layer4: the stem of the paper's CIFAR-10 networks
    "96": (3, 2, False),  # 96 -> 48, and 6: last maps about as fine as ImageNet's 7, for 3.8 times the work of "224"
    "224": (7, 2, True),  # 224 -> 56, and 7; 96 -> 24, and 3
}


class ResNet(nn.Module):
    """Pictures (B, 3, H, W) -> stem -> layer1, ..., layer4, each but the first halving the maps -> mean -> logits."""

    stage_names = ["layer1", "layer2", "layer3", "layer4"]
    blocks: dict[str, type[Block]] = {"basic": BasicBlock, "bottleneck": Bottleneck}

    def __init__(self, config: ResNetConfig):
        super().__init__()
        kind, counts = DEPTHS[config.depth]
        kernel, stride, pool = STEMS[config.stem]
        self.config = config
        self.conv1 = convolution(3, config.width, kernel, stride)
        self.bn1 = nn.BatchNorm2d(config.width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if pool else nn.Identity()
        c_in = config.width
        for i, (name, count) in enumerate(zip(self.stage_names, counts, strict=True)):
            stage = nn.Sequential()
            for k in range(count):
                block = self.blocks[kind](c_in, config.width * 2**i, 2 if i > 0 and k == 0 else 1, config.residual)
                if config.zero_init and config.residual:  # Goyal et al. 2017: the network starts as its shortcuts alone
                    block.zero_branch_()
                stage.append(block)
                c_in = block.expansion * config.width * 2**i
            self.add_module(name, stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(c_in, config.n_classes)

    def features(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> the last maps (B, C, h, w), all of them >= 0."""
        x = relu_(self.bn1(self.conv1(x)))  # (B, width, H / stride, W / stride)
        x = self.maxpool(x)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, C, h, w)

    @property
    def head(self) -> nn.Sequential:
        """What follows the features, as in chapter 4's ConvNet."""
        return nn.Sequential(self.avgpool, nn.Flatten(), self.fc)  # (B, C, h, w) -> (B, C) -> (B, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> logits (B, n_classes)."""
        pooled = self.avgpool(self.features(x)).flatten(1)  # (B, C): global average pooling (Lin et al. 2013)
        return self.fc(pooled)


class ResNetV2(ResNet):
    """The same of version 2's blocks: no norm in the stem, as each block begins with one; one behind the last sum."""

    blocks = {"basic": PreActBasicBlock, "bottleneck": PreActBottleneck}

    def __init__(self, config: ResNetConfig):
        super().__init__(config)
        del self.bn1
        self.bn_last = nn.BatchNorm2d(self.fc.in_features)  # the sums have met no norm yet

    def features(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> the last maps (B, C, h, w), all of them >= 0."""
        x = self.maxpool(self.conv1(x))  # (B, width, ...)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, C, h, w)
        return relu_(self.bn_last(x))


def build(config: dict) -> ResNet:
    """Rebuild the network that a checkpoint's `config` describes."""
    parsed = ResNetConfig(**config)
    return {"v1": ResNet, "v2": ResNetV2}[parsed.version](parsed)
