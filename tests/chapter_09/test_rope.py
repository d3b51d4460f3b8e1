"""Rotary positions: the definition, both conventions, and scores that depend on distances alone.
旋转位置编码：定义、两种约定，以及只取决于距离的打分。
"""

import pytest
import torch

from chapter_08_transformer_vanilla.positional_encoding import angular_frequencies, shift_matrix
from chapter_09_efficient_attention.grouped import GroupedAttention
from chapter_09_efficient_attention.latent import LatentAttention
from chapter_09_efficient_attention.linear import (
    DeltaRule,
    GatedLinearAttention,
    LinearAttention,
    Retention,
    elu_features,
)
from chapter_09_efficient_attention.rope import (
    linear_scaling,
    llama3_scaling,
    rotary,
    rotary_table,
    rotate_complex,
    turn,
)
from tests.chapter_09.parity import check_equal, random


@pytest.mark.parametrize("length,d,first,base", [(1, 2, 0, 10000.0), (5, 6, 0, 100.0), (3, 8, 1000, 500000.0)])
def test_both_conventions_are_the_definition(length, d, first, base):
    x = random(2, 3, length, d)
    expected = rotate_complex(x, first, base)
    check_equal(rotary(x, first, base, interleaved=True), expected, [x])
    order = torch.arange(d).view(-1, 2).T.flatten()  # the first numbers of all pairs, then the second ones
    check_equal(rotary(x[..., order], first, base), expected[..., order], [x])


def test_a_turn_is_chapter_8s_rotation():
    x = random(4, 6)
    rows = [shift_matrix(-place, 6) @ x[place] for place in range(4)]
    check_equal(rotary(x, interleaved=True), torch.stack(rows), [x])


def test_scores_depend_on_the_distance_alone():
    q, k = random(1, 8), random(1, 8)
    scores = [(rotary(q, i) @ rotary(k, j).T).item() for i, j in [(3, 1), (1002, 1000), (2, 0)]]
    assert max(scores) - min(scores) < 1e-9
    assert abs((rotary(q, 4) @ rotary(k, 1).T).item() - scores[0]) > 1e-3
    torch.testing.assert_close(rotary(q, 77).norm(), q.norm())


def test_a_sequence_can_be_turned_in_parts():
    x = random(2, 7, 4)
    parts = torch.cat([rotary(x[:, :3]), rotary(x[:, 3:], first=3)], dim=1)
    assert torch.equal(parts, rotary(x)) and rotary(x.bfloat16()).dtype == torch.bfloat16


def test_an_odd_width_has_no_pairs():
    with pytest.raises(ValueError, match="odd"):
        rotary(torch.ones(2, 3))
    turned = [lambda: GroupedAttention(6, 2), lambda: LatentAttention(8, 2, d_latent=4, d_rope=3)]
    turned += [lambda: Retention(6, 2), lambda: LinearAttention(6, 2, elu_features)]
    for make in turned:  # before anything is trained
        with pytest.raises(ValueError, match="a width of 3 has one without a partner"):
            make()
    for layer in (GroupedAttention(6, 2, rope_base=None), GatedLinearAttention(6, 2), DeltaRule(6, 2)):
        assert layer(torch.ones(1, 2, 6)).shape == (1, 2, 6)


def test_scaled_places_are_those_of_shorter_texts():
    x, frequencies = random(1, 6), angular_frequencies(6)
    angles = (12 * linear_scaling(frequencies, 4.0)).repeat(2)
    check_equal(turn(x, angles.cos(), angles.sin()), rotary(x, first=3), [x])
    table = rotary_table(1, 6, 3, 10000.0, True, x.device, x.dtype)
    check_equal(turn(x, *table, interleaved=True), rotate_complex(x, 3), [x])


def test_llama3_slows_down_only_what_never_came_round():
    frequencies = angular_frequencies(64, 500000.0)
    scaled = llama3_scaling(frequencies, 8.0, 1.0, 4.0, 8192)
    turns = 8192 * frequencies / (2 * torch.pi)
    fast, slow = turns > 4, turns < 1
    assert torch.equal(scaled[fast], frequencies[fast]) and torch.equal(scaled[slow], frequencies[slow] / 8)
    between = (scaled / frequencies)[~fast & ~slow]
    assert len(between) and (between > 1 / 8).all() and (between < 1).all() and (between.diff() < 0).all()
