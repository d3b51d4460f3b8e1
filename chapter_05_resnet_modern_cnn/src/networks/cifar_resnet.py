"""The deep and narrow networks of He et al. 2016a, section 4.2: 6n + 2 layers, with shortcuts or without.
He 等人 2016a 第 4.2 节的深而窄的网络：6n + 2 层，带捷径或不带捷径。

Their shortcuts hold no parameters ("option A"). So a plain network and a residual one have the same parameters, to the
last one; made from the same seed they start from the same weights, and differ in the additions alone.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from chapter_05_resnet_modern_cnn.src.model import STEMS, BasicBlock, Block, PreActBasicBlock, convolution, relu_

KINDS = {  # what the experiments on depth compare: fields of the config
    "plain": {"residual": False},
    "residual": {"residual": True},
    "residual_v2": {"residual": True, "version": "v2"},
}


@dataclass
class CifarConfig:
    depth: int = 20  # 6n + 2: a stem, three stages of n blocks of two convolutions, a linear layer
    n_classes: int = 10
    width: int = 16  # channels of the first stage; each later one has twice as many
    version: str = "v1"  # as in ResNetConfig
    residual: bool = True
    stem: str = "32"  # a key of STEMS; "96" halves the maps, for a quarter of the work


class PaddedShortcut(nn.Module):
    """x (B, C_in, H, W) -> (B, C_out, H / stride, W / stride), rounded up: pixels left out, and new channels of 0."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.new_channels, self.stride = c_out - c_in, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]  # (B, C_in, h, w)
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels))  # (B, C_out, h, w): the last pair is behind the channels


class CifarResNet(nn.Module):
    """Pictures (B, 3, H, W) -> stem -> three stages, the last two halving the maps -> mean -> logits.

    No branch starts as 0: that would help the residual networks by more than their shortcuts.
    """

    stage_names = ["layer1", "layer2", "layer3"]
    block: type[Block] = BasicBlock

    def __init__(self, config: CifarConfig):
        super().__init__()
        n, rest = divmod(config.depth - 2, 6)
        if n < 1 or rest:
            raise ValueError(f"there is no network of {config.depth} layers: it takes 6n + 2, such as 20 or 56")
        self.config = config
        kernel, stride, _ = STEMS[config.stem]
        self.conv1 = convolution(3, config.width, kernel, stride)
        self.bn1 = nn.BatchNorm2d(config.width)
        c_in = config.width
        for i, name in enumerate(self.stage_names):
            c_out, stage = config.width * 2**i, nn.Sequential()
            for k in range(n):
                stage.append(self.block(c_in, c_out, 2 if i > 0 and k == 0 else 1, config.residual, PaddedShortcut))
                c_in = c_out
            self.add_module(name, stage)
        self.fc = nn.Linear(c_in, config.n_classes)

    def features(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> the last maps (B, 4 width, h, w)."""
        x = relu_(self.bn1(self.conv1(x)))  # (B, width, H / stride, W / stride)
        return self.layer3(self.layer2(self.layer1(x)))  # (B, 4 width, h, w)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> logits (B, n_classes)."""
        return self.fc(self.features(x).mean(dim=(2, 3)))


class CifarResNetV2(CifarResNet):
    """The same of version 2's blocks, whose sums meet a norm and a ReLU behind the last one only."""

    block = PreActBasicBlock

    def __init__(self, config: CifarConfig):
        super().__init__(config)
        del self.bn1
        self.bn_last = nn.BatchNorm2d(self.fc.in_features)

    def features(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) -> the last maps (B, 4 width, h, w)."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))  # (B, 4 width, h, w)
        return relu_(self.bn_last(x))


def build(config: dict) -> CifarResNet:
    """Rebuild the network that a checkpoint's `config` describes."""
    parsed = CifarConfig(**config)
    return {"v1": CifarResNet, "v2": CifarResNetV2}[parsed.version](parsed)
