"""Fails until several_tries.py is solved.
在 several_tries.py 完成之前，这里的测试不会通过。
"""

from itertools import combinations, product

import torch

from chapter_10_llm_modern_components.exercises.several_tries import leave_one_out, pass_at_k


def test_each_try_is_compared_with_the_others():
    found = leave_one_out(torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1], [5, 1, 3, 3]]))
    expected = torch.tensor([[1, -1 / 3, -1 / 3, -1 / 3], [0, 0, 0, 0], [8 / 3, -8 / 3, 0, 0]])
    torch.testing.assert_close(found, expected)


def test_the_whole_gradient_is_left():
    """Over all groups of three tries that can be drawn, each as often as it comes."""
    logits = torch.tensor([0.3, -0.5, 0.1], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, 0.2, 0.0], dtype=torch.float64)
    (wanted,) = torch.autograd.grad(logits.softmax(0) @ rewards, logits)
    total = torch.zeros_like(wanted)
    for group in map(list, product(range(3), repeat=3)):
        logps = logits.log_softmax(0)[group]
        (gradient,) = torch.autograd.grad((leave_one_out(rewards[group][None])[0] * logps).mean(), logits)
        total += logps.sum().exp().detach() * gradient
    torch.testing.assert_close(total, wanted)


def test_k_tries_are_counted():
    for n_right in range(6):
        tries = [True] * n_right + [False] * (5 - n_right)
        for k in range(1, 6):
            chosen = list(combinations(tries, k))
            assert abs(pass_at_k(n_right, 5, k) - sum(map(any, chosen)) / len(chosen)) < 1e-12
