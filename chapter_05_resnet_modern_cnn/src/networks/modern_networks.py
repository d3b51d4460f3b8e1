"""Networks made of the modern blocks: four as published, and one skeleton for CIFAR-10 that takes any block.
由这些现代的块搭成的网络：四个原论文的网络，以及一个可以换上任意一种块、用于 CIFAR-10 的骨架。

Every network is `features`, pictures (B, 3, H, W) -> maps (B, C, h, w), and `head`, maps -> logits (B, n_classes).
"""

import re
from dataclasses import dataclass

from torch import Tensor, nn

from chapter_03_optimization_regularization.regularization import drop_path_rates
from chapter_05_resnet_modern_cnn.src.model import BasicBlock, Block, Bottleneck, convolution
from chapter_05_resnet_modern_cnn.src.networks.modern_blocks import (
    ChannelNorm,
    ConvNeXtBlock,
    DenseBlock,
    InvertedResidual,
    ResNeXtBottleneck,
    SEBasicBlock,
    Transition,
    norm_relu6,
)


def network(features: dict[str, nn.Module], c_out: int, n_classes: int, norm: bool = False) -> nn.Sequential:
    """Return the features, which end with `c_out` maps, and a head: mean over all places, (LayerNorm,) linear layer."""
    last = {"norm": ChannelNorm(c_out)} if norm else {}
    head = {"pool": nn.AdaptiveAvgPool2d(1), **last, "flatten": nn.Flatten(), "linear": nn.Linear(c_out, n_classes)}
    return chain(features=chain(**features), head=chain(**head))


def chain(**parts: nn.Module) -> nn.Sequential:
    """Return a Sequential whose parts have names."""
    model = nn.Sequential()
    for name, part in parts.items():
        model.add_module(name, part)
    return model


def residual_stage(
    block: type[Block], c_in: int, width: int, count: int, stride: int, **options: int
) -> nn.Sequential:  # fmt: skip
    """Return `count` of ResNet's or ResNeXt's blocks, the first of which has the stride and changes the channels."""
    blocks = []
    for k in range(count):
        blocks.append(block(c_in, width, stride if k == 0 else 1, **options))
        c_in = block.expansion * width
    return nn.Sequential(*blocks)


# --- as published, for pictures of 224 x 224 --------------------------------------------------------------------------


def resnext50(n_classes: int = 1000) -> nn.Sequential:
    """ResNeXt-50 (32x4d): 32 groups, of 4 channels in the first stage (Xie et al. 2017, table 1)."""
    features = {"conv1": convolution(3, 64, 7, 2), "bn1": nn.BatchNorm2d(64), "relu": nn.ReLU(inplace=True)}
    features["maxpool"] = nn.MaxPool2d(3, 2, padding=1)
    c = 64
    for i, count in enumerate((3, 4, 6, 3)):
        width = 128 * 2**i
        features[f"layer{i + 1}"] = residual_stage(ResNeXtBottleneck, c, width, count, 1 if i == 0 else 2, groups=32)
        c = ResNeXtBottleneck.expansion * width
    return network(features, c, n_classes)


def densenet121(n_classes: int = 1000, growth: int = 32) -> nn.Sequential:
    """DenseNet-121 (Huang et al. 2017, table 1)."""
    c = 2 * growth
    features = {"conv0": convolution(3, c, 7, 2), "norm0": nn.BatchNorm2d(c), "relu0": nn.ReLU(inplace=True)}
    features["pool0"] = nn.MaxPool2d(3, 2, padding=1)
    for i, count in enumerate((6, 12, 24, 16)):
        if i > 0:
            features[f"transition{i}"] = Transition(c, c // 2)
            c //= 2
        features[f"denseblock{i + 1}"] = DenseBlock(c, growth, count)
        c += count * growth
    features |= {"norm5": nn.BatchNorm2d(c), "relu5": nn.ReLU(inplace=True)}
    return network(features, c, n_classes)


MOBILENET_V2 = [  # expansion, channels, blocks, stride of the first (Sandler et al. 2018, table 2)
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
]  # fmt: skip


def mobilenet_v2(n_classes: int = 1000) -> nn.Sequential:
    """MobileNetV2 of width 1 (Sandler et al. 2018), without dropout."""
    blocks, c = [norm_relu6(convolution(3, 32, 3, 2))], 32
    for expansion, c_out, count, stride in MOBILENET_V2:
        for k in range(count):
            blocks.append(InvertedResidual(c, c_out, stride if k == 0 else 1, expansion))
            c = c_out
    blocks.append(norm_relu6(convolution(c, 1280, 1)))
    return network({str(i): block for i, block in enumerate(blocks)}, 1280, n_classes)


def convnext_tiny(n_classes: int = 1000, drop_path: float = 0.1) -> nn.Sequential:
    """ConvNeXt-T (Liu et al. 2022); the stem cuts the picture into patches of 4 x 4, as a Vision Transformer does."""
    counts, c = (3, 3, 9, 3), 96
    rates = iter([0.0, *drop_path_rates(sum(counts) - 1, drop_path)])
    parts = [nn.Sequential(nn.Conv2d(3, c, 4, 4), ChannelNorm(c))]
    for i, count in enumerate(counts):
        if i > 0:
            parts.append(halve(c))
            c *= 2
        parts.append(nn.Sequential(*(ConvNeXtBlock(c, next(rates)) for _ in range(count))))
    return init_convnext_(network({str(i): part for i, part in enumerate(parts)}, c, n_classes, norm=True))


def halve(channels: int) -> nn.Sequential:
    """Return what ConvNeXt has between stages: a norm, and 2x2 patches become places with twice as many channels."""
    return nn.Sequential(ChannelNorm(channels), nn.Conv2d(channels, 2 * channels, 2, 2))


def init_convnext_(model: nn.Module) -> nn.Module:
    """Let weights start as ConvNeXt's do: normal with deviation 0.02, cut off at 2 (not deviations); biases 0."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


PUBLISHED = {  # torchvision's name: our function, and what turns names of torchvision's tensors into ours
    "resnext50_32x4d": (resnext50, [(r"^(?!fc\.)", "features."), (r"^fc\.", "head.linear.")]),
    "densenet121": (densenet121, [(r"^classifier\.", "head.linear.")]),
    "mobilenet_v2": (mobilenet_v2, [(r"^classifier\.1\.", "head.linear.")]),
    "convnext_tiny": (
        convnext_tiny,
        [
            (r"\.block\.0\.", ".depthwise."),
            (r"\.block\.2\.", ".norm."),
            (r"\.block\.3\.", ".expand."),
            (r"\.block\.5\.", ".project."),
            (r"^classifier\.0\.", "head.norm."),
            (r"^classifier\.2\.", "head.linear."),
        ],
    ),
}


def from_torchvision(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of torchvision's network `name`, a key of PUBLISHED: its state_dict fits ours then."""
    renamed = {}
    for key, tensor in tensors.items():
        for pattern, ours in PUBLISHED[name][1]:
            key = re.sub(pattern, ours, key)
        renamed[key] = tensor
    return renamed


# --- one skeleton for all, for pictures of 32 x 32 --------------------------------------------------------------------

FAMILIES = {  # width, and blocks of the three stages: as many multiply-accumulates as "basic", 41 million, within 5 %
    "basic": (16, (3, 3, 3)),  # 16, 32, 64 channels: ResNet-20 (He et al. 2016a) with option B
    "bottleneck": (16, (2, 3, 3)),  # as many inside, four times as many outside
    "se": (16, (3, 3, 3)),  # basic blocks with squeeze-and-excitation
    "resnext": (32, (2, 2, 2)),  # 32, 64, 128 channels inside, twice as many outside
    "densenet": (8, (7, 7, 7)),  # 8 new maps a layer, in every stage
    "mobilenetv2": (16, (4, 4, 4)),  # 16, 32, 64 channels outside, six times as many inside
    "convnext": (16, (5, 5, 5)),  # 16, 32, 64 channels outside, four times as many inside
}
GROUPS = 8  # of ResNeXt's 3x3 convolutions
REDUCTION = 4  # of squeeze-and-excitation


@dataclass
class SkeletonConfig:
    family: str = "basic"  # a key of FAMILIES
    n_classes: int = 10
    width: int = 16  # channels of the first stage, twice as many in each later one; DenseNet's growth
    blocks: tuple[int, ...] = (3, 3, 3)  # of each stage


def skeleton(family: str, n_classes: int = 10, scale: float = 1.0) -> SkeletonConfig:
    """Return the family's network at its size in FAMILIES, with `scale` times as many channels."""
    width, blocks = FAMILIES[family]
    step = GROUPS if family == "resnext" else 1
    return SkeletonConfig(family, n_classes, step * max(1, round(scale * width / step)), blocks)


def residual(config: SkeletonConfig) -> nn.Sequential:
    """Return the skeleton with ResNet's blocks, or with those two that changed only their branch."""
    width = config.width
    block, c, options = {
        "basic": (BasicBlock, width, {}),
        "bottleneck": (Bottleneck, width, {}),
        "se": (SEBasicBlock, width, {"reduction": REDUCTION}),
        "resnext": (ResNeXtBottleneck, width // 2, {"groups": GROUPS}),
    }[config.family]
    parts = {"stem": nn.Sequential(convolution(3, c, 3), nn.BatchNorm2d(c), nn.ReLU(inplace=True))}
    for i, count in enumerate(config.blocks):
        parts[f"stage{i + 1}"] = residual_stage(block, c, width * 2**i, count, 1 if i == 0 else 2, **options)
        c = block.expansion * width * 2**i
    return network(parts, c, config.n_classes)


def dense(config: SkeletonConfig) -> nn.Sequential:
    """Return the skeleton with dense blocks and transitions; every layer has a norm of its own for what it reads."""
    c = 2 * config.width
    parts = {"stem": convolution(3, c, 3)}
    for i, count in enumerate(config.blocks):
        if i > 0:
            parts[f"transition{i}"] = Transition(c, c // 2)
            c //= 2
        parts[f"stage{i + 1}"] = DenseBlock(c, config.width, count)
        c += count * config.width
    parts["last"] = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(inplace=True))
    return network(parts, c, config.n_classes)


def inverted(config: SkeletonConfig) -> nn.Sequential:
    """Return the skeleton with inverted residuals; as published, the first is not widened and a 1x1 widens the last."""
    c = config.width
    parts = {"stem": norm_relu6(convolution(3, c, 3))}
    for i, count in enumerate(config.blocks):
        blocks, c_out = [], config.width * 2**i
        for k in range(count):
            stride, expansion = 2 if i > 0 and k == 0 else 1, 1 if i == k == 0 else 6
            blocks.append(InvertedResidual(c, c_out, stride, expansion))
            c = c_out
        parts[f"stage{i + 1}"] = nn.Sequential(*blocks)
    parts["last"] = norm_relu6(convolution(c, 4 * c, 1))
    return network(parts, 4 * c, config.n_classes)


def convnext(config: SkeletonConfig) -> nn.Sequential:
    """Return the skeleton with ConvNeXt's blocks; the stem is the others' 3x3, for patches would be too coarse here."""
    c = config.width
    parts = {"stem": nn.Sequential(nn.Conv2d(3, c, 3, padding=1), ChannelNorm(c))}
    for i, count in enumerate(config.blocks):
        if i > 0:
            parts[f"halve{i}"] = halve(c)
            c *= 2
        parts[f"stage{i + 1}"] = nn.Sequential(*(ConvNeXtBlock(c) for _ in range(count)))
    return init_convnext_(network(parts, c, config.n_classes, norm=True))


SKELETONS = dict.fromkeys(["basic", "bottleneck", "se", "resnext"], residual) | {
    "densenet": dense,
    "mobilenetv2": inverted,
    "convnext": convnext,
}


def build(config: dict) -> nn.Sequential:
    """Rebuild the network that a checkpoint's `config` describes: 3x3 stem, stages of 32, 16 and 8 pixels, head.

    At the sizes in FAMILIES every stem has 16 channels. What lies between and after the stages is the family's own.
    """
    parsed = SkeletonConfig(**config)
    return SKELETONS[parsed.family](parsed)
