"""Positions against the paper's formula; a shift is a rotation; tables grow without changing what they held.
位置编码：与论文公式对照；平移即旋转；表变长时，原有的行不变。
"""

import math

import pytest
import torch

from chapter_08_transformer_vanilla.positional_encoding import (
    POSITIONS,
    angular_frequencies,
    shift_matrix,
    sinusoidal_encoding,
)


def test_sinusoids_are_those_of_the_paper():
    d_model, first = 6, 3
    table = sinusoidal_encoding(5, d_model, first)
    assert table.shape == (5, d_model) and table.dtype == torch.float64
    for row in range(5):
        for i in range(d_model // 2):
            angle = (first + row) / 10000 ** (2 * i / d_model)
            assert table[row, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert table[row, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


@pytest.mark.parametrize("distance", [0, 1, -4, 37])
def test_a_shift_is_one_rotation_for_all_positions(distance):
    table = sinusoidal_encoding(200, 16)
    matrix = shift_matrix(distance, 16)
    shifted = table[50:150] @ matrix.T  # (100, D) @ (D, D) -> (100, D)
    torch.testing.assert_close(shifted, table[50 + distance : 150 + distance], rtol=0, atol=1e-11)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix @ shift_matrix(3, 16), shift_matrix(distance + 3, 16), rtol=0, atol=1e-12)


def test_the_product_of_two_positions_depends_on_their_distance_alone():
    table = sinusoidal_encoding(60, 32)
    products = table @ table.T  # (60, 60)
    for distance in (0, 1, 10):
        expected = (distance * angular_frequencies(32)).cos().sum()
        torch.testing.assert_close(products.diagonal(distance), expected.expand(60 - distance), rtol=0, atol=1e-11)


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="a width of 7 is odd"):
        sinusoidal_encoding(3, 7)


@pytest.mark.parametrize("name", POSITIONS)
def test_a_sequence_may_be_given_in_parts(name):
    positions, x = POSITIONS[name](8, max_length=10), torch.randn(2, 10, 8)
    whole = positions(x)
    parts = [positions(part, first) for first, part in ((0, x[:, :4]), (4, x[:, 4:5]), (5, x[:, 5:]))]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=0)
    assert torch.equal(whole, x) is (name == "none")


def test_the_table_grows_and_is_not_saved():
    positions, x = POSITIONS["sinusoidal"](8, max_length=4), torch.zeros(1, 11, 8)
    short = positions(x[:, :4])
    long = positions(x)
    torch.testing.assert_close(long[:, :4], short, rtol=0, atol=0)
    torch.testing.assert_close(long[0], sinusoidal_encoding(11, 8).float(), rtol=0, atol=0)
    torch.testing.assert_close(positions(x, first=500)[0], sinusoidal_encoding(11, 8, 500).float(), rtol=0, atol=0)
    assert not positions.state_dict()


def test_learned_positions_end():
    positions = POSITIONS["learned"](8, max_length=4)
    assert positions(torch.zeros(1, 2, 8), first=2).shape == (1, 2, 8)
    with pytest.raises(ValueError, match="a sequence of 5 tokens is too long: 4 positions were learned"):
        positions(torch.zeros(1, 1, 8), first=4)
