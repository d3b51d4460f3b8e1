"""The Vision Transformer: a picture as a sequence of patches, read by the encoder that reads sentences.
视觉 Transformer：把图片看作一串图块，用读句子的那个编码器来读。
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_05_resnet_modern_cnn.src.model import convolution
from chapter_08_transformer_vanilla.positional_encoding import LearnedPositions
from chapter_08_transformer_vanilla.transformer import Encoder


@dataclass
class ViTConfig:
    """What rebuilds a model."""

    n_classes: int = 10
    image_size: int = 32
    patch_size: int = 4  # a token stands for so many pixels squared
    d_model: int = 192
    n_heads: int = 3
    d_ff: int = 768
    n_layers: int = 6
    dropout: float = 0.0
    tokenizer: str = "patches"  # a key of TOKENIZERS
    pooling: str = "class"  # "class": what a token of its own has gathered; "mean": of all tokens


class PatchTokenizer(nn.Module):
    """Cuts pictures into P x P patches and maps each by one matrix (Dosovitskiy et al. 2021, equation 1).

    It is a convolution of kernel and stride P, whose weight (D, 3, P, P) is here one row for each of the D numbers.
    """

    def __init__(self, patch_size: int, d_model: int):
        super().__init__()
        self.patch_size = patch_size
        self.linear = nn.Linear(3 * patch_size**2, d_model)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, h P, w P) -> (B, h w, D), row by row."""
        patches = F.pixel_unshuffle(images, self.patch_size)  # (B, 3 P P, h, w)
        return self.linear(patches.flatten(2).transpose(1, 2))  # (B, h w, 3 P P) -> (B, h w, D)


class ConvTokenizer(nn.Sequential):
    """3x3 convolutions, behind each a 3x3 maximum of stride 2 and a ReLU (Hassani et al. 2021).

    Neighbouring tokens overlap and know edges before attention begins. The last convolution makes D channels, each one
    before it half as many. In the paper the ReLU comes first: to the same effect, on four times as many numbers.

    Raises:
        ValueError: halving does not lead to this patch size.
    """

    def __init__(self, patch_size: int, d_model: int):
        n_halvings = patch_size.bit_length() - 1
        if patch_size != 2**n_halvings or n_halvings == 0:
            raise ValueError(f"the convolutional tokenizer halves: its patch size is 2, 4, 8, ..., not {patch_size}")
        layers, c_in = [], 3
        for i in reversed(range(n_halvings)):
            c_out = d_model >> i
            layers += [convolution(c_in, c_out, 3), nn.MaxPool2d(3, stride=2, padding=1), nn.ReLU()]
            c_in = c_out
        super().__init__(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, h P, w P) -> (B, h w, D), row by row."""
        return super().forward(images).flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, h w, D)


TOKENIZERS = {"patches": PatchTokenizer, "conv": ConvTokenizer}


class VisionTransformer(nn.Module):
    """Tokens of a picture, learned positions, a pre-norm encoder with GELU, a linear layer (Dosovitskiy et al. 2021).

    Raises:
        ValueError: the picture is no whole number of patches wide, or `pooling` is unknown.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        n_across, rest = divmod(config.image_size, config.patch_size)
        if rest:
            raise ValueError(f"{config.image_size} pixels are no whole number of patches of {config.patch_size}")
        if config.pooling not in ("class", "mean"):
            raise ValueError(f'tokens are pooled by "class" or "mean", not "{config.pooling}"')
        d_model, with_class = config.d_model, config.pooling == "class"
        self.config = config
        self.tokenizer = TOKENIZERS[config.tokenizer](config.patch_size, d_model)
        self.class_token = nn.Parameter(torch.zeros(1, 1, d_model)) if with_class else None
        self.positions = LearnedPositions(d_model, n_across**2 + with_class)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(
            config.n_layers,
            d_model,
            eps=1e-6,
            n_heads=config.n_heads,
            d_ff=config.d_ff,
            dropout=config.dropout,
            activation="gelu",
        )
        self.head = nn.Linear(d_model, config.n_classes)

    def embed(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> (B, N, D): the picture's tokens, behind the class token where there is one."""
        x = self.tokenizer(images)  # (B, h w, D)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)  # (B, 1 + h w, D)
        return self.dropout(self.positions(x))

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W), normalised -> logits (B, K)."""
        x, _ = self.encoder(self.embed(images))  # (B, N, D)
        return self.head(x.mean(dim=1) if self.class_token is None else x[:, 0])  # (B, D) -> (B, K)

    @torch.no_grad()
    def attention_maps(self, images: Tensor) -> list[Tensor]:
        """Return each layer's attention weights (B, H, N, N), a head each."""
        return self.encoder(self.embed(images), need_weights=True)[1]


TORCHVISION_NAMES = {
    r"^conv_proj\.": "tokenizer.linear.",
    r"^encoder\.pos_embedding$": "positions.weight",
    r"^encoder\.layers\.encoder_layer_(\d+)\.": r"encoder.layers.\1.",
    r"\.ln_([12])\.": r".norm\1.",
    r"\.mlp\.0\.": ".feed_forward.linear1.",
    r"\.mlp\.3\.": ".feed_forward.linear2.",
    r"^encoder\.ln\.": "encoder.norm.",
    r"^heads\.head\.": "head.",
}


def from_torchvision(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of torchvision's VisionTransformer, such as vit_b_16, under the names and shapes used here.

    They fit a model with patches, a class token and the same sizes.
    """
    ours = {}
    for name, tensor in weights.items():
        for pattern, replacement in TORCHVISION_NAMES.items():
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor
    ours["tokenizer.linear.weight"] = ours["tokenizer.linear.weight"].flatten(1)  # (D, 3, P, P) -> (D, 3 P P)
    ours["positions.weight"] = ours["positions.weight"][0]  # (1, N, D) -> (N, D)
    return ours
