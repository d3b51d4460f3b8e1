"""One block of multi-head self-attention that sorts, reverses, or lists what occurs: small enough to see how.
单个多头自注意力块完成排序、反转与去重：小到可以看清它是怎么做的。
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chapter_07_attention_mechanism.attention import MultiHeadAttention, causal_mask


@dataclass
class SorterConfig:
    """What rebuilds a model."""

    vocabulary: int
    width: int = 64
    n_heads: int = 4
    hidden: int = 256


def wave_features(positions: Tensor, width: int) -> Tensor:
    """Return (..., width): sines and cosines of the position, of wavelengths from 4 to 400.

    Moving every position by the same step is one rotation of these numbers, and turning their order around flips the
    sines' signs: linear maps both, the same ones at every length.
    """
    wavelengths = 4 * 100 ** torch.linspace(0, 1, width // 2, device=positions.device)
    angles = 2 * math.pi * positions[..., None] / wavelengths  # (..., width / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Sorter(nn.Module):
    """Reads BOS, n numbers, a task's sign and what it has answered so far; predicts the answer's next number.

    Positions are counted from the sign: BOS stands at -(n + 1), the numbers at -n to -1, the answer at 1 and on. BOS is
    a place to look at where no number fits. Every token hears the sign: in a single block its query has no other way to
    know what is wanted.
    """

    def __init__(self, config: SorterConfig):
        super().__init__()
        width = config.width
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, width)
        self.segment = nn.Embedding(2, width)  # 0: read, 1: the sign and what was written (Devlin et al. 2019)
        self.position = nn.Linear(width, width, bias=False)
        self.norm_1, self.norm_2, self.norm_3 = (nn.LayerNorm(width) for _ in range(3))
        self.attention = MultiHeadAttention(width, config.n_heads)
        self.mlp = nn.Sequential(nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, width))
        self.head = nn.Linear(width, config.vocabulary)

    def forward(self, tokens: Tensor, signs: Tensor, shift: Tensor | None = None) -> Tensor:
        """Return the log-probabilities (B, T, V) of what follows each of the tokens (B, T)."""
        return self.look(tokens, signs, shift)[0]

    def look(
        self, tokens: Tensor, signs: Tensor, shift: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return the log-probabilities (B, T, V) and, if asked, each head's weights (B, H, T, T).

        Args:
            signs: (B,), the places of the tasks' signs.
            shift: (B,), by how much positions before the sign become smaller, and all others larger. In training
                it acquaints the model with the positions of longer lists (Kiyono et al. 2021). None: not at all.
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device) - signs[:, None]  # (T,) - (B, 1) -> (B, T)
        if shift is not None:
            positions = torch.where(positions < 0, positions - shift[:, None], positions + shift[:, None])
        sign = tokens.gather(1, signs[:, None])  # (B, 1)
        x = self.embedding(tokens) + self.embedding(sign)  # (B, T, D) + (B, 1, D)
        x = x + self.segment((positions >= 0).long())  # (B, T, D)
        x = x + self.position(wave_features(positions, self.config.width))  # (B, T, D)
        mask = causal_mask(tokens.shape[1], device=tokens.device)
        found, weights = self.attention(self.norm_1(x), mask=mask, need_weights=need_weights)
        x = x + found
        x = x + self.mlp(self.norm_2(x))
        return self.head(self.norm_3(x)).float().log_softmax(dim=-1), weights
