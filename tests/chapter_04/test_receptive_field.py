"""Chapter 4: a receptive field by rule is the one measured, and the one that counts; no pixel outside it matters.
第 4 章：按规则推算的感受野等于测得的、真正起作用的感受野；视野之外的像素毫无影响。
"""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from chapter_04_cnn_classic.conv.receptive_field import (
    Field,
    effective_field,
    measured_receptive_field,
    middle_size,
    receptive_field,
    stage_paths,
)
from chapter_04_cnn_classic.model import MODELS, Branches, build


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def mean_layer(kernel=3):
    """A convolution that takes the mean of each window."""
    layer = nn.Conv2d(1, 1, kernel, padding=kernel // 2, bias=False).double()
    nn.init.constant_(layer.weight, 1 / kernel**2)
    return layer


def test_the_rule_by_hand():
    field, fields = Field(), []
    for layer in "conv conv pool conv conv pool conv conv pool".split():
        field = field.through(3, padding=1) if layer == "conv" else field.through(2, stride=2)
        fields.append((field.size, field.jump, field.start))
    assert [f[0] for f in fields] == [3, 5, 6, 10, 14, 16, 24, 32, 36]
    assert [f[1] for f in fields] == [1, 1, 2, 2, 2, 4, 4, 4, 8]
    assert [f[2] for f in fields] == [-1, -2, -2, -4, -6, -6, -10, -14, -14]
    assert list(Field(size=3, jump=2, start=-1).pixels(2)) == [3, 4, 5]


@pytest.mark.parametrize("name", MODELS)
def test_rule_and_gradient_agree_at_every_stage(name):
    model = build({"model": name, "width": 0.1})
    paths = stage_paths(model)
    assert list(paths) == model.stage_names
    for path in paths.values():
        assert receptive_field(path) == measured_receptive_field(path)
    assert receptive_field(model) == receptive_field(path) == receptive_field(build({"model": name, "width": 0.4}))


@pytest.mark.parametrize("name", MODELS)
def test_in_the_real_network_what_is_seen_matters_and_the_rest_does_not(name):
    """No linear copy here: change pixels, and look whether the unit's numbers change."""
    model = build({"model": name, "width": 0.3}).double().eval()
    field = receptive_field(model)
    unit = -(field.start // field.jump)
    seen = field.pixels(unit)
    x = torch.randn(1, 3, seen.stop + 8, seen.stop + 8, dtype=torch.float64)

    def numbers(x):
        return model.features(x)[0, :, unit, unit]

    with torch.no_grad():
        before, outside = numbers(x), 9 * torch.randn_like(x)
        outside[:, :, seen[0] : seen.stop, seen[0] : seen.stop] = x[:, :, seen[0] : seen.stop, seen[0] : seen.stop]
        torch.testing.assert_close(numbers(outside), before, rtol=1e-12, atol=1e-14)
        for row in (seen[0], seen[-1]):  # the outermost rows; maxima and ReLUs let some changes through, not all
            changed = x.clone()
            changed[:, :, row, seen[0] : seen.stop] += 1000
            assert (numbers(changed) - before).abs().max() > 1e-6 * before.abs().max()


@pytest.mark.parametrize("seed", range(12))
def test_rule_and_gradient_agree_on_random_chains(seed):
    def draw(low, high):
        return int(torch.randint(low, high + 1, ()))

    torch.manual_seed(seed)
    layers = []
    for _ in range(draw(1, 4)):
        kernel, stride, dilation = draw(1, 5), draw(1, 2), draw(1, 3)
        pool = nn.MaxPool2d(kernel, stride, padding=draw(0, kernel // 2))
        conv = nn.Conv2d(2, 2, kernel, stride, padding=draw(0, 3), dilation=dilation, groups=draw(1, 2))
        mean = nn.AvgPool2d(kernel, stride)
        layers += [(pool, conv, mean)[draw(0, 2)], nn.BatchNorm2d(2), nn.ReLU(inplace=True)]
    chain = nn.Sequential(*layers)
    assert receptive_field(chain) == measured_receptive_field(chain)


def test_branches_see_the_union():
    lopsided = Branches(nn.Conv2d(2, 1, 3), nn.Conv2d(2, 1, 5, padding=4), nn.Identity())  # rows 0..2, -4..0, 0..0
    assert receptive_field(lopsided) == Field(size=7, jump=1, start=-4)
    same_size = Branches(nn.Conv2d(2, 1, 3, padding=1), nn.Conv2d(2, 1, 5, padding=2), nn.MaxPool2d(3, 1, padding=1))
    assert receptive_field(same_size) == measured_receptive_field(same_size) == Field(size=5, jump=1, start=-2)


def test_a_layer_that_is_used_twice_counts_twice():
    pool = nn.MaxPool2d(2)
    chain = nn.Sequential(pool, pool)
    assert receptive_field(chain) == measured_receptive_field(chain) == Field(size=4, jump=4)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Linear(3, 3), "Linear"),
        (nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1)), "AdaptiveAvgPool2d"),
        (nn.GroupNorm(1, 3), "GroupNorm"),  # its mean is over all places
        (nn.Conv2d(3, 3, (1, 3)), "same along both axes"),
        (nn.Conv2d(3, 3, 3, padding="same"), "'same'"),
        (Branches(nn.Conv2d(3, 3, 1), nn.MaxPool2d(2)), "same stride"),
    ],
)
def test_the_rule_says_what_it_does_not_know(module, reason):
    with pytest.raises(ValueError, match=reason):
        receptive_field(module)


@pytest.mark.parametrize("side", [32, 60])
def test_a_picture_too_small_to_measure_on_is_refused(side):
    with pytest.raises(ValueError, match=f"{side} pixels is too small"):
        measured_receptive_field(nn.Sequential(nn.Conv2d(1, 1, 31, padding=1), nn.Conv2d(1, 1, 31, padding=29)), side)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_effective_field_of_means_is_their_convolution(n):
    row = np.ones(1)
    for _ in range(n):
        row = np.convolve(row, np.ones(3) / 3)
    chain = nn.Sequential(*(mean_layer() for _ in range(n)))
    weight = effective_field(chain, torch.randn(2, 1, 2 * n + 3, 2 * n + 3, dtype=torch.float64), unit=n + 1)
    expected = torch.zeros_like(weight)
    expected[1:-1, 1:-1] = torch.from_numpy(np.outer(row, row))
    torch.testing.assert_close(weight, expected, rtol=1e-12, atol=1e-15)


def test_measuring_leaves_the_network_as_it_was():
    model = build({"model": "vgg", "width": 0.1}).train()
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 3, 56, 56)
    weight, field = effective_field(model, x, unit=3), receptive_field(model)
    measured_receptive_field(model)
    assert all(m.training for m in model.modules()) and all(p.grad is None for p in model.parameters())
    assert not x.requires_grad and all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert weight.sum() == pytest.approx(1, abs=1e-5)
    seen = field.pixels(3)
    weight[seen[0] : seen.stop, seen[0] : seen.stop] = 0
    assert not weight.any()


def test_the_middle_is_the_smallest_square():
    flat = torch.ones(10, 10)
    assert middle_size(flat, 4.5, share=0.36) == 6 and middle_size(flat, 4.5, share=0.37) == 8
    assert middle_size(flat[1:, 1:], 4, share=1.0) == 9
    point = torch.zeros(7, 7)
    point[3, 3] = 2
    assert middle_size(point, 3) == 1
