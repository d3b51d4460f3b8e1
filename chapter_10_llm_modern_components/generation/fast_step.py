"""One token through the model in as few calls as it takes: what `LanguageModel` computes, with the modules taken away.
用尽量少的调用让一个词元通过模型：与 `LanguageModel` 结果相同，只是省去了各层模块。

A small model multiplies so little for one token that Python and the bookkeeping around each call cost as much as the
numbers. So here are no modules, whose every call costs a microsecond or two, no axis for the time, no mask, and one
product in place of a rotation's six steps: turning is linear, so the place's turn is a matrix, the same in all layers.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_09_efficient_attention.rope import turn
from chapter_10_llm_modern_components.model import Block, Caches, LanguageModel
from chapter_10_llm_modern_components.model_compression import FourBitLinear, Int8Linear


@torch.no_grad()
def transpose_weights_(model: nn.Module) -> None:
    """Lay the weights of all linear layers out in memory column by column; their shapes and values stay.

    A product with a single vector then adds up columns instead of taking the dot product with each row, and on CPUs
    fetches the weights faster. For a model that writes, not for one that still learns.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.T.contiguous().T  # (out, in), with strides (1, out)


def make_step(model: LanguageModel, caches: Caches, n_padding: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """Return what takes a token of each sequence, (B,), and returns the logits (B, V) of the next.

    Padded texts, and models that are no plain Llama or are quantized, go through the modules.
    """
    c = model.config
    plain = c.norm == "rms" and c.positions == "rope" and c.activation == "swiglu"
    packed = any(isinstance(module, (FourBitLinear, Int8Linear)) for module in model.modules())
    if plain and n_padding is None and not (c.bias or c.qk_norm or c.n_experts or packed):
        return FastStep(model, caches)
    return lambda tokens: model(tokens[:, None], caches, n_padding)[:, 0]


class FastStep:
    """Called with tokens (B,), it returns what `model(tokens[:, None], caches)[:, 0]` does, and fills the caches.

    Nothing in the caches is padding.
    """

    def __init__(self, model: LanguageModel, caches: Caches):
        self.model, self.caches = model, caches
        self.layers = [_weights(block) for block in model.blocks]
        attention = model.blocks[0].attention
        self.h, self.g, self.d = attention.n_heads, attention.n_kv_heads, attention.d_head
        self.window, self.eye = attention.window, torch.eye(self.d).to(model.cos)
        self.eps = torch.full((1, 1, 1), model.config.norm_eps).to(model.cos)

    def __call__(self, tokens: Tensor) -> Tensor:
        place, h, g, d = self.caches[0].length, self.h, self.g, self.d
        if place == 0:  # the caches get their memory with their first token
            return self.model(tokens[:, None], self.caches)[:, 0]
        n_seen = place + 1 if self.window is None else min(place, self.window) + 1
        first, batch, eps = place + 1 - n_seen, len(tokens), self.eps
        rotation = turn(self.eye, self.model.cos[place], self.model.sin[place])  # (d, d)
        x = F.embedding(tokens, self.model.embedding.weight)  # (B, D)
        for (norm1, qkv, out, norm2, gate_up, down), cache in zip(self.layers, self.caches, strict=True):
            heads = F.linear(_normalize(x, norm1, eps), qkv).view(batch, h + 2 * g, d)  # (B, H + 2 G, d)
            turned = heads.narrow(1, 0, h + g) @ rotation  # (B, H + G, d)
            cache.k.select(2, place).copy_(turned.narrow(1, h, g))  # (B, G, d)
            cache.v.select(2, place).copy_(heads.narrow(1, h + g, g))
            cache.length = place + 1
            q = turned.narrow(1, 0, h).view(batch, g, h // g, d)  # a group's queries are the rows of one product
            k, v = cache.k.narrow(2, first, n_seen), cache.v.narrow(2, first, n_seen)  # (B, G, S, d)
            found = F.scaled_dot_product_attention(q, k, v).reshape(batch, h * d)
            x = x + F.linear(found, out)
            gate, up = F.linear(_normalize(x, norm2, eps), gate_up).chunk(2, dim=-1)  # (B, d_ff) each
            x = x + F.linear(F.silu(gate) * up, down)
        return F.linear(_normalize(x, self.model.norm.weight, eps), self.model.head.weight)  # (B, V)


def _normalize(x: Tensor, weight: Tensor, eps: Tensor) -> Tensor:
    """Return RMSNorm of x (B, D): the mean of the squares plus eps (1, 1, 1) is one product of x with itself."""
    rows = x[:, None]  # (B, 1, D)
    mean_square = torch.baddbmm(eps, rows, rows.mT, alpha=1 / x.shape[1])  # (B, 1, 1)
    return (rows * mean_square.rsqrt_() * weight)[:, 0]


def _weights(block: Block) -> tuple[Tensor, ...]:
    attention, feed_forward = block.attention, block.feed_forward
    before = block.norm1.weight, attention.qkv_proj.weight, attention.out_proj.weight
    return *before, block.norm2.weight, feed_forward.gate_up_proj.weight, feed_forward.down_proj.weight
