"""A picture into a sentence: a small convolutional network sees, a decoder with attention says what.
看图说话：小卷积网络负责看，带注意力的解码器负责说。
"""

import torch
from torch import Tensor, nn

from chapter_07_attention_mechanism.decoder import AttentionDecoder, DecoderConfig, Memory

CELLS = 8  # the feature map is CELLS x CELLS


class Captioner(AttentionDecoder):
    """Attention over the cells of a feature map, one at a time or several (Xu et al. 2015, section 4.2)."""

    def __init__(self, config: DecoderConfig):
        super().__init__(config)
        width = config.hidden
        channels = [3, width // 4, width // 2, width]
        self.cnn = nn.Sequential(
            *(
                layer
                for before, after in zip(channels, channels[1:], strict=False)
                for layer in (
                    nn.Conv2d(before, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
            )
        )  # (B, 3, 64, 64) -> (B, D, 8, 8)
        self.position = nn.Parameter(0.02 * torch.randn(CELLS * CELLS, width))  # a convolution knows no place
        self.initial = nn.Linear(width, 2 * width)

    def encode(self, images: Tensor) -> tuple[Memory, tuple[Tensor, Tensor]]:
        """See pictures (B, 3, 64, 64), uint8; return their memory (B, 64, D), and the states (B, D) of the GRUs."""
        maps = self.cnn(images.float() / 127.5 - 1)  # (B, D, 8, 8)
        values = self.dropout(maps.flatten(2).transpose(1, 2) + self.position)  # (B, 64, D), row by row
        lower, upper = torch.tanh(self.initial(values.mean(dim=1))).chunk(2, dim=-1)  # each (B, D)
        mask = torch.ones(len(values), 1, values.shape[1], dtype=torch.bool, device=values.device)
        return Memory(values, mask, self.attention.prepare(values)), (lower, upper)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Return the log-probabilities (B, T, V) of what follows each of the sentence's tokens (B, T)."""
        return self.decode(tokens, *self.encode(images))[0]
