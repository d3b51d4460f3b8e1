"""Five blocks that came after ResNet's: squeeze-and-excitation, ResNeXt, DenseNet, MobileNetV2, ConvNeXt.
ResNet 之后的五种块：SE、ResNeXt、DenseNet、MobileNetV2、ConvNeXt。

Each says what it computes and how many multiply-accumulates (MACs) it takes: those of its convolutions and linear
layers, as utils.model_summary counts them. Maps are H x W before a block and h x w after it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chapter_03_optimization_regularization.regularization import DropPath
from chapter_05_resnet_modern_cnn.src.model import BasicBlock, Bottleneck, convolution, relu_


def grouped(channels: int, kernel: int, stride: int, groups: int) -> nn.Conv2d:
    """Return a convolution in `groups` parts, each of which sees and makes its own C / groups channels.

    MACs: k^2 C^2 / groups a place. With as many groups as channels it is depthwise: k^2 C, one small picture filter
    for each channel, and no channel learns of another. A 1x1 convolution, C^2, then mixes them.

    It starts as by He et al. 2015; a number that comes in reaches only C / groups of those that go out.
    """
    conv = nn.Conv2d(channels, channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    nn.init.normal_(conv.weight, std=(2 * groups / (kernel**2 * channels)) ** 0.5)
    return conv


# --- squeeze-and-excitation -------------------------------------------------------------------------------------------


class SqueezeExcitation(nn.Module):
    """Attention over channels: y = s x with one factor a channel, s = sigmoid(W2 relu(W1 m + b1) + b2).

    m is the channels' means over all places (squeeze), W1 (C/r, C) and W2 (C, C/r) find out from it which channels this
    picture needs (excitation); r is `reduction`. Hu et al. 2018, equations 2 to 4. MACs: 2 C^2 / r, whatever H and W.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C, H, W)."""
        means = x.mean(dim=(2, 3))  # (B, C)
        scale = torch.sigmoid(self.fc2(F.relu(self.fc1(means))))  # (B, C)
        return x * scale[:, :, None, None]


class SEBasicBlock(BasicBlock):
    """y = relu(SE(F(x)) + x): the branch is weighed before the sum, never the shortcut (Hu et al. 2018, figure 3).

    MACs: those of the basic block and 2 C^2 / r.
    """

    def __init__(self, c_in: int, width: int, stride: int = 1, reduction: int = 16):
        super().__init__(c_in, width, stride)
        self.se = SqueezeExcitation(width, reduction)

    def branch(self, x: Tensor) -> Tensor:
        """x (B, C_in, H, W) -> (B, width, h, w)."""
        return self.se(super().branch(x))


# --- ResNeXt ----------------------------------------------------------------------------------------------------------


class ResNeXtBottleneck(Bottleneck):
    """ResNet's bottleneck with its 3x3 convolution in groups: y = relu(x + norm(sum of `groups` small branches)).

    Cut the D inner channels into groups of D/G: each goes its own way from x through 1x1, 3x3 and 1x1, and the last 1x1
    adds the ways up. Xie et al. 2017, equation 2 and figure 3. The 3x3 costs 1/G, so the inside can be half as wide as
    the outside, where ResNet's is a quarter.

    MACs: H W C_in D + h w (9 D^2 / G + 2 D^2), D = `width`, and h w C_in 2 D where the shortcut has a convolution.
    """

    expansion = 2

    def __init__(self, c_in: int, width: int, stride: int = 1, groups: int = 32):
        super().__init__(c_in, width, stride)
        self.conv2 = grouped(width, 3, stride, groups)


# --- DenseNet ---------------------------------------------------------------------------------------------------------


class DenseLayer(nn.Module):
    """k new maps out of all C before them: norm, ReLU, 1x1 to 4 k, norm, ReLU, 3x3 to k.

    DenseNet-B in Huang et al. 2017, section 3; k is `growth`. MACs: H W (4 k C + 36 k^2).
    """

    def __init__(self, c_in: int, growth: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(c_in)
        self.conv1 = convolution(c_in, 4 * growth, 1)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = convolution(4 * growth, growth, 3)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, k, H, W)."""
        x = self.conv1(relu_(self.norm1(x)))  # (B, 4 k, H, W)
        return self.conv2(relu_(self.norm2(x)))


class DenseBlock(nn.Sequential):
    """L layers, each of which sees the input and what all layers before it made: x_l = H_l([x_0, ..., x_(l-1)]).

    Huang et al. 2017, equation 2. Where ResNet adds, this stacks: nothing is overwritten, so every layer may be narrow.
    Layer l (from 0) starts from C + l k maps, which makes H W k L (4 C + 2 k (L - 1) + 36 k) MACs.
    """

    def __init__(self, c_in: int, growth: int, n_layers: int):
        super().__init__()
        for i in range(n_layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(c_in + i * growth, growth))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C + L k, H, W): the input and all that was made of it."""
        for layer in self:
            x = torch.cat([x, layer(x)], dim=1)  # (B, C + l k, H, W)
        return x


class Transition(nn.Module):
    """Between dense blocks: norm, ReLU, 1x1 to (as a rule) half as many maps, of half the size.

    DenseNet-C in Huang et al. 2017, section 3. MACs: H W C_in C_out. The mean of four places and the 1x1 commute; taken
    before it, the mean would save three quarters of the work. The paper and torchvision have them in this order.
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.conv = convolution(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C_in, H, W) -> (B, C_out, H / 2, W / 2), rounded down."""
        return F.avg_pool2d(self.conv(relu_(self.norm(x))), 2)


# --- MobileNetV2 ------------------------------------------------------------------------------------------------------


class InvertedResidual(nn.Module):
    """y = x + F(x), F: 1x1 to t C_in channels, depthwise 3x3, 1x1 to C_out. ReLU6 after the first two, none at the end.

    Sandler et al. 2018, table 1; t is `expansion`. The bottleneck turned inside out: wide where a depthwise filter is
    cheap, narrow where the shortcut runs. At the narrow end a ReLU would lose for good what no other channel keeps
    (section 3.2). There is no shortcut where the shape changes, nor with t = 1 a first 1x1.

    MACs: H W t C_in^2 (without the first 1x1: none) + h w t C_in (9 + C_out).
    """

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int = 6):
        super().__init__()
        hidden = expansion * c_in
        widen = [norm_relu6(convolution(c_in, hidden, 1))] if expansion != 1 else []
        filtered = norm_relu6(grouped(hidden, 3, stride, hidden))
        self.conv = nn.Sequential(*widen, filtered, convolution(hidden, c_out, 1), nn.BatchNorm2d(c_out))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C_in, H, W) -> (B, C_out, H / stride, W / stride), rounded up."""
        y = self.conv(x)  # (B, C_out, h, w)
        return x + y if self.residual else y


def norm_relu6(conv: nn.Conv2d) -> nn.Sequential:
    """Return the convolution, a norm and min(max(x, 0), 6), whose range suits numbers of 8 bits."""
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU6(inplace=True))


# --- ConvNeXt ---------------------------------------------------------------------------------------------------------


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels at each place by itself, as a Transformer's over each token."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, H, W, C) in between


class ConvNeXtBlock(nn.Module):
    """y = x + scale F(x), F: depthwise 7x7, LayerNorm over the channels, 1x1 to 4 C, GELU, 1x1 back to C.

    Liu et al. 2022, figure 4: a Transformer's block with a depthwise convolution for its attention. Layer scale, one
    learned factor a channel (Touvron et al. 2021), starts near 0: the block near the identity. In training the whole
    branch is left out for a share `drop_path` of the pictures (stochastic depth, Huang et al. 2016).

    MACs: H W (49 C + 8 C^2).
    """

    def __init__(self, channels: int, drop_path: float = 0.0, layer_scale: float = 1e-6):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C, H, W)."""
        y = self.depthwise(x).permute(0, 2, 3, 1)  # (B, H, W, C): linear layers act on the last axis
        y = self.project(F.gelu(self.expand(self.norm(y))))  # (B, H, W, 4 C), then (B, H, W, C)
        y = y.permute(0, 3, 1, 2)  # (B, C, H, W)
        return x + self.drop_path(self.layer_scale * y)
