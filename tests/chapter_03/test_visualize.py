"""What chapter 3 draws is what it says: landscapes, paths, contraction rates, directions on a loss surface.
第 3 章画出来的与它所说的一致：地形、路径、收缩率，以及损失曲面上的方向。
"""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch.autograd.functional import hessian
from torch.nn.utils import vector_to_parameters

from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from chapter_03_optimization_regularization.experiments.landscapes import (
    LANDSCAPES,
    at_rest,
    beale,
    ravine,
    rosenbrock,
    saddle,
    sweep,
    trajectory,
)
from chapter_03_optimization_regularization.figures.optimization_paths import EXACT, few_colours, path_until
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, SGD
from chapter_03_optimization_regularization.visualize import (
    METHODS,
    contraction,
    instability_after_convergence,
    loss_along,
    steps_by_decay_rate,
)
from tests.conftest import ROOT


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("place", LANDSCAPES)
def test_a_landscape_is_lowest_where_it_says(place):
    landscape = LANDSCAPES[place]
    x = f64(*landscape.minimum).requires_grad_()
    value = landscape.function(x)
    value.backward()
    assert value.item() == 0 and x.grad.abs().max() == 0
    left, right, bottom, top = landscape.window
    for x, y in (landscape.start, landscape.minimum):
        assert left < x < right and bottom < y < top
    points = torch.rand(3, 4, 2, dtype=torch.float64)
    assert landscape.function(points).shape == (3, 4)
    assert (landscape.function(points) > 0).all()


def test_worked_values():
    assert rosenbrock(f64(-1.2, 1.0)).item() == pytest.approx(24.2, rel=1e-14)
    assert beale(f64(1.0, 1.0)).item() == 14.203125
    assert saddle(f64(0.0, 0.0)).item() == 0.25
    assert torch.linalg.eigvalsh(hessian(saddle, f64(0.0, 0.0))).tolist() == [-1, 20]


@pytest.mark.parametrize("degrees", [0, 30, 77])
def test_a_ravine_has_its_condition_number_at_every_angle(degrees):
    eigenvalues = torch.linalg.eigvalsh(hessian(ravine(50, degrees), f64(0.3, -2.0)))
    torch.testing.assert_close(eigenvalues, f64(1, 50), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name, unmoved", [("sgd", True), ("nesterov", True), ("adam", False), ("rmsprop", False)])
def test_gradient_descent_does_not_see_how_a_ravine_is_turned(name, unmoved):
    make, angle = partial(OPTIMIZERS[name], lr=0.01), math.radians(30)
    turn = f64(math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)).view(2, 2)
    straight = trajectory(ravine(degrees=0), (-3.0, 1.0), make, 50)
    turned = trajectory(ravine(degrees=30), (turn @ f64(-3.0, 1.0)).tolist(), make, 50)
    assert torch.allclose(straight @ turn.T, turned, rtol=1e-10, atol=1e-12) == unmoved


def test_a_trajectory_is_the_path_that_pytorch_takes():
    make = partial(SGD, lr=1e-3, momentum=0.9)
    ours = trajectory(rosenbrock, (-1.2, 1.0), make, 100)
    theirs = trajectory(rosenbrock, (-1.2, 1.0), partial(torch.optim.SGD, lr=1e-3, momentum=0.9), 100)
    assert ours.shape == (101, 2) and ours.dtype == torch.float64 and ours[0].tolist() == [-1.2, 1.0]
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["momentum", "adam", "lion"])
def test_a_sweep_is_many_trajectories(name):
    rates = [1e-3, 1e-2, 1e3]  # the last runs away
    together = sweep(rosenbrock, (-1.2, 1.0), OPTIMIZERS[name], rates, 30)
    assert together.shape == (3, 31, 2)
    for rate, path in zip(rates[:2], together[:2], strict=True):
        alone = trajectory(rosenbrock, (-1.2, 1.0), partial(OPTIMIZERS[name], lr=rate), 30)
        torch.testing.assert_close(path, alone, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_rest_is_for_good():
    falling = 10.0 ** -torch.arange(100.0)
    assert at_rest(falling) == 7  # 1e-6 itself is not below
    falling[50] = 1
    assert at_rest(falling) == 51
    falling[95] = math.nan
    assert at_rest(falling) is None


@pytest.mark.parametrize("method, tolerance", [("gradient_descent", 1e-6), ("nesterov", 0.04), ("momentum", 0.04)])
def test_distances_shrink_at_the_predicted_rate(method, tolerance):
    row = contraction(method, 30)
    assert math.log(row["measured"]) == pytest.approx(math.log(row["predicted"]), rel=tolerance)
    assert row["distances"][row["steps"]] <= 1e-6 < row["distances"][row["steps"] - 1]


def test_a_plane_goes_through_its_origin_and_its_directions():
    torch.manual_seed(0)
    model, x, y = MLP(MLPConfig(2, 4, 1, 3)), torch.randn(20, 2), torch.arange(20) % 3
    origin, across, along = torch.randn(3, sum(p.numel() for p in model.parameters()))
    losses = loss_along(model, x, y, origin, [across, along], [torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0, 2.0])])
    assert losses.shape == (2, 3)
    for place, at in (((0, 0), origin), ((1, 2), origin + across + 2 * along)):
        vector_to_parameters(at, model.parameters())
        assert losses[place].item() == pytest.approx(cross_entropy(model(x), y).item(), rel=1e-5)


def test_steps_to_rest_depend_on_the_decay_rate_of_v():
    """With RMSprop's memory of 0.99 Adam never rests in the ravine, with Adam's of 0.999 RMSprop does."""
    found = steps_by_decay_rate(2000)
    assert found == {"ravine_rmsprop_alpha_0999_steps": 361, "ravine_adam_beta2_099_steps": None}


def test_adam_at_a_large_rate_is_thrown_out_of_rosenbrocks_valley():
    found = instability_after_convergence(2000)
    assert found["early_rest_lr"] == pytest.approx(0.464, abs=1e-3)
    assert (found["early_rest_steps"], found["early_rest_ends"]) == (760, 1656)


def test_between_two_steps_the_film_goes_straight():
    path = f64(0, 0, 2, 0, 2, 4).view(3, 2)
    assert path_until(path, 1.25).tolist() == [[0, 0], [2, 0], [2, 1]]
    assert path_until(path, 1.25, since=1.1).tolist() == [[2, 0], [2, 1]]
    assert path_until(path, 2.0)[-1].tolist() == [2, 4]


def test_few_colours_keep_those_of_the_paths():
    shades = np.random.default_rng(0).integers(100, 200, (200, 200, 3), dtype=np.uint8)
    image = Image.fromarray(shades)
    for i, colour in enumerate(EXACT):
        image.paste(tuple(round(255 * c) for c in colour), (i, 0, i + 1, 1))  # a single pixel
    small = few_colours(image)
    assert small.mode == "P"
    pixels = [small.convert("RGB").getpixel((i, 0)) for i in range(len(EXACT))]
    assert pixels == [image.getpixel((i, 0)) for i in range(len(EXACT))]


def test_the_published_rates_are_those_predicted():
    path = ROOT / "chapter_03_optimization_regularization/results/visualize.json"
    final = json.loads(path.read_text(encoding="utf-8"))["final"]
    for method in METHODS:
        for kappa in (10, 100, 1000):
            measured, theory = (math.log(final[f"rate_{method}_{kappa}{end}"]) for end in ("", "_theory"))
            assert measured == pytest.approx(theory, rel=0.05)
    assert final["steps_momentum_1000"] < final["steps_nesterov_1000"] < final["steps_gradient_descent_1000"] / 10
