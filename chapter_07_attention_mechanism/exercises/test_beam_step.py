"""Fails until beam_step.py is solved.
在 beam_step.py 完成之前，这里的测试不会通过。
"""

import math

import torch

from chapter_07_attention_mechanism.exercises.beam_step import beam_step


def test_the_tree_of_the_chapter():
    """After "a" (0.5) and "the" (0.4) come cat, dog and pet."""
    total = torch.tensor([[0.5, 0.4]]).log()
    log_p = torch.tensor([[[0.4, 0.3, 0.3], [0.9, 0.05, 0.05]]]).log()
    best, beginning, token = beam_step(total, log_p)
    torch.testing.assert_close(best.exp(), torch.tensor([[0.36, 0.2]]))
    assert beginning.tolist() == [[1, 0]] and token.tolist() == [[0, 0]]


def test_it_finds_what_a_loop_finds():
    generator = torch.Generator().manual_seed(0)
    total = torch.randn(3, 4, generator=generator)
    log_p = torch.randn(3, 4, 7, generator=generator).log_softmax(dim=-1)
    best, beginning, token = beam_step(total, log_p)
    assert best.shape == beginning.shape == token.shape == (3, 4)
    for b in range(3):
        every = sorted(((total[b, k] + log_p[b, k, v]).item(), k, v) for k in range(4) for v in range(7))[::-1]
        for i, (score, k, v) in enumerate(every[:4]):
            assert math.isclose(best[b, i], score, rel_tol=1e-6) and (beginning[b, i], token[b, i]) == (k, v)


def test_a_beginning_that_does_not_count_has_no_heirs():
    total = torch.tensor([[0.0, -torch.inf, -torch.inf]])
    log_p = torch.tensor([[[-3.0, -1.0, -2.0, -4.0]] + 2 * [[0.0, 0.0, 0.0, 0.0]]])
    best, beginning, token = beam_step(total, log_p)
    assert best.tolist() == [[-1, -2, -3]] and beginning.tolist() == [[0, 0, 0]] and token.tolist() == [[1, 2, 0]]
