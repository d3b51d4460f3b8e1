"""Numbers that chapter 3's README works out by hand, computed again.
第 3 章 README 中手算的数，在这里重新算一遍。
"""

import math

import pytest
import torch

from chapter_03_optimization_regularization.experiments.landscapes import trajectory
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, SGD, Adam


def test_nesterovs_guarantee_for_the_distance_is_the_root_of_the_one_for_f():
    kappa = 50
    slowest = 1 - 1 / math.sqrt(kappa)
    assert slowest == pytest.approx(0.8586, abs=5e-5) and math.sqrt(slowest) == pytest.approx(0.9266, abs=5e-5)
    beta = (math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1)
    curvatures = torch.tensor([1.0, kappa], dtype=torch.float64)
    path = trajectory(
        lambda x: (curvatures * x**2).sum() / 2,
        (1.0, 1.0),
        lambda params: SGD(params, lr=1 / kappa, momentum=beta, nesterov=True),
        120,
    )
    errors = path.abs().amax(dim=1)
    assert int((errors >= 1e-6).nonzero()[-1]) + 1 == 109
    f = (curvatures * path**2).sum(dim=1) / 2
    steps = torch.arange(121, dtype=torch.float64)
    distance = path.norm(dim=1)
    assert (f <= 2 * f[0] * slowest**steps).all(), "the guarantee, with its constant"
    assert (distance**2 <= 2 * f + 1e-30).all(), "f bounds the square of the distance, as the least curvature is 1"


def test_one_gradient_of_a_thousand_slows_a_weight_for_thousands_of_steps():
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = Adam([p], lr=1.0)
    optimizer.state[p] = {"step": 10**6, "m": torch.ones_like(p), "v": torch.ones_like(p)}  # gradients of 1 so far
    moved = []
    for g in (1000.0, *[1.0] * 6000):
        p.grad, before = torch.full_like(p, g), p.item()
        optimizer.step()
        moved.append(before - p.item())
    v = [1.0 + 999.999 * 0.999**k for k in range(6001)]  # 1,000.999 after the large one
    assert moved[0] == pytest.approx(3.2, abs=0.05)
    assert 1 / math.sqrt(v[0]) == pytest.approx(1 / 32, rel=0.02)
    assert moved[1000] == pytest.approx(1 / math.sqrt(v[1000]), rel=1e-3) == pytest.approx(1 / 19, rel=0.02)
    assert next(k for k in range(6001) if math.sqrt(v[k]) < 2) == 5807
    assert moved[5807] == pytest.approx(0.5, abs=1e-3)


def test_rates_whose_squares_sum_to_infinity_can_come_to_rest():
    variance, checked = 1.0, []
    for t in range(1, 1_000_001):
        rate = 1 / math.sqrt(t)
        variance = (1 - rate) ** 2 * variance + rate**2
        if t in (100, 10_000, 1_000_000):
            checked.append(variance / (rate / (2 - rate)))
    assert checked == pytest.approx([1, 1, 1], rel=0.06) and variance < 6e-4


def test_the_mean_square_of_swallowed_noise_is_d_over_n():
    x = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    for d, expected in ((1, 1 / 3), (2, 2 / 3), (3, 1.0)):
        design = torch.stack([x**k for k in range(d)], dim=1)  # (3, d)
        projection = design @ torch.linalg.pinv(design)
        assert (projection.T @ projection).trace().item() / 3 == pytest.approx(expected, rel=1e-12)


def test_muons_scale_is_a_step_of_root_mean_square_one_fifth():
    g = torch.randn(12, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, vt = torch.linalg.svd(g, full_matrices=False)
    assert (0.2 * math.sqrt(30) * (u @ vt)).square().mean().sqrt().item() == pytest.approx(0.2, rel=1e-12)


def test_the_quick_start_of_the_readme_trains():
    """Its import lines are checked in test_docs; here the three objects work together."""
    from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup

    w = torch.tensor([3.0], requires_grad=True)
    optimizer = OPTIMIZERS["adamw"]([w], lr=0.1, weight_decay=0.05)
    schedule = Schedule(optimizer, warmup(cosine(90), 10))
    for _ in range(100):
        optimizer.zero_grad()
        (w**2).sum().backward()
        optimizer.step()
        schedule.step()
    assert abs(w.item()) < 0.1 and optimizer.param_groups[0]["lr"] == 0
