"""A language model as they are built today, and, by its config alone, one as they were built in 2019.
当今的语言模型；只改配置，也能搭出 2019 年的样子。

                  Llama                                     GPT-2
    norm          "rms"         Zhang & Sennrich 2019       "layer"
    positions     "rope"        Su et al. 2021              "learned"
    activation    "swiglu"      Shazeer 2020                "gelu"
    n_kv_heads    few           Ainslie et al. 2023         n_heads
    bias          False                                     True
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from chapter_08_transformer_vanilla.layers import FeedForward
from chapter_08_transformer_vanilla.positional_encoding import angular_frequencies
from chapter_09_efficient_attention.kv_cache import ContiguousCache
from chapter_09_efficient_attention.rope import linear_scaling, llama3_scaling
from chapter_09_efficient_attention.sparse import window_mask
from chapter_10_llm_modern_components.blocks import Attention, MixtureOfExperts, RMSNorm, SwiGLU
from chapter_10_llm_modern_components.blocks.attention import Rotation
from chapter_10_llm_modern_components.packing import packed_mask, packed_places

Caches = list[ContiguousCache]  # of each layer


@dataclass
class ModelConfig:
    """What rebuilds a model."""

    n_tokens: int  # size V of the vocabulary
    d_model: int = 256
    n_layers: int = 5
    n_heads: int = 4
    n_kv_heads: int | None = None  # heads of keys and values; None: n_heads
    d_head: int | None = None  # numbers of a query and a key; None: d_model / n_heads
    d_ff: int = 688  # with SwiGLU 8/3 d_model has as many weights as 4 d_model without
    max_length: int = 512  # tokens of a text, prompt and answer together
    norm: str = "rms"  # or "layer"
    norm_eps: float = 1e-5
    positions: str = "rope"  # or "learned", or "none"
    rope_base: float = 10000.0
    rope_scaling: str = "none"  # or "linear", or "llama3", see chapter 9's rope.py
    rope_factor: float = 1.0  # how many times as long the texts are as those of the first training
    rope_low_factor: float = 1.0  # llama3
    rope_high_factor: float = 4.0  # llama3
    rope_original_length: int = 512  # llama3: tokens of a text in the first training
    activation: str = "swiglu"  # or "gelu"
    bias: bool = False
    qk_norm: bool = False
    window: int | None = None  # how many places a token looks back; None: to the beginning
    tied: bool = True  # one matrix embeds tokens and rates them (Press & Wolf 2017)
    n_experts: int = 0  # 0: one feed-forward network a layer and no router
    n_active_experts: int = 2
    dropout: float = 0.0


def make_norm(c: ModelConfig) -> nn.Module:
    return RMSNorm(c.d_model, c.norm_eps) if c.norm == "rms" else nn.LayerNorm(c.d_model, c.norm_eps, bias=c.bias)


def make_feed_forward(c: ModelConfig) -> nn.Module:
    if c.n_experts:
        return MixtureOfExperts(c.d_model, c.d_ff, c.n_experts, c.n_active_experts, c.bias)
    if c.activation == "swiglu":
        return SwiGLU(c.d_model, c.d_ff, c.bias)
    return FeedForward(c.d_model, c.d_ff, "gelu", c.bias)


def rotation_table(c: ModelConfig, d: int) -> Rotation:
    """Return the cosines and sines (max_length, d) of all places, in float32: both numbers of a pair have the same."""
    frequencies = angular_frequencies(d, c.rope_base)  # (d/2,)
    if c.rope_scaling == "linear":
        frequencies = linear_scaling(frequencies, c.rope_factor)
    elif c.rope_scaling == "llama3":
        factors = c.rope_factor, c.rope_low_factor, c.rope_high_factor
        frequencies = llama3_scaling(frequencies, *factors, c.rope_original_length)
    angles = torch.arange(c.max_length, dtype=torch.float64)[:, None] * frequencies  # (max_length, d/2)
    angles = angles.repeat(1, 2)
    return angles.cos().float(), angles.sin().float()


class Block(nn.Module):
    """Attention, then feed-forward, each of a normalised x, and added to x itself."""

    def __init__(self, c: ModelConfig, d_head: int):
        super().__init__()
        sizes = c.d_model, c.n_heads, c.n_kv_heads or c.n_heads, d_head
        self.norm1, self.norm2 = make_norm(c), make_norm(c)
        self.attention = Attention(*sizes, c.window, c.qk_norm, c.norm_eps, c.bias)
        self.feed_forward = make_feed_forward(c)
        self.dropout = nn.Dropout(c.dropout) if c.dropout else nn.Identity()

    def forward(
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | None, cache: ContiguousCache | None
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D); the rest is `Attention.forward`'s."""
        x = x + self.dropout(self.attention(self.norm1(x), rotation, mask, cache))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


class LanguageModel(nn.Module):
    """Embedding, blocks, a last norm, and a linear head: p(token | all tokens before it).

    Raises:
        ValueError: the config asks for what there is not, or for sizes that do not divide one another.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        check_config(config)
        d_head = config.d_head or config.d_model // config.n_heads
        self.config = config
        self.checkpointing = False  # True: keep each block's input alone, compute what is inside again on the way back
        self.embedding = nn.Embedding(config.n_tokens, config.d_model)
        self.positions = nn.Embedding(config.max_length, config.d_model) if config.positions == "learned" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, d_head) for _ in range(config.n_layers))
        self.norm = make_norm(config)
        self.head = nn.Linear(config.d_model, config.n_tokens, bias=False)
        if config.positions == "rope":
            for name, table in zip(("cos", "sin"), rotation_table(config, d_head), strict=True):
                self.register_buffer(name, table, persistent=False)  # (max_length, d)
        self.initialize_()
        if config.tied:
            self.head.weight = self.embedding.weight

    def initialize_(self, std: float = 0.02) -> None:
        """Start all matrices from N(0, std^2), all biases at 0 (Radford et al. 2019, section 2.3).

        The 2 L projections that end in the sum x start 1 / sqrt(2 L) times as large, so that x does not grow with the
        number of layers L.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                ends = name.endswith(("out_proj.weight", "down_proj.weight", "linear2.weight"))
                nn.init.normal_(parameter, std=std / math.sqrt(2 * self.config.n_layers) if ends else std)

    def new_caches(self, capacity: int) -> Caches:
        """Return an empty cache for each layer, for up to `capacity` tokens of each sequence.

        With a window they hold more than can be seen, but can be cut back to any length, and nothing is moved.
        """
        return [ContiguousCache(capacity) for _ in self.blocks]

    def hidden(
        self,
        ids: Tensor,
        caches: Caches | None = None,
        n_padding: Tensor | None = None,
        texts: Tensor | None = None,
    ) -> Tensor:
        """ids (B, T) -> (B, T, D), what the head reads; with caches ids go on where they stopped.

        Args:
            n_padding: (B,): how many tokens at the beginning of each sequence are none; None: all are real.
            texts: (B, T): which text each token belongs to, where a row holds several: see packing.py; no caches then.

        Raises:
            ValueError: more than `max_length` tokens.
        """
        first = caches[0].length if caches else 0
        end = first + ids.shape[1]
        if end > self.config.max_length:
            raise ValueError(f"{end} tokens are more than the {self.config.max_length} of this model's context")
        places = torch.arange(first, end, device=ids.device)  # (T,)
        if texts is not None:
            places, mask = packed_places(texts), packed_mask(texts, self.config.window)  # (B, T), (B, 1, T, T)
        else:
            mask = attention_mask(first, end, self.config.window, n_padding, ids.device)
        if n_padding is not None:
            places = (places - n_padding[:, None]).clamp(min=0)  # (B, T)
        x, rotation = self.embedding(ids), None  # (B, T, D)
        if self.positions is not None:
            x = x + self.positions(places)
        elif self.config.positions == "rope":
            rotation = self.cos[places].unsqueeze(-3), self.sin[places].unsqueeze(-3)  # (1, T, d) or (B, 1, T, d)
        x = self.dropout(x)
        for block, cache in zip(self.blocks, caches or [None] * len(self.blocks), strict=True):
            if self.checkpointing and self.training:
                x = checkpoint(block, x, rotation, mask, cache, use_reentrant=False)
            else:
                x = block(x, rotation, mask, cache)
        return self.norm(x)

    def forward(
        self,
        ids: Tensor,
        caches: Caches | None = None,
        n_padding: Tensor | None = None,
        texts: Tensor | None = None,
    ) -> Tensor:
        """ids (B, T) -> logits (B, T, V) of the token after each; the rest is as in `hidden`."""
        return self.head(self.hidden(ids, caches, n_padding, texts))

    def balance_loss(self) -> Tensor:
        """Return the mean over the layers of the last training batch's `balance_loss`; there are experts."""
        return torch.stack([block.feed_forward.balance for block in self.blocks]).mean()


def attention_mask(
    first: int, end: int, window: int | None, n_padding: Tensor | None, device: torch.device
) -> Tensor | None:
    """Return which keys the T tokens at places from `first` to below `end` may see: (T, S) or (B, 1, T, S).

    Keys are those of all places before `end`, or with a window the last T + window. None: the mask says no more than
    that a token sees itself and all before it, which attention knows by itself for one token, and at the beginning.
    """
    n_queries = end - first
    n_keys = end if window is None else min(end, n_queries + window)
    within = window is None or window >= end - 1 or n_queries == 1  # the window hides none of these keys
    if n_padding is None and within and (first == 0 or n_queries == 1):
        return None
    places, keys = torch.arange(first, end, device=device), torch.arange(end - n_keys, end, device=device)
    mask = window_mask(places, keys, end if window is None else window)  # (T, S)
    if n_padding is None:
        return mask
    real = keys >= n_padding[:, None, None]  # (B, 1, S)
    own = places[:, None] == keys  # a mean over nothing would be NaN: padding sees itself
    return (mask & (real | own))[:, None]  # (B, 1, T, S)


def check_config(c: ModelConfig) -> None:
    """Raise a ValueError that says what is wrong with a config."""
    choices = {"norm": ("rms", "layer"), "positions": ("rope", "learned", "none"), "activation": ("swiglu", "gelu")}
    choices |= {"rope_scaling": ("none", "linear", "llama3")}
    for name, known in choices.items():
        if getattr(c, name) not in known:
            raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(c, name)}")
    if c.d_head is None and c.d_model % c.n_heads:
        raise ValueError(f"a width of {c.d_model} cannot be shared equally by {c.n_heads} heads")


def build_model(config: dict) -> LanguageModel:
    return LanguageModel(ModelConfig(**config))
