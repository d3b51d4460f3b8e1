"""Caches return what was appended, in the bytes that they say, and layers with them what they return without.
缓存应原样返回写入的内容，字节数如实；带缓存的层与不带缓存的结果相同。
"""

import pytest
import torch

from chapter_09_efficient_attention.grouped import GroupedAttention
from chapter_09_efficient_attention.kv_cache import (
    BlockPool,
    ContiguousCache,
    PagedCache,
    QuantizedCache,
    RingCache,
    StateCache,
    quantize,
)
from chapter_09_efficient_attention.sparse import LocalAttention

PARTS = [[1] * 9, [4, 1, 1, 3], [2, 7], [9]]


def tokens(length=9, dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(2, 3, length, 4, dtype=dtype), torch.randn(2, 3, length, 5, dtype=dtype)


@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("kind", ["contiguous", "paged"])
def test_all_that_was_appended_comes_back(kind, parts):
    cache = ContiguousCache(10) if kind == "contiguous" else PagedCache(BlockPool(n_blocks=10, block_size=2))
    k, v = tokens()
    for new_k, new_v in zip(k.split(parts, 2), v.split(parts, 2), strict=True):
        all_k, all_v = cache.append(new_k, new_v)
        assert torch.equal(all_k, k[:, :, : cache.length]) and torch.equal(all_v, v[:, :, : cache.length])
        assert cache.positions.tolist() == list(range(cache.length))


@pytest.mark.parametrize("n_sinks", [0, 2])
@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_a_ring_returns_what_can_be_seen(parts, n_sinks):
    cache, size = RingCache(3, n_sinks), 3
    k, v = tokens()
    for new_k, new_v in zip(k.split(parts, 2), v.split(parts, 2), strict=True):
        first = cache.length
        all_k, all_v = cache.append(new_k, new_v)
        places = cache.positions
        needed = {p for q in range(first, cache.length) for p in range(q + 1) if p < n_sinks or q - p < size}
        assert needed <= set(places.tolist()) and len(places) == len(set(places.tolist()))
        assert torch.equal(all_k, k[:, :, places]) and torch.equal(all_v, v[:, :, places])
        if len(parts) == 9:  # token by token nothing is held that cannot be seen any more
            assert needed == set(places.tolist())


def test_bytes_are_those_of_the_live_tensors():
    k, v = tokens(dtype=torch.float32)
    row = 2 * 3 * (4 + 5)  # sequences, heads, numbers of a key and a value
    contiguous, ring, int8, state = ContiguousCache(16), RingCache(4, 1), QuantizedCache(16), StateCache()
    pool = BlockPool(n_blocks=20, block_size=4)
    paged = PagedCache(pool)
    assert contiguous.n_bytes == ring.n_bytes == paged.n_bytes == state.n_bytes == 0
    for cache in (contiguous, ring, int8, paged):
        cache.append(k, v)
    assert contiguous.n_bytes == 4 * 16 * row
    assert ring.n_bytes == 4 * 5 * row + 8 * 5  # and the places of the 5 slots
    assert int8.n_bytes == 16 * (row + 2 * 3 * 2 * 4)  # codes, and a scale in float32 of each key and value
    assert paged.n_bytes == 4 * 12 * row + 8 * 6  # 3 blocks of 4 tokens for 9, and the numbers of 6 blocks
    state.replace(torch.zeros(10, 5)[3], 1)
    assert state.n_bytes == 20  # of the row alone


def test_sequences_share_a_pool_and_give_it_back():
    pool = BlockPool(n_blocks=6, block_size=2)
    long, short = PagedCache(pool), PagedCache(pool)
    k, v = tokens()
    long.append(k[:1, :, :5], v[:1, :, :5])
    short.append(k[1:, :, :1], v[1:, :, :1])
    long.append(k[:1, :, 5:6], v[:1, :, 5:6])
    assert len(pool.free) == 2 and not set(long.table.flatten().tolist()) & set(short.table.flatten().tolist())
    all_k, _ = short.append(k[1:, :, 1:4], v[1:, :, 1:4])
    assert torch.equal(all_k, k[1:, :, :4])
    long.release()
    assert len(pool.free) == 4 and long.length == 0
    assert torch.equal(short.append(k[1:, :, 4:], v[1:, :, 4:])[0], k[1:])
    with pytest.raises(ValueError, match="4 blocks are wanted, but 1 of the pool's 6 are free"):
        long.append(k[:, :, :3], v[:, :, :3])
    assert len(pool.free) == 1 and long.length == 0  # a text that finds no room takes none


def test_what_was_cut_off_is_overwritten():
    cache, (k, v) = ContiguousCache(9), tokens()
    cache.append(k[:, :, :6], v[:, :, :6])
    cache.truncate(2)
    cache.truncate(5)  # more than there are: nothing comes back
    all_k, all_v = cache.append(k[:, :, 7:], v[:, :, 7:])
    expected = [0, 1, 7, 8]
    assert torch.equal(all_k, k[:, :, expected]) and torch.equal(all_v, v[:, :, expected])


def test_a_full_cache_says_so():
    cache = ContiguousCache(3)
    with pytest.raises(ValueError, match="4 tokens do not fit into a cache for 3"):
        cache.append(torch.ones(1, 1, 4, 2), torch.ones(1, 1, 4, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_8_bits_are_off_by_at_most_half_a_step(dtype):
    x = torch.randn(50, 16, dtype=torch.float64).to(dtype) * torch.logspace(-6, 6, 50)[:, None].to(dtype)
    x[3] = 0
    codes, scale = quantize(x)
    error = (codes * scale - x).abs().double()
    bound = x.abs().amax(-1, keepdim=True).double() / 254
    assert codes.dtype == torch.int8 and (error <= bound * (1 + 1e-5)).all() and error[3].eq(0).all()
    assert (error.amax(-1) > 0.5 * bound[:, 0]).sum() > 25  # and the bound is not far off

    cache = QuantizedCache(9)
    k, v = tokens(dtype=dtype)
    parts = [cache.append(k[:, :, :4], v[:, :, :4]), cache.append(k[:, :, 4:], v[:, :, 4:])][-1]
    for mine, exact in zip(parts, (k, v), strict=True):
        rounding = torch.finfo(dtype).eps * exact.abs()
        assert mine.dtype == dtype
        assert ((mine - exact).abs() <= exact.abs().amax(-1, keepdim=True) / 253 + rounding).all()


@torch.no_grad()
@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("kind", ["contiguous", "paged", "ring", "ring with sinks", "dilated"])
def test_a_layer_goes_on_where_it_stopped(kind, parts):
    windows = {"ring": {"window": 2}, "ring with sinks": {"window": 2, "n_sinks": 1}}
    windows["dilated"] = {"window": 1, "dilation": 2}
    if kind in windows:
        layer = LocalAttention(8, 4, **windows[kind], n_kv_heads=2).double()
        cache = layer.new_cache(9)
        assert isinstance(cache, RingCache)
    else:
        layer = GroupedAttention(8, 4, n_kv_heads=2).double()
        cache = ContiguousCache(9) if kind == "contiguous" else PagedCache(BlockPool(8, 3))
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    continued = torch.cat([layer(part, cache) for part in x.split(parts, dim=1)], dim=1)
    torch.testing.assert_close(continued, layer(x), rtol=0, atol=1e-9)
    assert cache.length == 9
