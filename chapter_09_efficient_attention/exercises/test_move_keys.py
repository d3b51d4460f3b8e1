"""Fails until move_keys.py is solved.
在 move_keys.py 完成之前，这里的测试不会通过。
"""

import torch

from chapter_09_efficient_attention.exercises.move_keys import move, turn
from chapter_09_efficient_attention.rope import rotary


def make(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_places_in_a_row_are_the_modules():
    x = make(2, 3, 7, 6)
    torch.testing.assert_close(turn(x, torch.arange(4, 11)), rotary(x, 4), rtol=0, atol=1e-9)


def test_only_the_distance_counts():
    q, k = make(2, 1, 8)
    near = turn(q, torch.tensor([5.0])) @ turn(k, torch.tensor([2.5])).T
    far = turn(q, torch.tensor([1005.0])) @ turn(k, torch.tensor([1002.5])).T
    assert abs(near - far).item() < 1e-9
    assert abs(near - turn(q, torch.tensor([5.0])) @ turn(k, torch.tensor([3.5])).T).item() > 1e-3


def test_kept_keys_move():
    k, places = make(2, 5, 6), torch.tensor([0, 3, 4, 9, 30])
    kept = turn(k, places)
    torch.testing.assert_close(move(kept, -2.5), turn(k, places - 2.5), rtol=0, atol=1e-9)
    torch.testing.assert_close(move(move(kept, 40), -40), kept, rtol=0, atol=1e-9)
