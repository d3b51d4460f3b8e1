"""Fails until merge_partials.py is solved.
在 merge_partials.py 完成之前，这里的测试不会通过。
"""

import torch

from chapter_07_attention_mechanism.attention import causal_mask, scaled_dot_product_attention
from chapter_09_efficient_attention.exercises.merge_partials import merge, read_piece


def make(scale=1.0):
    torch.manual_seed(0)
    q, k, v = (torch.randn(9, 4, dtype=torch.float64) for _ in range(3))
    return scale * q, k, v, causal_mask(9)


def pieces(q, k, v, mask, ends):
    starts = [0, *ends[:-1]]
    return [read_piece(q, k[a:b], v[a:b], mask[:, a:b]) for a, b in zip(starts, ends, strict=True)]


def test_one_piece_is_attention():
    q, k, v, mask = make()
    m, total, o = read_piece(q, k, v, mask)
    assert m.shape == total.shape == (9, 1) and o.shape == (9, 4)
    torch.testing.assert_close(o / total, scaled_dot_product_attention(q, k, v, mask)[0], rtol=0, atol=1e-12)


def test_pieces_are_the_whole_in_any_order():
    for scale in (1.0, 3000.0):
        q, k, v, mask = make(scale)
        whole = scaled_dot_product_attention(q, k, v, mask)[0]
        a, b, c = pieces(q, k, v, mask, [2, 3, 9])
        for together in (merge(merge(a, b), c), merge(a, merge(b, c)), merge(c, merge(a, b))):
            torch.testing.assert_close(together[2] / together[1], whole, rtol=0, atol=1e-9)


def test_nothing_seen_stays_nothing():
    q, k, v, _ = make()
    unseen = torch.zeros(9, 4, dtype=torch.bool)
    m, total, o = merge(read_piece(q, k[:4], v[:4], unseen), read_piece(q, k[4:8], v[4:8], unseen))
    assert (m == -torch.inf).all() and total.eq(0).all() and o.eq(0).all()
