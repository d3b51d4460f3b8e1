"""Chapter 3: every norm equals torch.nn's, by plain autograd and by the backward pass written by hand.
第 3 章：每种归一化都与 torch.nn 一致，无论用自动求导还是手写的反向传播。
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm as torch_weight_norm

from chapter_02_nn_basics_mlp.network import Linear
from chapter_03_optimization_regularization.normalization import (
    NORMS,
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Norm,
    RMSNorm,
    make_norm,
    normalize,
    weight_norm,
)
from chapter_03_optimization_regularization.normalization.backward import normalize_by_hand
from utils.batch_norm import recompute_batch_norm_
from utils.errors import translated

PASSES = {"by hand": normalize_by_hand, "plain": normalize}

# ours, torch.nn's, the input's shape
BATCH_NORMS = [
    (BatchNorm(3, affine=False), nn.BatchNorm1d(3, affine=False), (7, 3)),
    (BatchNorm(1), nn.BatchNorm1d(1), (2, 1)),
    (BatchNorm(4, eps=0.1, momentum=0.3), nn.BatchNorm1d(4, eps=0.1, momentum=0.3), (1, 4, 5)),
    (BatchNorm(3), nn.BatchNorm2d(3), (1, 3, 5, 7)),
    (BatchNorm(5, affine=False), nn.BatchNorm2d(5, affine=False), (4, 5, 1, 3)),
    (BatchNorm(3, momentum=None), nn.BatchNorm2d(3, momentum=None), (2, 3, 4, 5)),
]
OTHER_NORMS = [
    (LayerNorm(5), nn.LayerNorm(5), (5,)),
    (LayerNorm(7, bias=False), nn.LayerNorm(7, bias=False), (1, 7)),
    (LayerNorm(6, eps=0.1), nn.LayerNorm(6, eps=0.1), (2, 3, 6)),
    (LayerNorm((3, 5, 2)), nn.LayerNorm((3, 5, 2)), (4, 3, 5, 2)),
    (LayerNorm((5, 2), affine=False), nn.LayerNorm((5, 2), elementwise_affine=False), (2, 3, 5, 2)),
    (RMSNorm(7), nn.RMSNorm(7, eps=1e-6), (1, 7)),
    (RMSNorm((3, 5), eps=0.1), nn.RMSNorm((3, 5), eps=0.1), (2, 1, 3, 5)),
    (RMSNorm(4, affine=False), nn.RMSNorm(4, eps=1e-6, elementwise_affine=False), (3, 4)),
    (GroupNorm(2, 6), nn.GroupNorm(2, 6), (3, 6)),
    (GroupNorm(3, 6, eps=0.1), nn.GroupNorm(3, 6, eps=0.1), (1, 6, 5)),
    (GroupNorm(1, 3), nn.GroupNorm(1, 3), (2, 3, 5, 7)),
    (GroupNorm(3, 3), nn.GroupNorm(3, 3), (2, 3)),  # one value a group
    (GroupNorm(2, 2), nn.GroupNorm(2, 2), (3, 2, 1, 1)),
    (GroupNorm(2, 4, affine=False), nn.GroupNorm(2, 4, affine=False), (2, 4, 1, 3)),
    (InstanceNorm(3), nn.InstanceNorm1d(3, affine=True), (1, 3, 5)),
    (InstanceNorm(3, eps=0.1), nn.InstanceNorm2d(3, eps=0.1, affine=True), (2, 3, 5, 7)),
    (InstanceNorm(2, affine=False), nn.InstanceNorm2d(2), (2, 2, 3, 3)),
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(params=PASSES)
def _either_pass(request, monkeypatch):
    """Run the test with the backward pass written by hand, and with autograd's."""
    monkeypatch.setattr(Norm, "normalize", staticmethod(PASSES[request.param]))


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def same(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def twins(ours, theirs):
    """Fresh float64 copies of both, with the same random weights."""
    ours, theirs = (copy.deepcopy(norm).double() for norm in (ours, theirs))
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def output_and_gradients(norm, x, weights):
    """The output for x, and the gradients of its sum, weighted so that no part of them cancels."""
    x = x.clone().requires_grad_()
    y = norm(x)
    return [y, *torch.autograd.grad((y * weights).sum(), [x, *norm.parameters()])]


# --- against torch.nn -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_either_pass")
@pytest.mark.parametrize("ours, theirs, shape", BATCH_NORMS + OTHER_NORMS)
def test_outputs_and_gradients_equal_torchs(ours, theirs, shape):
    ours, theirs = twins(ours, theirs)
    x, weights = 3 * double(*shape) + 2, double(*shape)
    same(output_and_gradients(ours, x, weights), output_and_gradients(theirs, x, weights))


@pytest.mark.usefixtures("_either_pass")
@pytest.mark.parametrize("ours, theirs, shape", BATCH_NORMS)
def test_running_statistics_and_evaluation_equal_torchs(ours, theirs, shape):
    ours, theirs = twins(ours, theirs)
    for i in range(4):
        x = (i + 1) * double(*shape) + i
        ours(x), theirs(x)
    same(ours.state_dict(), theirs.state_dict())
    assert ours.num_batches_tracked == 4
    ours.eval(), theirs.eval()
    for shape_now in (shape, (1, *shape[1:])):
        x, weights = double(*shape_now), double(*shape_now)
        same(output_and_gradients(ours, x, weights), output_and_gradients(theirs, x, weights))
    same(ours.state_dict(), theirs.state_dict())  # evaluation changes nothing


@pytest.mark.parametrize("ours, theirs, shape", BATCH_NORMS + OTHER_NORMS)
def test_weights_load_both_ways(ours, theirs, shape):
    fresh = copy.deepcopy(theirs)
    ours, theirs = twins(ours, theirs)  # theirs into ours
    fresh.load_state_dict(ours.float().state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    same(fresh.state_dict(), theirs.float().state_dict(), 0)
    if not list(theirs.parameters()):
        assert not list(ours.parameters())


def test_a_batch_norm_of_another_chapter_takes_the_same_place():
    """`recompute_batch_norm_` and the like know BatchNorm by its attributes."""
    batches = [double(4, 3) for _ in range(3)]
    ours, theirs = twins(BatchNorm(3), nn.BatchNorm1d(3))
    recompute_batch_norm_(ours, batches)
    recompute_batch_norm_(theirs, batches)
    same(ours.state_dict(), theirs.state_dict())


# --- the backward pass written by hand --------------------------------------------------------------------------------


@pytest.mark.parametrize("center", [True, False], ids=["center", "rms"])
@pytest.mark.parametrize(
    "shape, axes, of_weight",
    [
        ((4, 3), (0,), (3,)),
        ((2, 3, 3, 2), (0, 2, 3), (3, 1, 1)),
        ((3, 5), (-1,), (5,)),
        ((2, 3, 2, 2), (1, 2, 3), (3, 1, 1)),
        ((2, 2, 3, 2), (2, 3), (2, 3, 1)),
        ((6,), (0,), None),
    ],
)
def test_numerical_gradients(shape, axes, of_weight, center):
    x = double(*shape).requires_grad_()
    weight = double(*of_weight).requires_grad_() if of_weight else None
    for bias in (None, double(*of_weight).requires_grad_()) if of_weight else (None,):
        function = lambda x, w, b: normalize_by_hand(x, axes, w, b, 0.01, center)[0]  # noqa: E731
        assert torch.autograd.gradcheck(function, (x, weight, bias), rtol=1e-6, atol=1e-8)


def test_the_gradient_is_silent_about_shifts_and_scales():
    x = double(2, 9).requires_grad_()
    (gradient,) = torch.autograd.grad((normalize_by_hand(x, (1,), None, None, 0.0)[0] * double(2, 9)).sum(), x)
    same(gradient.sum(dim=1), double(2) * 0, 1e-12)
    same((gradient * x).sum(dim=1), double(2) * 0, 1e-12)


def test_both_passes_return_the_mean_and_the_variance():
    x = double(4, 3, 5)
    for function in PASSES.values():
        _, mean, variance = function(x, (0, 2), None, None, 1e-5)
        same(mean, x.mean(dim=(0, 2), keepdim=True), 1e-12)
        same(variance, x.var(dim=(0, 2), keepdim=True, correction=0), 1e-12)
        same(function(x, (2,), None, None, 1e-5, center=False)[2], (x**2).mean(dim=2, keepdim=True), 1e-12)


def test_a_second_derivative_is_refused_by_hand_and_right_when_plain():
    x, weights = double(3, 4).requires_grad_(), double(3, 4).requires_grad_()
    plain = lambda x: normalize(x, (1,), None, None, 0.01)[0]  # noqa: E731
    assert torch.autograd.gradgradcheck(plain, x)
    y = normalize_by_hand(x, (1,), None, None, 0.01)[0]
    (gradient,) = torch.autograd.grad((y * weights).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# --- shapes, types, layouts -------------------------------------------------------------------------------------------


def test_one_value_leaves_nothing_after_its_mean():
    for norm, shape in [(BatchNorm(3), (1, 3)), (BatchNorm(3), (1, 3, 1, 1)), (InstanceNorm(3), (4, 3, 1, 1))]:
        with pytest.raises(ValueError, match="more than 1 value"):
            norm(torch.randn(shape))
    assert BatchNorm(3).eval()(torch.randn(1, 3)).shape == (1, 3)


@pytest.mark.parametrize("make", [BatchNorm, nn.BatchNorm1d])
def test_a_batch_of_one_ends_in_a_line_that_names_the_flag(make):
    with pytest.raises(ValueError) as error:
        make(3)(torch.randn(1, 3))
    assert "--batch_size" in translated(error.value, [])


def test_a_group_of_one_value_becomes_its_bias_in_a_batch_of_one_too():
    norm, x = GroupNorm(3, 3), torch.randn(4, 3, 1, 1)
    with torch.no_grad():
        norm.bias.normal_()
    same(norm(x), norm.bias.view(1, 3, 1, 1).expand_as(x), 0)
    same(norm(x[:1]), norm(x)[:1], 0)


@pytest.mark.usefixtures("_either_pass")
@pytest.mark.parametrize("ours, theirs, shape", BATCH_NORMS + OTHER_NORMS)
def test_a_batch_of_0_goes_through_and_changes_nothing(ours, theirs, shape):
    (ours, theirs), shape = twins(ours, theirs), (0, *shape[1:])
    x, weights = double(*shape), double(*shape)
    if isinstance(ours, InstanceNorm):  # PyTorch's ends in an IndexError
        assert ours(x).shape == shape
    elif len(shape) > 1:  # LayerNorm's (5,) is no batch
        same(output_and_gradients(ours, x, weights), output_and_gradients(theirs, x, weights))
        same(ours.state_dict(), theirs.state_dict())


def test_settings_without_sense_are_refused():
    for momentum in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="momentum"):
            BatchNorm(3, momentum=momentum)
    for kind in (BatchNorm, LayerNorm, RMSNorm, InstanceNorm):
        with pytest.raises(ValueError, match="eps"):
            kind(3, eps=-1e-5)


def test_wrong_shapes_are_refused():
    for norm, shape in [
        (BatchNorm(3), (2, 4)),
        (BatchNorm(3), (3,)),
        (GroupNorm(2, 4), (2, 3, 4)),
        (LayerNorm(3), (3, 1)),
        (LayerNorm((2, 3)), (3,)),
        (RMSNorm((3, 1, 1)), (2, 4, 5, 5)),
    ]:
        with pytest.raises(ValueError, match="shape is"):
            norm(torch.randn(shape))
    with pytest.raises(ValueError, match="groups"):
        GroupNorm(4, 6)


@pytest.mark.usefixtures("_either_pass")
@pytest.mark.parametrize("name", NORMS)
def test_the_memory_layout_changes_nothing_and_is_kept(name):
    norm = make_norm(name, 4).double()
    x, weights = double(2, 4, 3, 5), double(2, 4, 3, 5)
    turned = x.contiguous(memory_format=torch.channels_last)
    assert norm(turned).is_contiguous(memory_format=torch.channels_last)
    same(output_and_gradients(norm, turned, weights), output_and_gradients(norm, x, weights), 1e-12)
    strided, weights = x[..., ::2], weights[..., ::2]
    same(output_and_gradients(norm, strided, weights), output_and_gradients(norm, strided.contiguous(), weights), 1e-12)


@pytest.mark.usefixtures("_either_pass")
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "not affine"])
@pytest.mark.parametrize("name", [name for name in NORMS if name != "none"])
def test_the_next_layer_may_work_in_place(name, affine):
    norm = make_norm(name, 4, affine=affine).double()
    x, weights = double(2, 4, 3, 3), double(2, 4, 3, 3)
    copying, in_place = (nn.Sequential(norm, nn.ReLU(inplace)) for inplace in (False, True))
    same(output_and_gradients(in_place, x, weights), output_and_gradients(copying, x, weights), 1e-12)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


@pytest.mark.usefixtures("_either_pass")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "not affine"])
@pytest.mark.parametrize("name", [name for name in NORMS if name != "none"])
def test_bfloat16_is_normalised_in_float32(name, affine, device):
    """Only the rounding of what goes in and out may show: with a mean of 20 and 8 bits, sums would lose everything."""
    norm = make_norm(name, 16, affine=affine).to(device)
    with torch.no_grad():
        for p in norm.parameters():
            p.normal_()
    x = (torch.randn(8, 16, 15, 17, device=device) + 20).bfloat16()
    weights = torch.randn(x.shape, device=device).bfloat16()
    exact = copy.deepcopy(norm).double()
    expected, dx, *gradients = output_and_gradients(exact, x.double(), weights.double())
    with torch.autocast(device, torch.bfloat16):
        y, actual_dx, *actual = output_and_gradients(norm, x, weights)
    assert y.dtype == actual_dx.dtype == torch.bfloat16
    # Rounding to bfloat16 is off by up to 2^-9 of the value.
    torch.testing.assert_close(y.double(), expected, rtol=2**-8, atol=1e-4)
    torch.testing.assert_close(actual_dx.double(), dx, rtol=2**-8, atol=2e-3 * dx.std().item())
    for a, b in zip(actual, gradients, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-2)
    if name == "batch":
        same(norm.double().state_dict(), exact.state_dict(), 1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_in_evaluation(device):
    norm, x = BatchNorm(3, momentum=1.0).to(device), (torch.randn(8, 3, 15, 17, device=device) + 20).bfloat16()
    norm(x), norm.eval()
    with torch.autocast(device, torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), norm.double()(x.double()), rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("name", NORMS)
def test_a_whole_model_may_be_bfloat16(name):
    norm = make_norm(name, 16).bfloat16()
    x = torch.randn(4, 16, 5, 5).bfloat16().requires_grad_()
    norm(x).sum().backward()
    norm.eval()(x).sum().backward()
    assert all(t.grad.dtype == torch.bfloat16 for t in [x, *norm.parameters()])


# --- by name ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, axes", [("batch", (0, 2, 3)), ("layer", (1, 2, 3)), ("instance", (2, 3)), ("rms", (1, 2, 3))]
)
def test_names_say_what_is_averaged(name, axes):
    norm = make_norm(name, 3, eps=0.01).double()
    x = double(4, 3, 5, 5) + 1
    mean = 0 if name == "rms" else x.mean(axes, keepdim=True)
    same(norm(x), (x - mean) / ((x - mean).square().mean(axes, keepdim=True) + 0.01).sqrt())
    assert sum(p.numel() for p in norm.parameters()) == (3 if name == "rms" else 6)


def test_no_norm_and_unknown_norms():
    x = double(2, 3, 4, 4)
    assert make_norm("none", 3)(x) is x
    with pytest.raises(KeyError):
        make_norm("bach", 3)


@pytest.mark.parametrize(
    "channels, groups", [(1, 1), (7, 1), (16, 2), (20, 2), (28, 1), (48, 6), (64, 8), (256, 32), (1024, 32)]
)
def test_default_groups_have_eight_channels_or_more(channels, groups):
    assert make_norm("group", channels).n_groups == groups
    assert make_norm("group", 64, n_groups=16).n_groups == 16


# --- weight norm ------------------------------------------------------------------------------------------------------


LAYERS = [
    (lambda: nn.Linear(5, 3), (7, 5)),
    (lambda: Linear(5, 3), (2, 4, 5)),
    (lambda: nn.Conv1d(2, 5, 3), (2, 2, 9)),
    (lambda: nn.Conv2d(2, 3, 3), (2, 2, 6, 7)),
]


@pytest.mark.parametrize("make, shape", LAYERS)
def test_weight_norm_equals_torchs(make, shape):
    plain = make().double()
    ours, theirs = weight_norm(copy.deepcopy(plain)), torch_weight_norm(copy.deepcopy(plain))
    x, weights = double(*shape), double(*plain(double(*shape)).shape)
    same(ours(x), plain(x), 1e-12)  # at first the weight is what it was
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_()
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    same(output_and_gradients(ours, x, weights), output_and_gradients(theirs, x, weights))
    v = ours.parametrizations.weight.original1
    (gradient,) = torch.autograd.grad((ours(x) * weights).sum(), v)
    same((gradient * v).flatten(1).sum(dim=1), torch.zeros(len(v), dtype=v.dtype), 1e-12)  # at a right angle
