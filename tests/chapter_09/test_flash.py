"""Flash attention against softmax attention: awkward sizes, masks that leave rows empty, and memory.
Flash 注意力与 softmax 注意力对照：不整除的尺寸、全被遮住的行，以及内存。
"""

import pytest
import torch

from chapter_07_attention_mechanism.attention import causal_mask, padding_mask, scaled_dot_product_attention
from chapter_09_efficient_attention.flash import flash_attention
from chapter_09_efficient_attention.sparse import window_mask
from tests.chapter_09.parity import check_equal, random
from utils.memory import torch_peak


@pytest.mark.parametrize("t,s,tile", [(1, 1, 4), (7, 7, 4), (8, 8, 4), (3, 9, 4), (5, 5, 16)])
def test_tiles_are_softmax_attention(t, s, tile):
    q, k, v = random(2, 3, t, 4), random(2, 3, s, 4), random(2, 3, s, 5)
    leaves, lengths = [q, k, v], torch.tensor([s, max(1, s // 2)])
    check_equal(flash_attention(q, k, v, tile=tile), scaled_dot_product_attention(q, k, v)[0], leaves)
    causal = causal_mask(t, s)
    check_equal(flash_attention(q, k, v, True, tile=tile), scaled_dot_product_attention(q, k, v, causal)[0], leaves)
    padding = padding_mask(lengths, s)[:, None]
    expected = scaled_dot_product_attention(q, k, v, padding)[0]
    check_equal(flash_attention(q, k, v, lengths=lengths, tile=tile), expected, leaves)


@pytest.mark.parametrize("tile", [2, 4, 16])
def test_a_query_whose_window_holds_only_padding_returns_0(tile):
    q, k, v = random(3, 2, 9, 4), random(3, 1, 9, 4), random(3, 1, 9, 4)
    lengths = torch.tensor([9, 3, 0])
    places = torch.arange(9)
    mask = window_mask(places, places, window=2) & padding_mask(lengths, 9)[:, None]
    out = flash_attention(q, k, v, True, 2, lengths, tile)
    check_equal(out, scaled_dot_product_attention(q, k, v, mask)[0], [q, k, v])
    assert out[1, :, 5:].eq(0).all() and out[2].eq(0).all() and out[1, :, :5].ne(0).all()


def test_large_scores_do_not_overflow():
    q, k, v = (1000 * torch.randn(1, 1, 6, 4) for _ in range(3))
    out = flash_attention(q, k, v, causal=True, tile=2)
    torch.testing.assert_close(out, scaled_dot_product_attention(q, k, v, causal_mask(6))[0])


def test_bfloat16_is_summed_in_float32():
    q, k, v = (torch.randn(1, 2, 40, 8).bfloat16().requires_grad_() for _ in range(3))
    out = flash_attention(q, k, v, causal=True, tile=8)
    exact = scaled_dot_product_attention(q.double(), k.double(), v.double(), causal_mask(40))[0]
    assert out.dtype == torch.bfloat16 and (out - exact).abs().max() <= 2**-8 * exact.abs().max()
    out.sum().backward()
    assert q.grad.dtype == torch.bfloat16 and q.grad.isfinite().all()


def test_memory_grows_with_the_length_not_with_its_square():
    def peak(length, attention):
        leaves = [torch.randn(1, 1, length, 8, requires_grad=True) for _ in range(3)]
        return torch_peak(lambda: attention(*leaves).sum().backward())

    def flash(*qkv):
        return flash_attention(*qkv, causal=True, tile=16)

    def naive(q, k, v):
        return scaled_dot_product_attention(q, k, v, causal_mask(q.shape[2]))[0]

    flash, naive = ([peak(length, attention) for length in (64, 128)] for attention in (flash, naive))
    assert flash[1] < 2.2 * flash[0] and naive[1] > 3.5 * naive[0]
