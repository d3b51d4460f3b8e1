"""Every variant beside the reference that it should equal: outputs, and gradients by all inputs.
把每个变体与它应当等于的参考实现并排计算：输出，以及对所有输入的梯度。

A pair of the generators below is (name, ours, reference, leaves); without leaves there is no gradient to compare.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import causal_mask, scaled_dot_product_attention
from chapter_09_efficient_attention.flash import flash_attention
from chapter_09_efficient_attention.grouped import GroupedAttention, grouped_attention
from chapter_09_efficient_attention.kv_cache import BlockPool, Cache, ContiguousCache, PagedCache, quantize
from chapter_09_efficient_attention.latent import LatentAttention
from chapter_09_efficient_attention.linear import (
    chunked_delta_rule,
    chunked_gated_attention,
    chunked_linear_attention,
    elu_features,
    quadratic_delta_rule,
    quadratic_gated_attention,
    quadratic_linear_attention,
    random_directions,
    random_features,
    recurrent_delta_rule,
    recurrent_gated_attention,
    recurrent_linear_attention,
)
from chapter_09_efficient_attention.rope import rotary, rotate_complex
from chapter_09_efficient_attention.sparse import (
    LocalAttention,
    big_bird_blocks,
    block_sparse_attention,
    chunked_window_attention,
    dilated_window_attention,
    gathered_top_k_attention,
    token_mask,
    top_k_attention,
    window_mask,
)

Make = Callable[..., Tensor]  # a shape -> random numbers, a leaf
Pair = tuple[str, Tensor, Tensor, list[Tensor]]

HEADS, WIDTH = 4, 16  # query heads, and numbers in each


def softmax_pairs(make: Make, n: int) -> Iterator[Pair]:
    """Yield the exact families: grouped, latent and tiled attention of n tokens."""
    for name, groups in (("mha", HEADS), ("gqa", HEADS // 2), ("mqa", 1)):
        q, k, v = make(1, HEADS, n, WIDTH), make(1, groups, n, WIDTH), make(1, groups, n, WIDTH)
        torchs = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        yield name, grouped_attention(q, k, v, causal_mask(n, device=q.device)), torchs, [q, k, v]

    x = make(1, n, HEADS * WIDTH)
    ours = GroupedAttention(HEADS * WIDTH, HEADS, rope_base=None).to(x)
    theirs = nn.MultiheadAttention(HEADS * WIDTH, HEADS, bias=False, batch_first=True).to(x)
    theirs.load_state_dict({"in_proj_weight": ours.qkv_proj.weight, "out_proj.weight": ours.out_proj.weight})
    hidden = ~causal_mask(n, device=x.device)
    yield "mha_layer", ours(x), theirs(x, x, x, attn_mask=hidden, need_weights=False)[0], [x]

    latent = LatentAttention(HEADS * WIDTH, HEADS, d_latent=24, d_rope=8).to(x)
    projected = latent.project(x, 0)
    yield "mla_absorbed", latent.attend_absorbed(*projected), latent.attend_naive(*projected), [x]

    full = scaled_dot_product_attention(q, k, v, causal_mask(n, device=q.device))[0]
    yield "flash", flash_attention(q, k, v, causal=True, tile=32), full, [q, k, v]
    yield "window_of_all", chunked_window_attention(q, k, v, n), full, [q, k, v]
    yield "rope", rotary(q, 5, interleaved=True), rotate_complex(q, 5), [q]


def sparse_pairs(make: Make, n: int) -> Iterator[Pair]:
    """Yield windows, blocks and chosen blocks beside the masks that define them."""
    q, k, v = (make(1, HEADS, n, WIDTH) for _ in range(3))
    places = torch.arange(n, device=q.device)

    def masked(mask: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, mask.to(q.device))[0]

    yield "local", chunked_window_attention(q, k, v, 8), masked(window_mask(places, places, 8)), [q, k, v]
    sinks = window_mask(places, places, 8, n_sinks=3)
    yield "sinks", chunked_window_attention(q, k, v, 8, 3), masked(sinks), [q, k, v]
    dilated = window_mask(places, places, 8, dilation=3)
    yield "dilated", dilated_window_attention(q, k, v, 8, 3), masked(dilated), [q, k, v]
    blocks = big_bird_blocks(-(-n // 8), n_global=1, window=1, n_random=1)
    yield "big_bird", block_sparse_attention(q, k, v, blocks, 8), masked(token_mask(blocks, 8, n, n)), [q, k, v]
    yield "top_k", gathered_top_k_attention(q, k, v, 8, 2), top_k_attention(q, k, v, 8, 2), [q, k, v]


def linear_pairs(make: Make, n: int) -> Iterator[Pair]:
    """Yield the recurrent and the chunked form of each linear attention beside its quadratic form."""
    q, k, v, channels, rate = (make(1, HEADS, n, size) for size in (WIDTH, WIDTH, WIDTH, WIDTH, 1))
    unit, beta, gates = F.normalize(k, dim=-1), rate.sigmoid(), F.logsigmoid(channels)
    gate = gates[..., :1]
    variants = {
        "linear": ("linear", (elu_features(q), elu_features(k), v), [q, k, v]),
        "retention": ("gated", (q, k, v, torch.full_like(gate, -1 / 32)), [q, k, v]),
        "scalar_gate": ("gated", (q, k, v, gate), [q, k, v, channels]),
        "channel_gates": ("gated", (q, k, v, gates), [q, k, v, channels]),
        "delta": ("delta", (q, unit, v, beta, torch.zeros_like(gate)), [q, k, v, rate]),
        "gated_delta": ("delta", (q, unit, v, beta, gate), [q, k, v, rate, channels]),
    }
    forms = {
        "linear": (quadratic_linear_attention, recurrent_linear_attention, chunked_linear_attention),
        "gated": (quadratic_gated_attention, recurrent_gated_attention, chunked_gated_attention),
        "delta": (quadratic_delta_rule, recurrent_delta_rule, chunked_delta_rule),
    }
    for name, (family, given, leaves) in variants.items():
        quadratic, recurrent, chunked = forms[family]
        reference = quadratic(*given)
        yield f"{name}_recurrent", recurrent(*given)[0], reference, leaves
        yield f"{name}_chunked", chunked(*given, chunk_size=16)[0], reference, leaves


@torch.no_grad()
def cache_pairs(make: Make, n: int) -> Iterator[Pair]:
    """Yield layers that read n tokens one by one through a cache, beside those that read them at once."""
    x = make(1, n, HEADS * WIDTH)
    full = GroupedAttention(HEADS * WIDTH, HEADS, n_kv_heads=2).to(x)
    local = LocalAttention(HEADS * WIDTH, HEADS, window=8, n_sinks=2).to(x)
    latent = LatentAttention(HEADS * WIDTH, HEADS, d_latent=24, d_rope=8).to(x)
    caches: dict[str, tuple[nn.Module, Cache]] = {
        "contiguous_cache": (full, ContiguousCache(n)),
        "paged_cache": (full, PagedCache(BlockPool(-(-n // 16), 16))),
        "ring_cache": (local, local.new_cache(n)),
        "latent_cache": (latent, ContiguousCache(n)),
    }
    for name, (layer, cache) in caches.items():
        yield name, torch.cat([layer(x_t, cache) for x_t in x.split(1, dim=1)], dim=1), layer(x), []


def deviation(ours: Tensor, reference: Tensor, leaves: list[Tensor]) -> tuple[float, float]:
    """Return the largest difference of outputs and of gradients, each relative to the largest number of the reference.

    The gradients are those of a sum in which every number of the output has another weight; without leaves 0.
    """
    weights = torch.linspace(-1, 1, ours.numel(), dtype=ours.dtype, device=ours.device).view_as(ours)
    gradient = 0.0
    if leaves:
        mine, wanted = (torch.autograd.grad((x * weights).sum(), leaves, retain_graph=True) for x in (ours, reference))
        gradient = max(relative(a, b) for a, b in zip(mine, wanted, strict=True))
    return relative(ours, reference), gradient


def relative(ours: Tensor, reference: Tensor) -> float:
    return ((ours - reference).abs().max() / reference.abs().max()).item()


def random_feature_errors(sizes: list[int], n_draws: int, device: torch.device) -> dict[int, float]:
    """Return the root mean square error of e^(q . k), relative to it, by m random features, for each m.

    One pair of vectors with |q + k| = 1, and `n_draws` independent estimates.
    """
    q = torch.full((1, WIDTH), 0.5 / WIDTH**0.5, dtype=torch.float64, device=device)  # q = k, so q . k = 1/4
    errors = {}
    for m in sizes:
        directions = random_directions(m * n_draws, WIDTH, orthogonal=False).to(q)  # (n m, d)
        products = random_features(q, directions)[0].square() * len(directions)  # (n m,)
        estimates = products.view(n_draws, m).mean(dim=1)
        errors[m] = (estimates / torch.tensor(0.25).exp().item() - 1).square().mean().sqrt().item()
    return errors


def quantization_error(x: Tensor) -> float:
    """Return the largest error of an 8-bit cache, in units of its bound, half a step."""
    codes, scale = quantize(x)
    return ((codes * scale - x).abs() / (scale / 2)).max().item()
