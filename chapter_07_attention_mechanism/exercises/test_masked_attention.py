"""Fails until masked_attention.py is solved.
在 masked_attention.py 完成之前，这里的测试不会通过。
"""

import torch

from chapter_07_attention_mechanism import attention
from chapter_07_attention_mechanism.exercises.masked_attention import causal, masked_softmax


def test_nobody_looks_ahead():
    assert causal(3, 3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal(2, 5).tolist() == [[True, True, True, True, False], [True] * 5]
    for n_queries, n_keys in ((1, 1), (1, 7), (4, 9)):
        mask = causal(n_queries, n_keys)
        assert mask.dtype == torch.bool and torch.equal(mask, attention.causal_mask(n_queries, n_keys))


def test_three_scores_by_hand():
    weights = masked_softmax(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[False, True, True]]))
    torch.testing.assert_close(weights, torch.tensor([[0.0, 0.7311, 0.2689]]), rtol=0, atol=1e-4)


def test_it_is_the_modules():
    generator = torch.Generator().manual_seed(0)
    scores = 5 * torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)
    mask = torch.rand(2, 1, 6, 6, generator=generator) < 0.4
    torch.testing.assert_close(masked_softmax(scores, mask), attention.masked_softmax(scores, mask), rtol=0, atol=1e-12)


def test_large_scores_and_fully_masked_rows():
    scores = torch.tensor([[1000.0, 999.0, -1000.0], [1000.0, -1000.0, -1001.0], [1000.0, 1000.0, 1000.0]])
    mask = torch.tensor([[True, True, True], [False, True, True], [False, False, False]])
    e = 0.7311
    expected = torch.tensor([[e, 1 - e, 0], [0, e, 1 - e], [0, 0, 0]])
    torch.testing.assert_close(masked_softmax(scores, mask), expected, rtol=0, atol=1e-4)
