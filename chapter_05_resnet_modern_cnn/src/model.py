"""ResNet of 18, 34, 50 or 101 layers, as first published (v1) or pre-activated (v2), and PlainNet: without shortcuts.
18、34、50、101 层的 ResNet：最初的 v1 与预激活的 v2；去掉捷径，就是 PlainNet。

Parameters are named as in torchvision, so that its resnet18, 34, 50 and 101 load strictly into v1 with the stem "224".
"""

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


class Block(nn.Module):
    """A branch F of two or three convolutions and, if residual, a shortcut around it.

    v1: y = relu(F(x) + x), F: convolution, norm, ReLU, ..., convolution, norm.
    v2: y = F(x) + x, F: norm, ReLU, convolution, ..., norm, ReLU, convolution.

    In v1 every block's ReLU acts on the sum. In v2 nothing does: along the sums runs one straight line through a stage.
    v1 的每个块都对“和”再做一次 ReLU；v2 则不做，于是整个阶段里有一条不被任何运算打断的直路。
    """

    expansion: int  # channels out / `width`

    def __init__(self, c_in: int, width: int, stride: int, config: ResNetConfig):
        super().__init__()
        self.version, self.residual = config.version, config.residual
        c_out = self.expansion * width
        self.downsample = None  # the identity
        if config.residual and (stride != 1 or c_in != c_out):
            norm = [nn.BatchNorm2d(c_out)] if config.version == "v1" else []
            self.downsample = nn.Sequential(convolution(c_in, c_out, 1, stride), *norm)

    def norm(self, c_in: int, c_out: int) -> nn.BatchNorm2d:
        """Return the norm that belongs to a convolution: in v1 after it, in v2 before it."""
        return nn.BatchNorm2d(c_out if self.version == "v1" else c_in)

    def branch(self, x: Tensor) -> Tensor:
        """Return F(x); in v2 its first norm and ReLU, which the shortcut may share, have been applied already."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C_in, H, W) -> (B, expansion * width, H / stride, W / stride), rounded up."""
        start = x if self.version == "v1" else relu(self.bn1(x))  # (B, C_in, H, W)
        y = self.branch(start)  # (B, C_out, h, w)
        if self.residual:
            # Where the shape changes, v2's shortcut too starts after the norm and the ReLU (He et al. 2016b).
            y = y + (x if self.downsample is None else self.downsample(start))
        return relu(y) if self.version == "v1" else y


class BasicBlock(Block):
    """Two 3x3 convolutions: of depths 18 and 34."""

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int, config: ResNetConfig):
        super().__init__(c_in, width, stride, config)
        self.conv1 = convolution(c_in, width, 3, stride)
        self.bn1 = self.norm(c_in, width)
        self.conv2 = convolution(width, width, 3)
        self.bn2 = self.norm(width, width)

    def branch(self, x: Tensor) -> Tensor:
        """x (B, C_in, H, W) -> (B, width, h, w)."""
        if self.version == "v1":
            return self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return self.conv2(relu(self.bn2(self.conv1(x))))


class Bottleneck(Block):
    """1x1 to few channels, 3x3 among these, 1x1 to four times as many: of depths 50 and 101.

    The stride is the 3x3 convolution's: in the first 1x1, where the paper has it, three places of four go unread.
    """

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int, config: ResNetConfig):
        super().__init__(c_in, width, stride, config)
        self.conv1 = convolution(c_in, width, 1)
        self.bn1 = self.norm(c_in, width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = self.norm(width, width)
        self.conv3 = convolution(width, self.expansion * width, 1)
        self.bn3 = self.norm(width, self.expansion * width)

    def branch(self, x: Tensor) -> Tensor:
        """x (B, C_in, H, W) -> (B, 4 width, h, w)."""
        if self.version == "v1":
            x = relu(self.bn1(self.conv1(x)))  # (B, width, H, W)
            x = relu(self.bn2(self.conv2(x)))  # (B, width, h, w)
            return self.bn3(self.conv3(x))
        x = relu(self.bn2(self.conv1(x)))  # (B, width, H, W)
        x = relu(self.bn3(self.conv2(x)))  # (B, width, h, w)
        return self.conv3(x)


DEPTHS = {  # the block, and how many of them each stage has: He et al. 2016a, table 1
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}
STEMS = {  # kernel and stride of the first convolution, and whether max pooling halves its maps
    "32": (3, 1, False),  # 32 -> 32 pixels for layer1, and 4 for layer4: the stem of the paper's CIFAR-10 networks
    "96": (3, 2, False),  # 96 -> 48, and 6: last maps about as fine as ImageNet's 7, for 3.8 times the work of "224"
    "224": (7, 2, True),  # 224 -> 56, and 7; 96 -> 24, and 3
}


class ResNet(nn.Module):
    """Pictures (B, 3, H, W) -> stem -> layer1, ..., layer4, each but the first halving the maps -> mean -> logits."""

    stage_names = ["layer1", "layer2", "layer3", "layer4"]

    def __init__(self, config: ResNetConfig):
        super().__init__()
        block, counts = DEPTHS[config.depth]
        kernel, stride, pool = STEMS[config.stem]
        self.config = config
        self.conv1 = convolution(3, config.width, kernel, stride)
        if config.version == "v1":
            self.bn1 = nn.BatchNorm2d(config.width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if pool else nn.Identity()
        c_in = config.width
        for i, (name, count) in enumerate(zip(self.stage_names, counts, strict=True)):
            width, blocks = config.width * 2**i, []
            for k in range(count):
                blocks.append(block(c_in, width, 2 if i > 0 and k == 0 else 1, config))
                c_in = block.expansion * width
            self.add_module(name, nn.Sequential(*blocks))
        if config.version == "v2":
            self.bn_last = nn.BatchNorm2d(c_in)  # the sums have met no norm yet
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(c_in, config.n_classes)
        if config.zero_init and config.residual:
            self._zero_branches()

    def _zero_branches(self) -> None:
        """Let every branch put out 0 at first (Goyal et al. 2017): the network starts as its shortcuts alone.

        In v1 the last norm's factor becomes 0. In v2 that norm stands before a ReLU, whose gradient at 0 is 0: the
        branch would stay dead for ever. There the last convolution becomes 0.
        v1 把分支最后一个归一化的系数置零。v2 的归一化后面是 ReLU，在 0 处梯度为 0，这样置零的分支永远学不动；因此 v2
        改为把最后一个卷积置零。
        """
        for block in self.modules():
            if isinstance(block, Block):
                last = 2 if isinstance(block, BasicBlock) else 3
                nn.init.zeros_(getattr(block, f"bn{last}" if block.version == "v1" else f"conv{last}").weight)

    def features(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> the last maps (B, C, h, w), all of them >= 0."""
        x = self.conv1(x)  # (B, width, H / stride, W / stride)
        if self.config.version == "v1":
            x = relu(self.bn1(x))
        x = self.maxpool(x)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, C, h, w)
        return x if self.config.version == "v1" else relu(self.bn_last(x))

    @property
    def head(self) -> nn.Sequential:
        """What follows the features, as in chapter 4's ConvNet."""
        return nn.Sequential(self.avgpool, nn.Flatten(), self.fc)  # (B, C, h, w) -> (B, C) -> (B, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> logits (B, n_classes)."""
        pooled = self.avgpool(self.features(x)).flatten(1)  # (B, C): global average pooling (Lin et al. 2013)
        return self.fc(pooled)


def convolution(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Return one that keeps the size at stride 1, without bias (a norm has one), started as by He et al. 2015.

    The deviation sqrt(2 / (kernel^2 c_out)) is the one that keeps gradients, not activations, at their size.
    """
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def relu(x: Tensor) -> Tensor:
    return F.relu(x, inplace=True)  # of a norm's output or a sum, which nothing else reads


def build(config: dict) -> ResNet:
    """Rebuild the network that a checkpoint's `config` describes."""
    return ResNet(ResNetConfig(**config))
