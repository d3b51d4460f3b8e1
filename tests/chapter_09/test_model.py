"""The decoder with every attention: causal, cached decoding token for token, in every number format, and learning.
换上每种注意力的解码器：因果、带缓存逐词元一致、各种精度可用，并且能学会。
"""

import pytest
import torch
from torch.nn import functional as F

from chapter_06_rnn_lstm_seq.generation import generate
from chapter_09_efficient_attention.kv_cache import BlockPool, PagedCache, QuantizedCache, RingCache, StateCache
from chapter_09_efficient_attention.model import ATTENTIONS, Decoder, DecoderConfig, ShortConvolution, cache_bytes

TINY = {
    "n_tokens": 11,
    "d_model": 16,
    "n_heads": 4,
    "d_ff": 24,
    "n_layers": 2,
    "dropout": 0.0,
    "d_latent": 6,
    "d_rope": 2,
    "window": 3,
    "dilation": 3,
    "n_sinks": 1,
    "block_size": 2,
    "n_features": 8,
}
NEARLY_MHA = {"mqa", "gqa", "flash", "sinks", "strided", "big_bird"}
GROWING = {"mha", "mqa", "gqa", "mla", "flash", "strided", "big_bird", "top_k"}


def build(attention, **options):
    torch.manual_seed(0)
    return Decoder(DecoderConfig(attention=attention, **TINY | options)).eval()


@torch.no_grad()
@pytest.mark.parametrize("attention", [*ATTENTIONS, "gated_delta,mha"])
def test_cached_decoding_is_the_whole_sequence_read_again(attention):
    model = build(attention, conv_size=3).double()
    ids = torch.randint(11, (2, 14))
    whole, none = model(ids)
    assert none is None
    caches = model.new_caches(14)
    parts = [model(part, caches)[0] for part in ids.split([5, 3] + [1] * 6, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-9)
    other = ids.clone()
    other[:, 9:] = (other[:, 9:] + 1) % 11
    torch.testing.assert_close(model(other)[0][:, :9], whole[:, :9], rtol=0, atol=1e-9)  # what follows is not seen


@torch.no_grad()
@pytest.mark.parametrize("attention", ["mha", "mla", "local", "delta", "delta,mha"])
def test_greedy_text_is_the_same_token_for_token(attention):
    model = build(attention)
    ids = torch.tensor([3, 1, 4, 1, 5])
    cached = list(generate(model, ids, 20, temperature=0, states=model.new_caches(25)))
    for _ in range(20):
        ids = torch.cat([ids, model(ids[None])[0][0, -1:].argmax(-1)])
    assert cached == ids[5:].tolist()


@torch.no_grad()
def test_a_cache_grows_only_where_attention_looks_at_everything():
    for attention in ATTENTIONS:
        model = build(attention)
        sizes = []
        for capacity in (32, 64):
            caches = model.new_caches(capacity)
            model(torch.zeros(1, 20, dtype=torch.long), caches)
            sizes.append(cache_bytes(caches))
        assert sizes[1] == sizes[0] * (2 if attention in GROWING else 1), attention
    per_token = {name: cache_bytes_per_token(name) for name in ("mha", "gqa", "mqa", "mla")}
    assert per_token == {"mha": 2 * 4 * 2 * 16, "gqa": 2 * 4 * 16, "mqa": 2 * 4 * 8, "mla": 2 * 4 * (6 + 2)}  # 2 layers


def cache_bytes_per_token(attention):
    model = build(attention)
    caches = model.new_caches(10)
    model(torch.zeros(1, 10, dtype=torch.long), caches)
    return cache_bytes(caches) // 10


@torch.no_grad()
def test_other_memories_hold_the_same():
    model, ids = build("gqa,local").double(), torch.randint(11, (1, 12))
    whole = model(ids)[0]
    pool = BlockPool(n_blocks=8, block_size=4)
    paged = model.new_caches(12, lambda capacity: PagedCache(pool))
    assert torch.cat([model(part, paged)[0] for part in ids.split(1, 1)], 1).sub(whole).abs().max() < 1e-9
    assert len(pool.free) == 5 and isinstance(paged[1][1], RingCache)  # 3 blocks of 4 for 12 tokens
    small = model.new_caches(12, QuantizedCache)
    error = torch.cat([model(part, small)[0] for part in ids.split(1, 1)], 1).sub(whole).abs().max()
    assert 1e-6 < error < 0.02 and isinstance(small[0][0], StateCache)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_bfloat16_comes_near_float32(attention):
    exact = build(attention, conv_size=2)
    ids = torch.randint(11, (2, 9))
    with torch.no_grad():
        expected = exact(ids)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = exact(ids)[0]
        rounded = exact.bfloat16()
        caches = rounded.new_caches(9)
        steps = torch.cat([rounded(part, caches)[0] for part in ids.split([5, 1, 3], dim=1)], dim=1)
    for found in (mixed, rounded(ids)[0], steps):
        assert found.dtype == torch.bfloat16 and (found - expected).abs().max() < 0.1


@pytest.mark.parametrize("attention", [name for name in ATTENTIONS if name not in NEARLY_MHA])
def test_every_attention_learns_to_look_back(attention):
    """Each sequence repeats two random tokens. Guessing costs ln 11 = 2.4, and so does looking at the last alone."""
    model = build(attention).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        ids = torch.randint(11, (16, 2), generator=generator).repeat(1, 7)
        loss = F.cross_entropy(model(ids)[0][:, 1:-1].flatten(0, 1), ids[:, 2:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert loss < 1.2, f"{attention}: {loss.item():.2f}"


def test_an_attention_that_there_is_not_is_named():
    with pytest.raises(ValueError, match="no attention is called softmax; there are mha, mqa"):
        build("mha,softmax")


def test_a_mixed_convolution_starts_with_every_second_channel_of_the_token_before():
    x = torch.randn(2, 5, 4)
    assert torch.equal(ShortConvolution(4, 3)(x), x)
    mixed = ShortConvolution(4, 3, mixed=True)(x)
    assert torch.equal(mixed[..., ::2], x[..., ::2])
    assert torch.equal(mixed[:, 1:, 1::2], x[:, :-1, 1::2]) and not mixed[:, 0, 1::2].any()
