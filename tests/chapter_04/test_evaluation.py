"""Chapter 4 counts mistakes rightly, and what it says about a network's insides follows from the network.
第 4 章把错误数得对；它对网络内部的说法，都能从网络本身推出来。
"""

import math
import re

import pytest
import torch
from torch import nn

from chapter_04_cnn_classic import visualize
from chapter_04_cnn_classic.attribution import (
    colour_axes,
    input_gradient,
    leaky_twin,
    maximise,
    occlusion,
    paint,
    saliency,
    smooth_saliency,
    top_places,
)
from chapter_04_cnn_classic.conv.receptive_field import Field
from chapter_04_cnn_classic.dataset import CIFAR10_CLASSES, MEAN_GREY
from chapter_04_cnn_classic.evaluation import (
    confusion_matrix,
    mistakes_within,
    most_confused,
    per_class,
    top_k_accuracy,
)
from chapter_04_cnn_classic.model import ModelConfig, build
from utils.checkpoint import round_to_half, save_model
from utils.errors import UserError

LABELS, ANSWERS = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 0, 0])
MATRIX = torch.tensor([[1, 1, 0], [0, 1, 0], [2, 0, 1]])  # counted by hand: rows are the true classes


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_a_confusion_matrix_counted_by_hand():
    assert torch.equal(confusion_matrix(ANSWERS, LABELS, 3), MATRIX)
    assert confusion_matrix(ANSWERS, LABELS, 5).shape == (5, 5), "classes that do not occur have their row"


def test_figures_of_each_class_by_hand():
    expected = {
        "recall": [1 / 2, 1, 1 / 3],
        "precision": [1 / 3, 1 / 2, 1],
        "f1": [2 / 5, 2 / 3, 1 / 2],
        "accuracy": [3 / 6, 5 / 6, 4 / 6],
    }
    figures = per_class(MATRIX)
    assert figures.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(figures[name], torch.tensor(values, dtype=torch.float64), rtol=1e-15, atol=0)
    unseen = per_class(confusion_matrix(ANSWERS, LABELS, 4))
    assert [unseen[name][3] for name in ("recall", "precision", "f1", "accuracy")] == [0, 0, 0, 1]


def test_top_k():
    scores = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    labels = torch.tensor([2, 2, 2])
    assert [top_k_accuracy(scores, labels, k) for k in (1, 2, 3, 9)] == [1 / 3, 2 / 3, 1, 1]


def test_the_largest_mistakes_and_their_groups():
    assert most_confused(MATRIX, 5) == [(2, 0, 2), (0, 1, 1)]
    assert most_confused(MATRIX, 1) == [(2, 0, 2)]
    groups = torch.tensor([0, 1, 0])
    assert mistakes_within(MATRIX, groups) == pytest.approx(2 / 3, rel=1e-15)
    assert mistakes_within(torch.ones(3, 3), groups) == pytest.approx(2 / 6, rel=1e-15)
    assert mistakes_within(torch.eye(3), groups) == 0, "without mistakes"


# --- what a network looks at ------------------------------------------------------------------------------------------


def linear(*shape):
    weight = torch.randn(*shape, dtype=torch.float64)
    return weight, lambda x: (x * weight).sum(dim=(1, 2, 3))


def test_the_gradient_of_a_linear_score_is_its_weights():
    weight, score = linear(3, 5, 4)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    gradient = input_gradient(score, x)
    assert torch.equal(gradient, weight.expand(2, -1, -1, -1)) and not x.requires_grad
    assert torch.equal(saliency(gradient)[1], weight.abs().max(dim=0).values)
    smooth = smooth_saliency(score, x, noise=10.0, samples=3)  # noise does not change a linear score's gradient
    torch.testing.assert_close(smooth[0], weight.square().mean(dim=0).sqrt(), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("height", "width", "size", "stride"), [(7, 5, 3, 2), (6, 6, 4, 4), (4, 5, 3, 1), (3, 3, 5, 2)]
)
def test_occlusion_is_its_loop(height, width, size, stride):
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * height * width, 1))
    net = net.double().requires_grad_(False)
    x = torch.randn(2, height, width, dtype=torch.float64)
    total, count, each = torch.zeros(height, width, dtype=torch.float64), torch.zeros(height, width), []
    for top in range(stride - size, height, stride):
        for left in range(stride - size, width, stride):
            square = (slice(max(top, 0), top + size), slice(max(left, 0), left + size))
            hidden = x.clone()
            hidden[:, square[0], square[1]] = 0.3
            each.append((net(x[None]) - net(hidden[None])).item())
            total[square] += each[-1]
            count[square] += 1
    falls, means = occlusion(lambda x: net(x)[:, 0], x, size, stride, fill=0.3, chunk=7)
    assert count.min() >= 1
    torch.testing.assert_close(falls, torch.tensor(each, dtype=torch.float64).view(falls.shape), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(means, total / count, rtol=1e-12, atol=1e-12)


def test_hiding_single_pixels_of_a_linear_score_takes_their_terms_away():
    weight, score = linear(3, 4, 4)
    x = torch.randn(3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(occlusion(score, x, 1, 1)[1], (weight * x).sum(dim=0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 1), (1, 6), (1,), (6, 3), (5,)])
def test_labels_of_another_shape_are_refused(shape):
    """Broadcasting would make a number of them without a word."""
    labels, scores = torch.zeros(shape, dtype=torch.int64), torch.rand(6, 3)
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        top_k_accuracy(scores, labels, 2)
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        confusion_matrix(ANSWERS, labels, 3)
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        mistakes_within(torch.ones(6, 6), labels)


@pytest.mark.parametrize("wrong", [3, -1])
def test_classes_out_of_range_are_refused(wrong):
    labels = LABELS.clone()
    labels[2] = wrong
    for answers, truth in ((ANSWERS, labels), (labels, ANSWERS)):
        with pytest.raises(ValueError, match="for 3 classes"):
            confusion_matrix(answers, truth, 3)
    with pytest.raises(ValueError, match="for 3 classes"):
        top_k_accuracy(torch.rand(6, 3), labels, 1)


# --- what its units want ----------------------------------------------------------------------------------------------


def test_a_drawn_picture_excites_its_unit_far_more_than_noise_does():
    net = build({"model": "vgg", "width": 0.2}).eval().stages[0]

    def unit(x):
        return net(4 * x - 2)[:, 3, 8, 8]

    before = [p.clone() for p in net.parameters()]
    drawn = maximise(unit, count=2, side=32, steps=60)
    assert drawn.shape == (2, 3, 32, 32) and 0 <= drawn.min() and drawn.max() <= 1
    noise = unit(torch.rand(200, 3, 32, 32))
    assert unit(drawn).min() > 2 * noise.max() > 0
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, net.parameters(), strict=True))


def test_decay_greys_what_the_unit_does_not_see():
    drawn = maximise(lambda x: 5 * x[:, 0, 8, 8], count=1, side=16, steps=100, decay=0.01)
    assert drawn[0, 0, 8, 8] > 0.7
    torch.testing.assert_close(drawn[:, 1:], torch.full_like(drawn[:, 1:], 0.5), rtol=0, atol=0.01)


def test_only_a_leaky_twin_opens_a_unit_that_is_shut():
    net = nn.Sequential(nn.Conv2d(3, 1, 3), nn.Sequential(nn.ReLU()))
    nn.init.constant_(net[0].weight, 0.1)
    nn.init.constant_(net[0].bias, -1.5)  # grey gives 27 * 0.1 / 2 - 1.5 < 0, white 1.2
    twin = leaky_twin(net)

    def middle(net):
        return lambda x: net(x)[:, 0, 3, 3]

    assert middle(net)(maximise(middle(net), 1, 8, 60)) == 0
    assert middle(net)(maximise(middle(twin), 1, 8, 60)) > 0.6
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(twin(x), nn.functional.leaky_relu(net[0](x), 0.1))
    assert isinstance(net[1][0], nn.ReLU), "the network itself is left alone"


@pytest.mark.parametrize("cycles", [1, 3])
def test_a_coefficient_is_one_wave_and_fine_ones_are_lower(cycles):
    side, waves = 12, torch.zeros(1, 3, 12, 7, 2, dtype=torch.float64)
    waves[0, 1, 0, cycles, 0] = 1
    picture = paint(waves, side, torch.eye(3, dtype=torch.float64))[0]
    wave = torch.cos(2 * math.pi * cycles * torch.arange(side, dtype=torch.float64) / side) / 4 / cycles
    torch.testing.assert_close(picture[1].logit(), wave.expand(side, side), rtol=1e-6, atol=1e-6)
    assert (picture[[0, 2]] == 0.5).all()


def test_colour_axes_are_those_of_the_covariance():
    images = torch.randint(0, 256, (10, 3, 4, 4), dtype=torch.uint8)
    axes = colour_axes(images)
    covariance = torch.cov(images.movedim(1, 0).reshape(3, -1).float())
    torch.testing.assert_close(axes @ axes.T, covariance / torch.linalg.eigvalsh(covariance)[-1], rtol=1e-4, atol=1e-5)
    assert axes.norm(dim=0).max().item() == pytest.approx(1, abs=1e-5)


def test_top_places_by_search():
    maps = torch.randn(9, 4, 3, 5)
    found = top_places(lambda x: x, maps.split(4), [1, 3], 2)
    for k, channel in enumerate([1, 3]):
        best = sorted(((maps[i, channel].max().item(), i) for i in range(9)), reverse=True)[:2]
        for place, (value, i) in enumerate(best):
            row, column = (int(found[key][k, place]) for key in ("row", "column"))
            assert (found["picture"][k, place], found["values"][k, place]) == (i, value)
            assert maps[i, channel, row, column] == value


def test_a_crop_is_what_the_unit_sees():
    image = torch.arange(3 * 64, dtype=torch.uint8).view(3, 8, 8)
    field = Field(size=4, jump=2, start=-1)
    assert torch.equal(visualize.crop(image, field, 1, 2), image[:, 1:5, 3:7])
    corner = visualize.crop(image, field, 0, 0)
    assert torch.equal(corner[:, 1:, 1:], image[:, :3, :3]) and (corner[:, 0] == MEAN_GREY).all()
    assert torch.equal(visualize.crop(image, Field(size=9), 0, 0), image)


# --- the script -------------------------------------------------------------------------------------------------------


def test_mistakes_end_in_one_clear_line(tmp_path):
    config = ModelConfig("vgg", 10, 0.1)
    model = build(vars(config))
    round_to_half(model)
    save_model(tmp_path / "model.pth", model, config, {"classes": CIFAR10_CLASSES, "split": "test"})
    options = ["--dry_run", "--out_dir", str(tmp_path)]
    with pytest.raises(UserError, match="knows airplane, .*: it needs another --dataset"):
        visualize.main([*options, "--model_path", str(tmp_path / "model.pth")])
    with pytest.raises(UserError, match="--index 40: there are 40 pictures"):
        visualize.main([*options, "--index", "40"])
