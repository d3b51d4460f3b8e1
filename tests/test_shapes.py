"""The drawn picture set is repeatable, balanced, drawn as described, and needs more than a linear model.
现画的图形数据集可以复现、类别均衡、与描述一致，而且线性模型学不会。
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from utils.data import batches
from utils.seed import set_seed
from utils.shapes import CLASSES, FIGURES, shapes


def polygon(corners):
    return corners / 2 * math.sin(2 * math.pi / corners)


AREAS = {  # in units of the radius squared
    "disc": math.pi,
    "ring": math.pi * (1 - 0.6**2),
    "triangle": polygon(3),
    "square": polygon(4),
    "pentagon": polygon(5),
    "star": 5 * 0.45 * math.sin(math.pi / 5),
    "cross": 2 * 1.9 * 0.6 - 0.6**2,
    "heart": 1.12**2 + math.pi * 0.56**2,
    "arrow": 1 + 0.95 * 0.5,
}


def test_a_picture_follows_from_its_seed_and_number():
    before = torch.get_rng_state()
    images, labels = shapes(700, side=24, seed=5)
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"
    for count in (1, 7, 455, 456):
        fewer, their_labels = shapes(count, side=24, seed=5)
        assert torch.equal(fewer, images[:count]) and torch.equal(their_labels, labels[:count])
    assert not torch.equal(shapes(700, side=24, seed=6)[0], images)


def test_the_set_is_balanced_and_of_the_promised_types():
    images, labels = shapes(1000, side=17)
    assert images.shape == (1000, 3, 17, 17) and images.dtype == torch.uint8
    assert labels.dtype == torch.int64 and labels.bincount().tolist() == [100] * len(CLASSES)
    assert len(images.flatten(1).unique(dim=0)) == 1000, "two pictures are equal"
    assert shapes(0)[0].shape == (0, 3, 32, 32)


def test_another_side_shows_the_same_scenes():
    small, large = shapes(50, side=32)[0].float(), shapes(50, side=96)[0].float()
    assert (F.avg_pool2d(large, 3) - small).abs().mean() < 0.5  # of 255


@pytest.mark.parametrize("name", CLASSES)
def test_a_figure_fills_its_area_and_stays_within_its_radius(name):
    axis = (torch.arange(1000) + 0.5) / 1000 * 2.4 - 1.2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = FIGURES[name](x, y) < 0
    assert torch.hypot(x, y)[inside].max() < 1.005
    area = inside.float().mean().item() * 2.4**2
    if name in AREAS:
        assert area == pytest.approx(AREAS[name], rel=2e-3)
    else:
        assert 0.2 < area < math.pi / 2  # the crescent: a disc less most of another


@pytest.mark.parametrize("name", CLASSES)
def test_edges_are_one_pixel_wide(name):
    """A slope of 1 everywhere turns a distance in pixels into the share of the pixel that is covered."""
    torch.manual_seed(0)
    x, y = (torch.randn(1000, dtype=torch.float64, requires_grad=True) for _ in range(2))
    slopes = torch.autograd.grad(FIGURES[name](x, y).sum(), (x, y))
    torch.testing.assert_close(torch.hypot(*slopes), torch.ones_like(x))


def test_a_small_cnn_learns_what_a_linear_model_cannot():
    train, test = shapes(2000, side=24, seed=0), shapes(500, side=24, seed=1)
    set_seed(0)
    layers = []
    for before, after in ((3, 12), (12, 24), (24, 48)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    cnn = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 9, 10))
    assert accuracy(cnn, train, test, lr=1e-2) > 0.4  # 0.96 after ten epochs on 10,000 pictures of 32 x 32
    assert accuracy(nn.Sequential(nn.Flatten(), nn.Linear(3 * 24**2, 10)), train, test, lr=1e-3) < 0.2


def accuracy(model, train, test, lr, epochs=6):
    (train_x, train_y), (test_x, test_y) = ((x.float() / 128 - 1, y) for x, y in (train, test))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * 40)
    for _ in range(epochs):
        for x, y in batches(train_x, train_y, batch_size=50, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return (model.eval()(test_x).argmax(dim=1) == test_y).float().mean().item()
