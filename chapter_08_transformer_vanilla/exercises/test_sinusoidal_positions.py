"""Fails until sinusoidal_positions.py is solved.
在 sinusoidal_positions.py 完成之前，这里的测试不会通过。
"""

import torch

from chapter_08_transformer_vanilla.exercises.sinusoidal_positions import positions, shifted
from chapter_08_transformer_vanilla.positional_encoding import sinusoidal_encoding


def test_positions_by_hand():
    table = positions(3, 4)
    assert table.shape == (3, 4) and table.dtype == torch.float64
    expected = torch.tensor([[0, 1, 0, 1], [0.8415, 0.5403, 0.0100, 0.9999], [0.9093, -0.4161, 0.0200, 0.9998]])
    torch.testing.assert_close(table, expected.double(), rtol=0, atol=1e-4)


def test_it_is_the_modules():
    for n_positions, d_model in ((1, 2), (7, 6), (60, 64)):
        expected = sinusoidal_encoding(n_positions, d_model)
        torch.testing.assert_close(positions(n_positions, d_model), expected, rtol=0, atol=1e-12)


def test_a_shift_needs_no_position():
    table = sinusoidal_encoding(100, 16)
    for distance in (0, 1, -5, 30):
        moved = shifted(table[40:60], distance)
        torch.testing.assert_close(moved, table[40 + distance : 60 + distance], rtol=0, atol=1e-11)
