"""What attention costs: a step of each mechanism, how cost grows with the length, and decoding with and without caches.
注意力的代价：各机制的单步计算、代价随长度的增长，以及有无缓存的解码。
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import causal_mask, scaled_dot_product_attention
from chapter_09_efficient_attention.flash import flash_attention
from chapter_09_efficient_attention.grouped import GroupedAttention
from chapter_09_efficient_attention.linear import (
    chunked_delta_rule,
    chunked_gated_attention,
    chunked_linear_attention,
    elu_features,
)
from chapter_09_efficient_attention.model import Decoder, DecoderConfig, cache_bytes
from chapter_09_efficient_attention.sparse import chunked_window_attention
from utils.timer import compare_times

Call = Callable[[], Tensor]
WINDOW = 32  # places that local attention looks back, as in the models


def mechanisms(length: int, n_heads: int, width: int, device: torch.device) -> dict[str, tuple[Call, list[Tensor]]]:
    """Return each mechanism's forward pass on one sequence, ready to be called, and what it is differentiated by.

    Gates and rates are made beforehand, as the projections are: the cost is that of looking up alone. Chunks are as
    long as a head is wide, or shorter: then scores within chunks take no more memory than the states between them.
    """
    q, k, v, gates, rate = (
        torch.randn(1, n_heads, length, size, device=device, requires_grad=True)
        for size in (width, width, width, width, 1)
    )
    leaves = [q, k, v]
    return {
        "softmax": (lambda: scaled_dot_product_attention(q, k, v, causal_mask(length, device=device))[0], leaves),
        "torch": (lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), leaves),
        "flash": (lambda: flash_attention(q, k, v, causal=True), leaves),
        "local": (lambda: chunked_window_attention(q, k, v, WINDOW), leaves),
        "linear": (lambda: chunked_linear_attention(elu_features(q), elu_features(k), v, chunk_size=32)[0], leaves),
        "gated": (lambda: chunked_gated_attention(q, k, v, F.logsigmoid(rate), chunk_size=32)[0], [*leaves, rate]),
        "channel_gates": (
            lambda: chunked_gated_attention(q, k, v, F.logsigmoid(gates), chunk_size=8)[0],
            [*leaves, gates],
        ),
        "delta": (
            lambda: chunked_delta_rule(q, F.normalize(k, dim=-1), v, rate.sigmoid(), F.logsigmoid(rate))[0],
            [*leaves, rate],
        ),
    }


def forward(call: Call) -> None:
    """Run forwards, keeping nothing for a backward pass."""
    with torch.no_grad():
        call()


def forward_backward(call: Call, leaves: list[Tensor]) -> None:
    """Run forwards and backwards."""
    torch.autograd.grad(call().square().mean(), leaves)


def fitted_exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """Return the p for which c length^p fits the values best: the slope of the least squares line of the logarithms."""
    x = [math.log(length) for length in lengths]
    y = [math.log(value) for value in values]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - x_mean) ** 2 for a in x)


def crossover(lengths: Sequence[int], ours: Sequence[float], theirs: Sequence[float]) -> int | None:
    """Return the first length from which on ours is below theirs; None: there is none."""
    above = [n for n, a, b in zip(lengths, ours, theirs, strict=True) if a >= b]
    below = [n for n in lengths if not above or n > above[-1]]
    return below[0] if below else None


@torch.no_grad()
def decode_again(model: Decoder, ids: Tensor, n_tokens: int) -> Tensor:
    """Continue ids (T,) greedily by n_tokens, reading the whole text anew for each; return these, (n_tokens,)."""
    for _ in range(n_tokens):
        ids = torch.cat([ids, model(ids[None])[0][0, -1:].argmax(dim=-1)])
    return ids[-n_tokens:]


def decode_cached(model: Decoder, ids: Tensor, n_tokens: int, times: int = 1) -> Call:
    """Read ids (T,) but the last; return what continues them greedily by n_tokens through the caches.

    So that decoding can be timed apart from reading. It can be called so many times; each goes on where the last ended.
    """
    caches = model.new_caches(len(ids) + times * n_tokens)
    with torch.no_grad():
        model(ids[None, :-1], caches)
    last = ids[-1:]

    @torch.no_grad()
    def decode() -> Tensor:
        nonlocal last
        tokens = []
        for _ in range(n_tokens):
            last = model(last[None], caches)[0][0, -1:].argmax(dim=-1)
            tokens.append(last)
        return torch.cat(tokens)

    return decode


def decoding_speeds(models: dict[str, Decoder], ids: Tensor, n_tokens: int, rounds: int) -> dict[str, float]:
    """Return how many tokens a second each model writes behind ids (T,), taking turns, n_tokens a turn."""
    calls = {name: decode_cached(model, ids, n_tokens, rounds + 1) for name, model in models.items()}
    return {name: n_tokens / seconds for name, seconds in compare_times(calls, rounds, warmup=1).items()}


@torch.no_grad()
def kept_bytes(model: Decoder, ids: Tensor) -> int:
    """Return the bytes of all layers' caches, made for ids (T,) alone, when these have been read."""
    caches = model.new_caches(len(ids))
    model(ids[None], caches)
    return cache_bytes(caches)


class PlainAttention(GroupedAttention):
    """What `GroupedAttention` is measured against: the same projections around a bare call of PyTorch's kernel."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cache: None) -> Tensor:
        """As `GroupedAttention.attend`, without a cache."""
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def training_steps(config: DecoderConfig, batch_size: int, length: int, device: torch.device) -> dict[str, Call]:
    """Return a training step, both ways, of a model on `GroupedAttention` and of one on the bare kernel."""
    ids = torch.randint(config.n_tokens, (batch_size, length + 1), device=device)
    models = {name: Decoder(config).to(device) for name in ("ours", "torch")}
    n_kv_heads = {"mha": config.n_heads, "gqa": config.n_kv_heads, "mqa": 1}[config.attention]
    for block in models["torch"].blocks:
        block.attention = PlainAttention(config.d_model, config.n_heads, n_kv_heads).to(device)
    models["torch"].load_state_dict(models["ours"].state_dict())

    def step(model: Decoder) -> Tensor:
        model.zero_grad()
        loss = F.cross_entropy(model(ids[:, :-1])[0].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        return loss

    return {name: partial(step, model) for name, model in models.items()}
