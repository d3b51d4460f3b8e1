"""A decoder language model whose attention is chosen by name, layer by layer.
解码器语言模型：每一层用哪种注意力由名字指定。

A pattern such as "delta,delta,mha" is repeated until all layers have theirs: a hybrid, whose few softmax layers look
things up and whose other layers need no cache that grows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from chapter_08_transformer_vanilla.layers import FeedForward, ResidualLayer
from chapter_09_efficient_attention.flash import FlashAttention
from chapter_09_efficient_attention.grouped import GroupedAttention
from chapter_09_efficient_attention.kv_cache import Cache, ContiguousCache, StateCache
from chapter_09_efficient_attention.latent import LatentAttention
from chapter_09_efficient_attention.linear import (
    DeltaRule,
    GatedLinearAttention,
    LinearAttention,
    Mamba2Attention,
    RandomFeatures,
    Retention,
    elu_features,
    taylor_features,
)
from chapter_09_efficient_attention.sparse import (
    BlockSparseAttention,
    LocalAttention,
    TopKAttention,
    big_bird_blocks,
    strided_blocks,
)


@dataclass
class DecoderConfig:
    """What rebuilds a model."""

    n_tokens: int  # size V of the vocabulary
    attention: str = "mha"  # keys of ATTENTIONS with commas in between, repeated over the layers
    d_model: int = 128
    n_heads: int = 4
    d_ff: int = 512
    n_layers: int = 4
    dropout: float = 0.1
    conv_size: int = 0  # tokens of a short convolution before each attention; 0: none
    conv_mixed: bool = False  # whether every second channel of it starts as that of the token before
    n_kv_heads: int = 2  # gqa
    d_latent: int = 32  # mla
    d_rope: int = 16  # mla
    window: int = 32  # local, sinks, dilated
    dilation: int = 4  # dilated
    n_sinks: int = 4  # sinks
    block_size: int = 16  # strided, big_bird, top_k
    n_blocks: int = 2  # strided: the stride; big_bird: blocks before and at random; top_k: chosen blocks
    n_features: int = 64  # performer
    max_rate: float = 1.0  # delta, gated_delta


def grouped(c: DecoderConfig, kind: type[GroupedAttention] = GroupedAttention, **options) -> nn.Module:
    """Make an attention of queries, keys and values."""
    return kind(c.d_model, c.n_heads, **options)


def block_sparse(c: DecoderConfig, pattern: Callable[[int], Tensor]) -> nn.Module:
    """Make an attention under a pattern of blocks."""
    return BlockSparseAttention(c.d_model, c.n_heads, pattern=pattern, block_size=c.block_size)


def linear(c: DecoderConfig, features: Callable[[Tensor], Tensor]) -> nn.Module:
    """Make a linear attention with a feature map."""
    return LinearAttention(c.d_model, c.n_heads, features)


ATTENTIONS: dict[str, Callable[[DecoderConfig], nn.Module]] = {
    "mha": lambda c: grouped(c),
    "mqa": lambda c: grouped(c, n_kv_heads=1),
    "gqa": lambda c: grouped(c, n_kv_heads=c.n_kv_heads),
    "mla": lambda c: LatentAttention(c.d_model, c.n_heads, c.d_latent, c.d_rope),
    "flash": lambda c: grouped(c, FlashAttention),
    "local": lambda c: grouped(c, LocalAttention, window=c.window),
    "sinks": lambda c: grouped(c, LocalAttention, window=c.window, n_sinks=c.n_sinks),
    "dilated": lambda c: grouped(c, LocalAttention, window=c.window, dilation=c.dilation),
    "strided": lambda c: block_sparse(c, partial(strided_blocks, stride=c.n_blocks)),
    "big_bird": lambda c: block_sparse(c, partial(big_bird_blocks, n_global=1, window=c.n_blocks, n_random=c.n_blocks)),
    "top_k": lambda c: grouped(c, TopKAttention, block_size=c.block_size, n_chosen=c.n_blocks),
    "linear": lambda c: linear(c, elu_features),
    "taylor": lambda c: linear(c, taylor_features),
    "performer": lambda c: linear(c, RandomFeatures(c.d_model // c.n_heads, c.n_features)),
    "retention": lambda c: Retention(c.d_model, c.n_heads),
    "mamba2": lambda c: Mamba2Attention(c.d_model, c.n_heads),
    "gla": lambda c: GatedLinearAttention(c.d_model, c.n_heads),
    "delta": lambda c: DeltaRule(c.d_model, c.n_heads, max_rate=c.max_rate),
    "gated_delta": lambda c: DeltaRule(c.d_model, c.n_heads, gated=True, max_rate=c.max_rate),
}


class ShortConvolution(nn.Module):
    """y_t = w_0 x_t + w_1 x_(t-1) + ...: each channel mixes its last few tokens; it starts as y = x.

    With it a token can be found by what stood before it, which a state alone does badly (Fu et al. 2023, section 3).

    Args:
        mixed: every second channel starts as y_t = x_(t-1) instead, so that keys are soon made of the token before.
    """

    def __init__(self, width: int, size: int, mixed: bool = False):
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.zeros(size * width))  # one row, for it is no matrix that optimizers may turn
        with torch.no_grad():
            self.weight[:width] = 1.0
            if mixed:
                self.weight[1:width:2] = 0.0
                self.weight[width + 1 : 2 * width : 2] = 1.0

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D); the cache holds the last tokens before x."""
        size, length, weight = self.size, x.shape[1], self.weight.view(self.size, -1)  # (size, D)
        past = x.new_zeros(len(x), size - 1, x.shape[2]) if cache is None or cache.state is None else cache.state
        x = torch.cat([past, x], dim=1)  # (B, size - 1 + T, D)
        if cache is not None:
            cache.replace(x[:, length:], length)
        return sum(weight[i] * x[:, size - 1 - i : size - 1 - i + length] for i in range(size))


class DecoderBlock(ResidualLayer):
    """Attention, then feed-forward, each added to what came in; norms stand before them (chapter 8's "pre")."""

    def __init__(self, config: DecoderConfig, attention: str):
        super().__init__(config.dropout, "pre")
        self.convolution = (
            ShortConvolution(config.d_model, config.conv_size, config.conv_mixed) if config.conv_size else None
        )
        self.attention = ATTENTIONS[attention](config)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, "gelu")
        self.norm1, self.norm2 = nn.LayerNorm(config.d_model), nn.LayerNorm(config.d_model)

    def new_caches(self, capacity: int, make: Callable[[int], Cache]) -> tuple[StateCache, Cache]:
        """Return a cache for the convolution and one for the attention."""
        return StateCache(), self.attention.new_cache(capacity, make)

    def forward(self, x: Tensor, caches: tuple[StateCache | None, Cache | None] = (None, None)) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        branch = self.enter(x, self.norm1)
        if self.convolution is not None:
            branch = self.convolution(branch, caches[0])
        x = self.add(x, self.attention(branch, caches[1]), self.norm1)
        return self.add(x, self.feed_forward(self.enter(x, self.norm2)), self.norm2)


Caches = list[tuple[StateCache, Cache]]  # of each layer


class Decoder(nn.Module):
    """Embedding, blocks, a last norm, and a linear head: p(token | all tokens before it).

    Raises:
        ValueError: the config names an attention that there is not.
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        pattern = config.attention.split(",")
        unknown = sorted(set(pattern) - ATTENTIONS.keys())
        if unknown:
            raise ValueError(f"no attention is called {', '.join(unknown)}; there are {', '.join(ATTENTIONS)}")
        self.config = config
        self.embedding = nn.Embedding(config.n_tokens, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(DecoderBlock(config, pattern[i % len(pattern)]) for i in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, config.n_tokens, bias=False)

    def new_caches(self, capacity: int, make: Callable[[int], Cache] = ContiguousCache) -> Caches:
        """Return empty caches for up to `capacity` tokens; those that hold all tokens are of the kind `make` makes."""
        return [block.new_caches(capacity, make) for block in self.blocks]

    def forward(self, ids: Tensor, caches: Caches | None = None) -> tuple[Tensor, Caches | None]:
        """ids (B, T) -> logits (B, T, V) of the token after each; with caches ids go on where they stopped.

        The caches are changed in place, and also returned, as chapter 6's `generate` asks for.
        """
        x = self.dropout(self.embedding(ids))  # (B, T, D)
        for block, block_caches in zip(self.blocks, caches or [(None, None)] * len(self.blocks), strict=True):
            x = block(x, block_caches)
        return self.head(self.norm(x)), caches


def cache_bytes(caches: Caches) -> int:
    """Return how many bytes the caches of all layers hold."""
    return sum(cache.n_bytes for block in caches for cache in block)


def build_decoder(config: dict) -> Decoder:
    return Decoder(DecoderConfig(**config))
