"""Fails until cached_step.py is solved.
在 cached_step.py 完成之前，这里的测试不会通过。
"""

import torch

from chapter_08_transformer_vanilla.exercises.cached_step import cached_step
from chapter_08_transformer_vanilla.layers import DecoderLayer


def make(n_tokens):
    torch.manual_seed(0)
    layer = DecoderLayer(8, 2, 12, dropout=0.0, cross=False).double()
    return layer, torch.randn(3, n_tokens, 8, dtype=torch.float64)


def test_steps_equal_the_whole():
    layer, x = make(6)
    outputs, cache = [], None
    for t in range(6):
        out, cache = cached_step(layer, x[:, t : t + 1], cache)
        assert out.shape == (3, 1, 8)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1), layer(x)[0], rtol=0, atol=1e-12)


def test_the_cache_is_the_layers():
    layer, x = make(4)
    _, cache = cached_step(layer, x[:, :1], None)
    for t in range(1, 4):
        _, cache = cached_step(layer, x[:, t : t + 1], cache)
    for kept, expected in zip(cache, layer(x)[1], strict=True):
        assert kept.shape == (3, 2, 4, 4)
        torch.testing.assert_close(kept, expected, rtol=0, atol=1e-12)


def test_an_old_cache_stays_what_it_was():
    """A beam goes on from one cache in several ways."""
    layer, x = make(3)
    _, cache = cached_step(layer, x[:, :1], None)
    before = [part.clone() for part in cache]
    first, _ = cached_step(layer, x[:, 1:2], cache)
    second, _ = cached_step(layer, x[:, 2:3], cache)
    assert all(torch.equal(a, b) for a, b in zip(cache, before, strict=True)) and not torch.allclose(first, second)
