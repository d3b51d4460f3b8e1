"""Linformer: keys and values of N places are mixed into those of r, and each query looks at these.
Linformer：把 N 个位置的键和值混合成 r 个，每个查询只看这 r 个。

The mixture has all places in it, later ones too, so this is for reading a whole text, not for writing one.
混合时已把后面的位置也算了进去，因此只能用来读整篇文本，不能逐词元地写。
"""

import torch
from torch import Tensor, nn

from chapter_07_attention_mechanism.attention import MultiHeadAttention


class LinformerAttention(MultiHeadAttention):
    """softmax(q (E k)^T / sqrt(d)) E v: T r scores instead of T^2 (Wang et al. 2020, equation 7).

    E (r, max_length) is learned, and shared by keys, values and heads (their section 4, "key-value sharing").

    Args:
        rank: r.
    """

    def __init__(self, width: int, n_heads: int, rank: int, max_length: int):
        super().__init__(width, n_heads)
        self.mixing = nn.Parameter(torch.randn(rank, max_length) / rank**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D), T up to `max_length`.

        Raises:
            ValueError: x is longer.
        """
        length, max_length = x.shape[1], self.mixing.shape[1]
        if length > max_length:
            raise ValueError(f"a sequence of {length} tokens is too long: {max_length} places were learned")
        q, k, v = self.project(x, 0, 2)  # (B, H, T, d)
        mixing = self.mixing[:, :length]  # (r, T)
        return self.attend(q, mixing @ k, mixing @ v)[0]  # (r, T) @ (B, H, T, d) -> (B, H, r, d)
