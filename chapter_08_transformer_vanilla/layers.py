"""The Transformer's two layers: attention, then a small network at each position, both added to what came in.
Transformer 的两种层：先做注意力，再在每个位置上过一个小网络，结果都加回输入。

A layer never replaces its input x (B, T, D), it adds to it. Each branch f has a norm, behind the sum or before f:

    "post"    x <- norm(x + dropout(f(x)))     Vaswani et al. 2017, sections 3.1 and 5.4
    "pre"     x <- x + dropout(f(norm(x)))     Xiong et al. 2020, figure 1b

With "pre" one straight path of sums leads from the last layer back to the first; with "post" a norm stands across it
in every layer.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_02_nn_basics_mlp.initialization import xavier_uniform_
from chapter_07_attention_mechanism.attention import MultiHeadAttention

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}
KeysValues = tuple[Tensor, Tensor]  # each (B, H, S, D/H)


class FeedForward(nn.Module):
    """G(x) = W2 relu(W1 x + b1) + b2 at each position by itself, or with GELU (Vaswani et al. 2017, equation 2)."""

    def __init__(self, d_model: int, d_ff: int, activation: str = "relu", bias: bool = True):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.linear1 = nn.Linear(d_model, d_ff, bias=bias)
        self.linear2 = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D), by way of (B, T, d_ff)."""
        return self.linear2(self.activation(self.linear1(x)))


class ResidualLayer(nn.Module):
    """What both layers share: how a branch is entered, and how it is added.

    Raises:
        ValueError: `norm` is neither "pre" nor "post".
    """

    def __init__(self, dropout: float, norm: str):
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f'a norm stands "pre" or "post", not "{norm}"')
        self.pre_norm = norm == "pre"
        self.dropout = nn.Dropout(dropout)

    def enter(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return what a branch reads."""
        return norm(x) if self.pre_norm else x

    def add(self, x: Tensor, branch: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return the sum of x and what a branch found."""
        x = x + self.dropout(branch)
        return x if self.pre_norm else norm(x)

    def initialize_(self) -> None:
        """Start all matrices as Glorot & Bengio (2010), all biases at 0."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


class EncoderLayer(ResidualLayer):
    """Self-attention, then feed-forward: every position sees every position that the mask allows."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        norm: str = "pre",
        activation: str = "relu",
        eps: float = 1e-5,
    ):
        super().__init__(dropout, norm)
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.feed_forward = FeedForward(d_model, d_ff, activation)
        self.norm1, self.norm2 = (nn.LayerNorm(d_model, eps) for _ in range(2))
        self.initialize_()

    def forward(
        self, x: Tensor, mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> (B, T, D), and each head's weights (B, H, T, T) or None.

        Args:
            mask: broadcastable to (B, T, T), True where a position may look; None: everywhere.
        """
        found, weights = self.self_attention(self.enter(x, self.norm1), mask=mask, need_weights=need_weights)
        x = self.add(x, found, self.norm1)
        x = self.add(x, self.feed_forward(self.enter(x, self.norm2)), self.norm2)
        return x, weights


class DecoderLayer(ResidualLayer):
    """Causal self-attention, cross-attention to the memory, then feed-forward.

    It can go on where it stopped: the keys and values of the positions so far are all that later ones need of them.
    Without `cross` there is no memory to look at, as in a decoder-only model.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        norm: str = "pre",
        activation: str = "relu",
        cross: bool = True,
    ):
        super().__init__(dropout, norm)
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.cross_attention = MultiHeadAttention(d_model, n_heads) if cross else None
        self.feed_forward = FeedForward(d_model, d_ff, activation)
        self.norm1, self.norm3 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model) if cross else None
        self.initialize_()

    def forward(
        self,
        x: Tensor,
        past: KeysValues | None = None,
        memory: KeysValues | None = None,
        memory_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, KeysValues, tuple[Tensor | None, Tensor | None]]:
        """x (B, T, D) -> (B, T, D): the last T positions of the target.

        Padding at the target's end needs no mask, for no real position looks ahead.

        Args:
            past: the keys and values of self-attention for the P positions before x; None: there are none.
            memory: the memory's S keys and values, `cross_attention.project(memory, 1, 2)`.
            memory_mask: broadcastable to (B, T, S), True where the memory is real; None: everywhere.

        Returns:
            The new x, the keys and values of all P + T positions, and each head's weights (B, H, T, P + T) in
            self-attention and (B, H, T, S) in cross-attention, or None for each.
        """
        q, k, v = self.self_attention.project(self.enter(x, self.norm1), 0, 2)  # (B, H, T, D/H) each
        if past is not None:
            k, v = (torch.cat(pair, dim=2) for pair in zip(past, (k, v), strict=True))  # (B, H, P + T, D/H)
        found, self_weights = self.self_attention.attend(q, k, v, causal=True, need_weights=need_weights)
        x, cross_weights = self.add(x, found, self.norm1), None

        if self.cross_attention is not None:
            [q] = self.cross_attention.project(self.enter(x, self.norm2), 0, 0)  # (B, H, T, D/H)
            found, cross_weights = self.cross_attention.attend(q, *memory, memory_mask, need_weights=need_weights)
            x = self.add(x, found, self.norm2)

        x = self.add(x, self.feed_forward(self.enter(x, self.norm3)), self.norm3)
        return x, (k, v), (self_weights, cross_weights)
