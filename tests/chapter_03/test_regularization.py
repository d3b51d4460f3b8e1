"""Chapter 3: every regulariser has its exact value or expectation; batch augmentation equals picture by picture.
第 3 章：每种正则化都符合其精确值或期望；整批增强与逐张增强一致。
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_03_optimization_regularization.regularization import augmentation as aug
from chapter_03_optimization_regularization.regularization import mixing
from chapter_03_optimization_regularization.regularization import regularizers as reg

WIDE, TALL, SINGLE = (5, 3, 6, 10), (4, 1, 9, 5), (1, 3, 7, 7)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def unit(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def same(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# --- weights ----------------------------------------------------------------------------------------------------------


def test_penalties_on_worked_numbers():
    parameters = [vector(3.0, -1.0), vector(-2.0).reshape(1, 1)]
    same(reg.l1(parameters), vector(6.0)[0])
    same(reg.l2(parameters), vector(7.0)[0])
    same(reg.elastic_net(iter(parameters), l1_share=0.25), vector(0.25 * 6 + 0.75 * 7)[0])


def test_penalties_have_the_gradients_that_shrink_weights():
    w = vector(3.0, -1.0, 0.0).requires_grad_()
    (gradient,) = torch.autograd.grad(reg.elastic_net([w], 0.25), w)
    same(gradient, 0.25 * w.sign() + 0.75 * w)


def test_soft_thresholding_is_the_proximal_step_of_l1():
    w = vector(2.0, -2.0, 0.5, -0.5, 0.3, -0.1, 0.0)
    moved = w.clone().requires_grad_()
    reg.soft_threshold_(moved, 0.5)
    assert moved.tolist() == [1.5, -1.5, 0, 0, 0, 0, 0]  # true zeros
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    cost = (grid - w[:, None]) ** 2 / 2 + 0.5 * grid.abs()  # (7, 6001)
    same(moved.detach(), grid[cost.argmin(dim=1)], 1e-9)


def test_proximal_steps_solve_the_lasso_and_leave_true_zeros():
    """For orthonormal columns the solution is known: soft-thresholded least squares."""
    x = torch.linalg.qr(double(20, 5)).Q
    y = double(20)
    w, strength = torch.zeros(5, dtype=torch.float64), 0.8
    for _ in range(200):
        w -= 0.5 * x.T @ (x @ w - y)
        reg.soft_threshold_(w, 0.5 * strength)
    expected = x.T @ y
    reg.soft_threshold_(expected, strength)
    same(w, expected)
    assert 0 < (w == 0).sum() < 5 and torch.equal(w == 0, expected == 0)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2)])
def test_max_norm_shortens_only_the_long_rows(shape):
    weight = double(*shape)
    weight[0], weight[1] = 0.0, weight[1] / weight[1].norm()
    weight[2] *= 5 / weight[2].norm()
    weight[3] *= 1.5 / weight[3].norm()
    before, parameter = weight.clone(), nn.Parameter(weight.clone())
    reg.max_norm_(parameter, 2.0)
    same(parameter[2].detach(), before[2] * 2 / 5)
    assert torch.equal(parameter[[0, 1, 3]], before[[0, 1, 3]])
    same(parameter.detach(), torch.renorm(before, 2, 0, 2.0), 1e-6)  # torch's adds 1e-7 to the length


# --- activations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_has_the_variance_of_its_formula(p):
    n = 400_000
    y = reg.Dropout(p)(torch.ones(n, dtype=torch.float64))
    variance = p / (1 - p)
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - p)], abs=1e-15)
    assert abs(y.mean().item() - 1) < 4 * math.sqrt(variance / n)
    assert y.var().item() == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize("layer", [reg.Dropout(0.5), reg.Dropout(0.5, channels=True), reg.DropPath(0.5)], ids=repr)
def test_what_drops_is_the_identity_in_evaluation_and_without_rate(layer):
    x = double(3, 4, 5, 5)
    assert layer.eval()(x) is x
    layer.train().p = 0.0
    assert layer(x) is x
    with pytest.raises(ValueError, match="probability"):
        type(layer)(1.0)


@pytest.mark.parametrize(
    "layer, groups",
    [(reg.Dropout(0.3), 20_000), (reg.Dropout(0.3, channels=True), 800), (reg.DropPath(0.3), 200)],
    ids=["elements", "channels", "samples"],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_lies_together_drops_together_and_apart_independently(layer, groups, layout):
    x = unit(200, 4, 5, 5).add(1).contiguous(memory_format=layout).requires_grad_()
    y = layer(x)
    factor = (y / x).detach()
    same(factor * (factor - 1 / 0.7), torch.zeros_like(factor))  # 0 or 1/(1-p)
    alive = (factor > 0).reshape(groups, -1)
    assert (alive.all(dim=1) | ~alive.any(dim=1)).all()
    rate = alive[:, 0].double().mean().item()
    assert abs(rate - 0.7) < 4 * math.sqrt(0.21 / groups)
    if groups == 800:  # the channels of a picture are not dropped together, nor a channel in all pictures
        per_picture = alive[:, 0].view(200, 4).double()
        assert len(per_picture.sum(dim=1).unique()) > 3 and 0.5 < per_picture.mean(dim=0).min() < 1
    (gradient,) = torch.autograd.grad(y.sum(), x)
    same(gradient, factor)
    assert y.is_contiguous(memory_format=layout)


def test_drop_path_leaves_single_samples_with_their_shortcut_alone():
    x, branch = double(64, 3), double(64, 3)
    y = x + reg.DropPath(0.25)(branch)
    alone = (y == x).all(dim=1)
    assert 0 < alone.sum() < 64
    same(y[~alone], (x + branch / 0.75)[~alone])
    assert reg.drop_path_rates(4, 0.2) == pytest.approx([0.05, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("bias", [True, False])
def test_drop_connect_equals_a_linear_layer_with_holes_other_ones_for_each_sample(bias):
    layer = reg.DropConnect(6, 4, p=0.4, bias=bias).double()
    x = double(3, 6)
    torch.manual_seed(1)
    y = layer(x)
    torch.manual_seed(1)
    mask = torch.empty(3, 4, 6, dtype=torch.float64).bernoulli_(0.6) / 0.6
    expected = torch.stack([(layer.weight * m) @ row for m, row in zip(mask, x, strict=True)])
    if bias:
        expected = expected + layer.bias * torch.empty(3, 4, dtype=torch.float64).bernoulli_(0.6) / 0.6
    same(y, expected)
    same(layer.eval()(x), F.linear(x, layer.weight, layer.bias))
    with pytest.raises(ValueError, match="probability"):
        reg.DropConnect(6, 4, p=-0.1)


@pytest.mark.parametrize("bias", [True, False])
def test_drop_connect_has_the_mean_and_variance_that_it_says(bias):
    layer, n = reg.DropConnect(5, 3, p=0.4, bias=bias).double(), 100_000
    x = double(1, 5)
    mean, variance = (m[0].detach() for m in layer.moments(x))
    with torch.no_grad():
        y = layer(x.expand(n, -1))
    assert ((y.mean(dim=0) - mean).abs() < 4 * (variance / n).sqrt()).all()
    same(y.var(dim=0), variance, 0.03)
    assert torch.equal(mean, layer.eval()(x)[0])


class Scripted(reg.Dropout):
    """A dropout whose draws are written down."""

    def __init__(self, factors):
        super().__init__(0.5)
        self.factors = iter(factors)

    def forward(self, x):
        return x * next(self.factors) if self.training else x


def test_mc_dropout_averages_probabilities_not_logits():
    x = vector(2.0, -1.0).view(1, 2)
    expected = (x.softmax(dim=1) + (3 * x).softmax(dim=1)) / 2
    same(reg.mc_dropout(Scripted([1.0, 3.0]), x, passes=2), expected)


@pytest.mark.parametrize(
    "layer", [nn.Dropout(), nn.Dropout1d(), reg.Dropout(), reg.DropPath(0.5), reg.DropConnect(9, 9)], ids=repr
)
def test_mc_dropout_wakes_everything_that_drops(layer):
    x = torch.randn(8, 9)
    assert not torch.equal(reg.mc_dropout(layer.eval(), x, passes=1), layer(x).softmax(dim=1))


def test_mc_dropout_wakes_nothing_else_and_restores_every_mode():
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(nn.Linear(4, 4), norm, nn.Dropout(0.5), reg.DropConnect(4, 3)).eval()
    model[0].train()  # modes that a user has mixed survive
    x, running = torch.randn(8, 4), norm.running_mean.clone()
    first, second = reg.mc_dropout(model, x, passes=3), reg.mc_dropout(model, x, passes=3)
    assert not torch.equal(first, second) and not first.requires_grad
    same(first.sum(dim=1), torch.ones(8), 1e-6)
    assert torch.equal(norm.running_mean, running)
    assert [m.training for m in model.modules()] == [False, True, False, False, False]
    without = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    same(reg.mc_dropout(without, x, passes=4), without.eval()(x).softmax(dim=1).detach(), 1e-6)


# --- time -------------------------------------------------------------------------------------------------------------


def test_early_stopping_follows_its_sequence():
    stopping, seen = reg.EarlyStopping(patience=2), []
    for value in [3.0, 2.0, 2.5, 1.0, 1.0, math.nan, 0.5]:
        seen.append((stopping.update(value), stopping.best, stopping.stop))
    assert seen == [
        (True, 3.0, False),
        (True, 2.0, False),
        (False, 2.0, False),
        (True, 1.0, False),
        (False, 1.0, False),  # as good as the best is not better
        (False, 1.0, True),
        (True, 0.5, False),
    ]


def test_early_stopping_of_an_accuracy_by_a_margin_and_resumed():
    stopping = reg.EarlyStopping(patience=2, min_delta=0.01, maximize=True)
    assert [stopping.update(v) for v in [0.80, 0.805, 0.82]] == [True, False, True]
    stopping.update(0.7)
    resumed = reg.EarlyStopping(patience=2, min_delta=0.01, maximize=True)
    resumed.load_state_dict(stopping.state_dict())
    assert (resumed.best, resumed.stop) == (0.82, False)
    assert not resumed.update(0.825) and resumed.stop


# --- soft targets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("batch", [1, 9])
def test_label_smoothing_equals_pytorchs(smoothing, batch):
    logits, labels = (5 * double(batch, 7)).requires_grad_(), torch.randint(7, (batch,))
    targets = mixing.smooth_labels(labels, 7, smoothing, torch.float64)
    same(targets.sum(dim=1), torch.ones(batch, dtype=torch.float64))
    loss = mixing.soft_cross_entropy(logits, targets)
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    same(loss, expected)
    same(loss, cross_entropy(logits, labels, smoothing))
    same(*(torch.autograd.grad(value, logits)[0] for value in (loss, expected)))


@pytest.mark.parametrize("change", [reg.soft_threshold_, reg.max_norm_])
def test_negative_limits_on_weights_are_refused(change):
    weight = double(3, 4)
    before = weight.clone()
    for limit in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="(at least|above) 0"):
            change(weight, limit)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, 4), (4,), (6, 4, 1)])
def test_soft_cross_entropy_refuses_targets_that_would_broadcast(shape):
    with pytest.raises(ValueError, match="differ in shape"):
        mixing.soft_cross_entropy(double(6, 4), torch.ones(shape))


def test_smooth_labels_refuses_what_is_no_label_or_no_share():
    with pytest.raises(ValueError, match=r"not \(3, 1\)"):
        mixing.smooth_labels(torch.zeros(3, 1, dtype=torch.long), 4, 0.1)
    for smoothing in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="smoothing"):
            mixing.smooth_labels(torch.tensor([1]), 4, smoothing)


def test_soft_cross_entropy_takes_any_shares():
    logits, targets = double(6, 4), double(6, 4).softmax(dim=1)
    same(mixing.soft_cross_entropy(logits, targets), F.cross_entropy(logits, targets))
    assert mixing.soft_cross_entropy(1e4 * logits, targets).isfinite()


def one_hot(*labels):
    return mixing.smooth_labels(torch.tensor(labels), len(labels), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 4, 7), (1, 3, 2, 2)])
def test_mixup_mixes_pictures_exactly_as_it_mixes_targets(shape):
    """Where the inputs are the targets, repeated, the mixed inputs must be the mixed targets."""
    targets = one_hot(*range(shape[0]))
    x = double(*shape)
    mixed, shares = mixing.mixup(x, targets, alpha=1.0)
    same(shares.sum(dim=1), torch.ones(shape[0], dtype=torch.float64))
    same(mixed.flatten(1), shares @ x.flatten(1))
    own = shares.diagonal()
    if shape[0] > 1:
        assert len(own.unique()) > 3  # each pair has a share of its own


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixups_shares_follow_the_beta_distribution(alpha):
    n = 50_000
    x = torch.zeros(n, 1, dtype=torch.float64)
    torch.manual_seed(3)
    share = mixing._shares(x, alpha).double()
    assert share.mean().item() == pytest.approx(0.5, abs=0.01)
    assert share.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


@pytest.mark.parametrize("shape", [(64, 1, 11, 6), (64, 3, 8, 8), (1, 3, 5, 4)])
def test_cutmix_targets_equal_the_pasted_area_exactly(shape):
    batch = shape[0]
    pixels = torch.arange(batch, dtype=torch.float64).view(-1, 1, 1, 1).expand(shape)  # each shows its own number
    mixed, shares = mixing.cutmix(pixels, one_hot(*range(batch)))
    for row in range(batch):
        counts = torch.bincount(mixed[row, 0].long().flatten(), minlength=batch)
        same(shares[row], counts.double() / (shape[2] * shape[3]), 1e-15)
        assert (mixed[row] == mixed[row, :1]).all()  # all channels alike
        inside = (mixed[row, 0] != row).nonzero()
        if len(inside):  # what was pasted is a box
            extent = inside.amax(dim=0) - inside.amin(dim=0) + 1
            assert extent.prod() == len(inside)


def test_cutmix_boxes_have_the_size_of_their_share(monkeypatch):
    share, asked = torch.tensor([0.0, 0.75, 1.0]), []
    monkeypatch.setattr(mixing, "_shares", lambda x, alpha: share)
    original = mixing.boxes
    monkeypatch.setattr(mixing, "boxes", lambda *a: asked.append(a[1:]) or original(*a))
    mixing.cutmix(torch.rand(3, 3, 8, 20), one_hot(0, 1, 2))
    assert [side.tolist() for side in asked[0]] == [[8, 4, 0], [20, 10, 0]]  # all, half of each side, nothing


# --- moving whole pixels ----------------------------------------------------------------------------------------------


def padded(image, margin, padding):
    """The naive frame, pixel by pixel."""
    channels, height, width = image.shape
    framed = torch.zeros(channels, height + 2 * margin, width + 2 * margin, dtype=image.dtype)
    for row in range(-margin, height + margin):
        for column in range(-margin, width + margin):
            r, c = row, column
            if padding == "reflect":
                r = -r if r < 0 else 2 * (height - 1) - r if r >= height else r
                c = -c if c < 0 else 2 * (width - 1) - c if c >= width else c
            if 0 <= r < height and 0 <= c < width:
                framed[:, row + margin, column + margin] = image[:, r, c]
    return framed


@pytest.mark.parametrize("shape", [WIDE, TALL, SINGLE], ids=str)
@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("size, margin", [((4, 5), 0), ((6, 5), 2), (5, 4)])
def test_random_crop_equals_a_loop_over_pictures(shape, padding, size, margin):
    images = torch.randint(256, shape, dtype=torch.uint8)
    torch.manual_seed(1)
    actual = aug.random_crop(images, size, margin, padding)
    height, width = (size, size) if isinstance(size, int) else size
    torch.manual_seed(1)
    top = torch.randint(shape[2] + 2 * margin - height + 1, (shape[0],))
    left = torch.randint(shape[3] + 2 * margin - width + 1, (shape[0],))
    frames = [padded(image, margin, padding) for image in images]
    pieces = [f[:, t : t + height, s : s + width] for f, t, s in zip(frames, top, left, strict=True)]
    assert torch.equal(actual, torch.stack(pieces))


@pytest.mark.parametrize("shape", [WIDE, TALL, SINGLE], ids=str)
def test_random_shift_and_flip_equal_a_loop_over_pictures(shape):
    images = double(*shape)
    torch.manual_seed(2)
    actual = aug.random_flip(aug.random_shift(images, 2))
    torch.manual_seed(2)
    top, left, mirrored = torch.randint(5, shape[:1]), torch.randint(5, shape[:1]), torch.rand(shape[0]) < 0.5
    for image, t, s, m, got in zip(images, top, left, mirrored, actual, strict=True):
        moved = padded(image, 2, "zero")[:, t : t + shape[2], s : s + shape[3]]
        assert torch.equal(got, moved.flip(-1) if m else moved)


def test_every_move_occurs_equally_often():
    images = torch.zeros(9000, 1, 3, 3)
    images[:, :, 1, 1] = 1
    heat = aug.random_shift(images, 1).mean(dim=0)[0]
    assert ((heat - 1 / 9).abs() < 4 * math.sqrt(8 / 81 / 9000)).all()
    half = torch.tensor([[[[1.0, 0.0]]]]).expand(9000, -1, -1, -1)
    for p in (0.0, 0.3, 1.0):
        assert abs(aug.random_flip(half, p)[:, 0, 0, 1].mean() - p) <= 4 * math.sqrt(p * (1 - p) / 9000)


def test_what_does_not_fit_is_refused():
    images = torch.zeros(2, 3, 4, 6)
    with pytest.raises(ValueError, match="does not fit"):
        aug.random_crop(images, (7, 6), margin=1)
    with pytest.raises(ValueError, match="mirrors more"):
        aug.random_shift(images, 4, "reflect")
    with pytest.raises(ValueError, match="zero, reflect"):
        aug.random_shift(images, 1, "wrap")
    with pytest.raises(ValueError, match="zero, reflect"):
        aug.random_rotate(images, 1, "wrap")
    with pytest.raises(ValueError, match="not 2 channels"):
        aug.color_jitter(images[:, :2], saturation=0.5)


# --- moving between pixels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-4), (torch.uint8, 0)])
def test_turning_by_right_angles_is_rot90(dtype, tolerance):
    images = torch.randint(256, (4, 3, 7, 7)).to(dtype)
    degrees = vector(90.0, 180.0, 270.0, -90.0)
    expected = torch.stack([image.rot90(k, (1, 2)) for image, k in zip(images, [1, 2, 3, -1], strict=True)])
    same(aug.rotate(images, degrees), expected, tolerance)


def test_a_picture_that_is_not_square_turns_without_distortion():
    """Half a turn is exact on any shape; a quarter turn keeps the middle square."""
    images = double(2, 1, 4, 8)
    same(aug.rotate(images, vector(180.0, 180.0)), images.rot90(2, (2, 3)))
    middle = aug.rotate(images, vector(90.0, 90.0))
    same(middle[:, :, :, 2:6], images[:, :, :, 2:6].rot90(1, (2, 3)))
    assert (middle[:, :, :, :2].abs().max(), middle[:, :, :, 6:].abs().max()) == (0, 0)


def test_reflected_borders_leave_no_black():
    images = torch.ones(6, 1, 8, 8, dtype=torch.float64)
    degrees = torch.linspace(10, 80, 6, dtype=torch.float64)
    same(aug.rotate(images, degrees, "reflect"), images)
    assert aug.rotate(images, degrees)[:, 0, 0, 0].max() < 1


def bilinear(image, matrix):
    """The naive lookup: for each pixel, the four around the place where `matrix` sends it."""
    channels, height, width = image.shape
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            x, y = (matrix @ vector(column - (width - 1) / 2, row - (height - 1) / 2, 1.0)).tolist()
            x, y = x + (width - 1) / 2, y + (height - 1) / 2
            for r in (math.floor(y), math.floor(y) + 1):
                for c in (math.floor(x), math.floor(x) + 1):
                    if 0 <= r < height and 0 <= c < width:
                        result[:, row, column] += (1 - abs(y - r)) * (1 - abs(x - c)) * image[:, r, c]
    return result


@pytest.mark.parametrize("shape", [WIDE, TALL, SINGLE], ids=str)
def test_affine_equals_a_loop_over_pixels(shape):
    images = double(*shape)
    matrices = torch.eye(2, 3, dtype=torch.float64) + 0.3 * double(shape[0], 2, 3)
    expected = torch.stack([bilinear(image, matrix) for image, matrix in zip(images, matrices, strict=True)])
    same(aug.affine(images, matrices), expected)


@pytest.mark.parametrize("shape", [WIDE, SINGLE], ids=str)
def test_affine_matrices_mean_what_torchvisions_mean(shape):
    functional = pytest.importorskip("torchvision.transforms.functional")
    images, batch = double(*shape), shape[0]
    degrees, shear = 40 * double(batch), 10 * double(batch)
    scale, right, down = 1 + 0.2 * unit(batch), 2 * double(batch), 2 * double(batch)
    actual = aug.affine(images, aug.affine_matrices(degrees, scale, shear, right, down))
    for i in range(batch):
        expected = functional.affine(
            images[i],
            angle=-degrees[i].item(),  # torchvision turns clockwise here,
            translate=[right[i].item(), down[i].item()],
            scale=scale[i].item(),
            shear=[-shear[i].item(), 0.0],  # and leans to the right
            interpolation=functional.InterpolationMode.BILINEAR,
        )
        same(actual[i], expected, 1e-6)  # torchvision keeps its matrix in float32


# --- colour -----------------------------------------------------------------------------------------------------------

ADJUSTMENTS = ["brightness", "contrast", "saturation"]


@pytest.mark.parametrize("name", ADJUSTMENTS)
@pytest.mark.parametrize("shape", [WIDE, TALL, SINGLE], ids=str)
def test_an_adjustment_equals_torchvisions(name, shape, monkeypatch):
    functional = pytest.importorskip("torchvision.transforms.functional")
    monkeypatch.setattr(aug, "GREY", (0.2989, 0.587, 0.114))  # torchvision rounds red's 0.299
    images, factor = unit(*shape), 2 * unit(shape[0])
    actual = getattr(aug, f"adjust_{name}")(images, factor)
    theirs = getattr(functional, f"adjust_{name}")
    expected = torch.stack([theirs(image, f.item()) for image, f in zip(images, factor, strict=True)])
    same(actual, expected)
    assert actual.min() >= 0 and actual.max() <= 1


@pytest.mark.parametrize("name", ADJUSTMENTS)
def test_an_adjustment_of_bytes_is_that_of_floats_rounded(name):
    images, factor = torch.randint(256, WIDE, dtype=torch.uint8), 2 * unit(WIDE[0])
    adjust = getattr(aug, f"adjust_{name}")
    expected = (adjust(images.double() / 255, factor) * 255).round()
    assert (adjust(images, factor) - expected).abs().max() <= 1  # float32 may fall on the other side of a half
    assert (adjust(images, factor) == expected).double().mean() > 0.99
    assert torch.equal(adjust(images, torch.ones(WIDE[0])), images)


def test_grey_pictures_have_no_saturation_to_change():
    grey = unit(3, 1, 4, 4).expand(-1, 3, -1, -1)
    same(aug.adjust_saturation(grey, vector(0.0, 0.5, 2.0)), grey.contiguous())


def test_color_jitter_equals_its_three_steps_with_the_same_draws():
    pixels = torch.randint(256, WIDE, dtype=torch.uint8)
    images = pixels / 255
    torch.manual_seed(5)
    actual = aug.color_jitter(images, brightness=0.4, contrast=0.3, saturation=0.2)
    torch.manual_seed(5)
    expected = images
    for name, s in zip(ADJUSTMENTS, [0.4, 0.3, 0.2], strict=True):
        factor = torch.empty(WIDE[0]).uniform_(1 - s, 1 + s)
        expected = getattr(aug, f"adjust_{name}")(expected, factor)
    assert torch.equal(actual, expected)
    torch.manual_seed(5)
    assert torch.equal(aug.color_jitter(pixels, 0.4, 0.3, 0.2), (actual * 255).round().to(torch.uint8))


# --- boxes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [WIDE, TALL, SINGLE], ids=str)
@pytest.mark.parametrize("size", [3, 4])
def test_cutout_equals_a_loop_over_pictures(shape, size):
    images = unit(*shape) + 1
    torch.manual_seed(6)
    actual = aug.cutout(images, size, p=0.7, fill=0.5)
    torch.manual_seed(6)
    rows, columns = torch.randint(shape[2], shape[:1]), torch.randint(shape[3], shape[:1])
    chosen = torch.rand(shape[0]) < 0.7
    expected = images.clone()
    for image, r, c, yes in zip(expected, rows.tolist(), columns.tolist(), chosen, strict=True):
        top, left = r - size // 2, c - size // 2
        if yes:
            image[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0.5
    assert torch.equal(actual, expected)


def test_boxes_take_a_size_for_each_picture():
    height, width = torch.tensor([0, 2, 50]), torch.tensor([3, 1, 50])
    masks = aug.boxes(torch.zeros(3, 1, 20, 30), height, width)
    assert masks.shape == (3, 1, 20, 30)
    areas = masks.flatten(1).sum(dim=1)
    assert areas[0] == 0 and 1 <= areas[1] <= 2 and areas[2] > 150


# --- what all of them promise -----------------------------------------------------------------------------------------

AUGMENTATIONS = {
    "flip": aug.random_flip,
    "shift": lambda x: aug.random_shift(x, 2),
    "shift_reflect": lambda x: aug.random_shift(x, 2, "reflect"),
    "crop": lambda x: aug.random_crop(x, x.shape[-2:], 2),
    "rotate": lambda x: aug.random_rotate(x, 15.0),
    "affine": lambda x: aug.affine(x, aug.affine_matrices(40 * torch.rand(len(x)), 0.9, 5.0, 1.0), "reflect"),
    "colour": lambda x: aug.color_jitter(x, 0.3, 0.3, 0.3),
    "colour_unchanged": aug.color_jitter,
    "brightness": lambda x: aug.adjust_brightness(x, torch.ones(len(x))),
    "cutout": lambda x: aug.cutout(x, 3),
    "cutmix": lambda x: mixing.cutmix(x, torch.ones(len(x), 2))[0],
    "mixup": lambda x: mixing.mixup(x, torch.ones(len(x), 2))[0],
}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "mixup"])
def test_type_shape_and_layout_stay_and_the_original_is_untouched(name, dtype):
    layouts_stay(name, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mixup_promises_the_same_of_floating_point(dtype):
    layouts_stay("mixup", dtype)


def layouts_stay(name, dtype):
    for shape in ((4, 3, 8, 6), (1, 3, 5, 9), (3, 1, 7, 7)):
        for layout in (torch.contiguous_format, torch.channels_last):
            images = (255 * torch.rand(shape)).to(dtype).contiguous(memory_format=layout)
            images = images if dtype == torch.uint8 else images / 255
            before = images.clone()
            result = AUGMENTATIONS[name](images)
            assert (result.shape, result.dtype) == (images.shape, dtype)
            assert result.is_contiguous(memory_format=layout)
            assert torch.equal(images, before) and result.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_batch_of_0_stays_one(name):
    for dtype in (torch.float32,) if name == "mixup" else (torch.uint8, torch.float32):
        result = AUGMENTATIONS[name](torch.zeros(0, 3, 8, 6, dtype=dtype))
        assert result.shape == (0, 3, 8, 6) and result.dtype == dtype


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_one_seed_gives_one_augmentation(name):
    images, results = torch.rand(8, 3, 6, 6), []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        results.append(AUGMENTATIONS[name](images))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2]) == (name in {"colour_unchanged", "brightness"})
