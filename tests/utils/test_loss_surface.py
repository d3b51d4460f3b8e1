"""Loss surfaces: exact where they are known, blind to a rescaling that changes nothing, without a trace.
损失曲面：已知处分毫不差，对不改变函数的缩放视而不见，且不留痕迹。
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from chapter_05_resnet_modern_cnn.src.model import build
from utils.loss_surface import filter_normalise, filter_norms, loss_surface, random_directions, vector_direction
from utils.seed import set_seed

AXES = [torch.linspace(-1, 1, 5), torch.linspace(-0.5, 1.5, 4)]


@pytest.fixture(autouse=True)
def _seed():
    set_seed(0)


def network(eps=1e-5):
    """Two convolutions and a linear layer, each convolution followed by a norm, in float64."""
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=eps), nn.ReLU(), nn.Conv2d(4, 5, 3, bias=False)]
    layers += [nn.BatchNorm2d(5, eps=eps), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 3)]
    return nn.Sequential(*layers).double()


def batches(*sizes):
    return [(torch.randn(size, 3, 8, 8, dtype=torch.float64), torch.randint(3, (size,))) for size in sizes]


# --- directions -------------------------------------------------------------------------------------------------------


def test_a_filter_of_a_direction_is_as_long_as_the_networks():
    model = network()
    weights = {name: p for name, p in model.named_parameters() if p.ndim > 1}
    directions = random_directions(model, count=3)
    for direction in directions:
        assert list(direction) == list(weights) == ["0.weight", "3.weight", "7.weight"], "biases and norms stay"
        for name, change in direction.items():
            assert filter_norms(change).shape == (len(change), *[1] * (change.ndim - 1))
            norms = weights[name].flatten(1).square().sum(dim=1).sqrt()
            torch.testing.assert_close(filter_norms(change).flatten(), norms, rtol=1e-14, atol=0)
    assert not torch.equal(directions[0]["0.weight"], directions[1]["0.weight"])


def test_normalising_keeps_the_angle_and_leaves_a_filter_of_0_at_0():
    direction, weight = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64)
    weight[1] = 0
    scaled = filter_normalise(direction, weight)
    assert not scaled[1].any()
    for k in (0, 2):
        cosine = nn.functional.cosine_similarity(scaled[k].flatten(), direction[k].flatten(), dim=0)
        assert cosine.item() == pytest.approx(1, abs=1e-14)


def test_directions_follow_from_the_seed_alone():
    model = network()
    before = torch.get_rng_state()
    first, second = random_directions(model, seed=5), random_directions(model, count=1, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    other = random_directions(model, seed=6)
    assert not any(torch.equal(first[0][name], other[0][name]) for name in first[0])
    half = random_directions(model.float(), seed=5)  # another precision: the same directions, rounded
    torch.testing.assert_close(half[1]["3.weight"].double(), first[1]["3.weight"], rtol=1e-5, atol=1e-6)


def test_two_directions_are_almost_orthogonal_in_a_large_network():
    d, e = random_directions(build({"depth": 18, "width": 16}))
    d, e = (torch.cat([change.flatten() for change in direction.values()]) for direction in (d, e))
    assert abs(nn.functional.cosine_similarity(d, e, dim=0)) < 0.01


def test_a_difference_of_two_trainings_is_a_direction_too():
    """At 1 the loss is that of the other end."""
    model, other, data = network(), network(), batches(4)
    apart = parameters_to_vector(other.parameters()) - parameters_to_vector(model.parameters())
    direction = vector_direction(model, apart.detach())
    assert list(direction) == [name for name, _ in model.named_parameters()]
    line = loss_surface(model, data, [direction], [torch.tensor([0.0, 1.0])], cross_entropy)
    ends = [cross_entropy(m(data[0][0]), data[0][1]).item() for m in (model, other)]
    assert line.tolist() == pytest.approx(ends, rel=1e-12)
    with pytest.raises(RuntimeError):
        vector_direction(model, apart[:-1])


# --- surfaces ---------------------------------------------------------------------------------------------------------


def test_the_surface_of_a_linear_model_is_the_known_quadratic():
    """|X (W + a D + b E)' + c - Y|^2 / N = (R, R) + 2a (R, P) + 2b (R, Q) + a^2 (P, P) + 2ab (P, Q) + b^2 (Q, Q)."""
    model = nn.Linear(4, 3).double()
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    d, e = (direction["weight"] for direction in random_directions(model))
    found = loss_surface(
        model,
        [(x, y)],
        [{"weight": d}, {"weight": e}],
        AXES,
        loss=lambda output, target: (output - target).square().sum(dim=1).mean(),
    )
    r, p, q = x @ model.weight.T + model.bias - y, x @ d.T, x @ e.T
    a, b = AXES[0].double()[:, None], AXES[1].double()[None, :]
    slope = a * (r * p).sum() + b * (r * q).sum() + a * b * (p * q).sum()
    expected = (r * r).sum() + 2 * slope + a**2 * (p * p).sum() + b**2 * (q * q).sum()
    assert found.shape == (5, 4) and found.dtype == torch.float64
    torch.testing.assert_close(found, expected.detach() / 20, rtol=1e-13, atol=1e-13)


def test_a_curve_is_a_line_of_the_surface_and_the_centre_is_the_models_own_loss():
    model, data = network(), batches(6, 2)
    directions = random_directions(model)
    whole = loss_surface(model, data, directions, [AXES[0], torch.tensor([0.0, 0.7])], cross_entropy)
    curve = loss_surface(model, data, directions[:1], AXES[:1], cross_entropy)
    torch.testing.assert_close(whole[:, 0], curve, rtol=1e-14, atol=0)
    for training in (True, False):
        centre = loss_surface(model, data, directions, [torch.zeros(1)] * 2, cross_entropy, batch_statistics=training)
        copied = copy.deepcopy(model).train(training)
        losses = [cross_entropy(copied(x), y).item() for x, y in data]
        assert centre.item() == pytest.approx((6 * losses[0] + 2 * losses[1]) / 8, rel=1e-14)


def test_dropout_is_off():
    model, data = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 3)).double(), batches(5)
    found = loss_surface(model, data, random_directions(model, 1), [torch.zeros(3)], cross_entropy)
    assert found.unique().numel() == 1 and model[1].training


def test_rescaled_weights_before_a_norm_give_the_same_surface():
    """Only filter normalisation sees to that, and only with a batch's statistics."""
    model, data = network(eps=1e-30), batches(7)
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled[0].weight *= torch.tensor([0.1, 1, 3, 10], dtype=torch.float64).view(-1, 1, 1, 1)
        scaled[0].bias *= torch.tensor([0.1, 1, 3, 10], dtype=torch.float64)
        scaled[3].weight *= 7
    surfaces = [loss_surface(m, data, random_directions(m), AXES, cross_entropy) for m in (model, scaled)]
    torch.testing.assert_close(*surfaces, rtol=1e-11, atol=1e-11)
    same_steps = loss_surface(
        scaled, data, random_directions(model), AXES, cross_entropy
    )  # the first network's directions
    assert (same_steps - surfaces[0]).abs().max() > 0.1
    stored = [
        loss_surface(m, data, random_directions(m), AXES, cross_entropy, batch_statistics=False)
        for m in (model, scaled)
    ]
    assert (stored[0] - stored[1]).abs().max() > 0.1


def test_a_residual_network_has_a_surface_and_the_same_seed_the_same_one():
    model = build({"width": 4, "n_classes": 3, "stem": "32"})
    data = [(x.float(), y) for x, y in batches(4, 3)]
    first, second = (loss_surface(model, data, random_directions(model, seed=1), AXES, cross_entropy) for _ in range(2))
    assert torch.equal(first, second) and first.isfinite().all() and first.std() > 0


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_stays_as_it_was_whatever_happens(fails):
    model, data = network(), batches(5, 4)
    model.train()
    model[4].eval()
    model(data[0][0]).sum().backward()
    model[3].weight.requires_grad_(False)
    before, gradients = copy.deepcopy(model), [p.grad.clone() for p in model.parameters()]
    calls = []

    def loss(output, target):
        calls.append(output)
        if fails and len(calls) == 5:
            raise RuntimeError("the third point fails")
        return cross_entropy(output, target)

    def measure():
        return loss_surface(model, data, random_directions(model), AXES, loss)

    if fails:
        with pytest.raises(RuntimeError, match="third point"):
            measure()
    else:
        measure()
    for (name, old), (_, new) in zip(before.named_parameters(), model.named_parameters(), strict=True):
        assert isinstance(new, nn.Parameter) and torch.equal(old, new) and old.requires_grad == new.requires_grad, name
    assert all(torch.equal(g, p.grad) for g, p in zip(gradients, model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before.buffers(), model.buffers(), strict=True))
    assert [m.training for m in before.modules()] == [m.training for m in model.modules()]


def test_directions_without_an_axis_are_refused():
    model = network()
    with pytest.raises(ValueError, match="as many axes"):
        loss_surface(model, batches(2), random_directions(model), AXES[:1], cross_entropy)
