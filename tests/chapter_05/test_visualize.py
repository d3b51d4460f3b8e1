"""Chapter 5 looks at what shortcuts do: slopes and likenesses are the formulas', and each part measures what it says.
第 5 章观察捷径的作用：斜率与自相关符合公式，每个部分测的正是它所说的东西。
"""

import copy
import json

import pytest
import torch
from torch import nn

from chapter_04_cnn_classic import dataset as classic
from chapter_05_resnet_modern_cnn.src import dataset, visualize
from chapter_05_resnet_modern_cnn.src import model as resnet
from chapter_05_resnet_modern_cnn.src.networks import cifar_resnet
from chapter_05_resnet_modern_cnn.src.probes.signals import (
    autocorrelation,
    maps_by_depth,
    nearest_mean_accuracy,
    slopes,
    with_statistics,
)
from utils.checkpoint import load_model, round_to_half, save_model
from utils.errors import UserError
from utils.loss_surface import random_directions
from utils.seed import set_seed
from utils.shapes import shapes

CPU = torch.device("cpu")
SMALL = ["--dry_run", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _seed():
    set_seed(0)


def deep(residual, depth=8, width=4, seed=0):
    set_seed(seed)
    return cifar_resnet.build({"depth": depth, "width": width, "residual": residual, "stem": "96"})


def saved(path, config, build, about=None):
    """Save a network that has learned nothing."""
    set_seed(0)
    network = build(vars(config))
    round_to_half(network)
    save_model(path, network, config, about or {})
    return path


def pair(folder, **about):
    """Save a ResNet and its plain twin; return the flags that name them."""
    flags = []
    for name, residual in (("resnet", True), ("plainnet", False)):
        config = resnet.ResNetConfig(width=4, stem="224", residual=residual, zero_init=False)
        flags += [f"--{name}", str(saved(folder / f"{name}.pth", config, resnet.build, about))]
    return flags


def look(out_dir, *words):
    visualize.main([*SMALL, "--out_dir", str(out_dir), *words])
    return json.loads((out_dir / "visualize.json").read_text(encoding="utf-8"))["final"]


# --- slopes -----------------------------------------------------------------------------------------------------------


def test_the_slopes_of_a_linear_model_are_known():
    model = nn.Linear(4, 3).double()
    start, end = torch.randn(2, 4, dtype=torch.float64)
    found = slopes(model, start, end, points=7, chunk=3)
    assert found.shape == (7, 3) and not found.requires_grad
    torch.testing.assert_close(found, (model.weight @ (end - start)).detach().expand(7, 3), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("residual", [True, False])
def test_slopes_are_what_differentiating_backwards_gives(residual):
    x = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    model = with_statistics(deep(residual).double(), x)
    found = slopes(model, x[0], x[1], points=5, chunk=2)
    for i, t in enumerate(torch.linspace(0, 1, 5, dtype=torch.float64)):
        t.requires_grad_()
        logits = model((x[0] + t * (x[1] - x[0]))[None])[0]
        backwards = torch.stack([torch.autograd.grad(logit, t, retain_graph=True)[0] for logit in logits])
        torch.testing.assert_close(found[i], backwards, rtol=1e-9, atol=1e-9)


def test_statistics_are_the_batchs_and_the_model_stays_as_it_was():
    model, x = deep(True), torch.randn(5, 3, 16, 16)
    before = copy.deepcopy(model.state_dict())
    fixed = with_statistics(model, x)
    maps = model.conv1(x)
    torch.testing.assert_close(fixed.bn1.running_mean, maps.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fixed.bn1.running_var, maps.transpose(0, 1).flatten(1).var(dim=1), rtol=1e-5, atol=1e-6)
    assert not fixed.training and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_autocorrelation_is_the_formula_in_plain_loops():
    values = torch.randn(9, 2, dtype=torch.float64).cumsum(dim=0)
    expected = []
    for lag in range(4):
        columns = []
        for column in values.T.tolist():
            middle = sum(column) / 9
            products = [(column[i] - middle) * (column[i + lag] - middle) for i in range(9 - lag)]
            columns.append(sum(products) / len(products) / (sum((v - middle) ** 2 for v in column) / 9))
        expected.append(sum(columns) / 2)
    assert autocorrelation(values, 3).tolist() == pytest.approx(expected, rel=1e-12) and expected[0] == 1


def test_noise_resembles_nothing_and_a_wave_its_neighbour():
    noise = torch.randn(5000, 4)
    assert autocorrelation(noise, 5)[1:].abs().max() < 0.04
    wave = torch.linspace(0, 40 * torch.pi, 5000).sin()[:, None]
    found = autocorrelation(wave, 125)  # 125 of 250 places: half a period
    assert found[1] > 0.99 and found[125] < -0.99


def test_slopes_shatter_without_shortcuts():
    x = classic.to_input(shapes(32)[0]).double()
    start, end = x[5], x[5] + 0.2 * (x[18] - x[5])
    likeness = {}
    for residual in (True, False):
        model = with_statistics(deep(residual, depth=56, width=8).double(), x)
        likeness[residual] = autocorrelation(slopes(model, start, end, points=50), 1)[1].item()
    assert likeness[True] > 0.6 and abs(likeness[False]) < 0.3


# --- what is where ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [True, False])
def test_maps_by_depth_are_the_forward_passes(residual):
    model = resnet.build({"width": 4, "residual": residual, "stem": "224"}).eval()
    x = torch.randn(2, 3, 64, 64)
    found = maps_by_depth(model, x)
    assert [layers for layers, _ in found.values()] == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    maps = model.maxpool(model.bn1(model.conv1(x)).relu())
    assert torch.equal(found["stem"][1], maps)
    for stage in model.stage_names:
        for i, block in enumerate(getattr(model, stage)):
            maps = block(maps)
            assert torch.equal(found[f"{stage}.{i}"][1], maps)
    assert torch.equal(maps, model.features(x))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_deep_networks_last_maps_have_all_its_convolutions_before_them():
    layers, maps = maps_by_depth(deep(True, depth=20), torch.randn(2, 3, 16, 16))["layer3.2"]
    assert layers == 19 and maps.shape == (2, 16, 2, 2)


def test_the_nearest_mean_is_right_where_classes_lie_apart():
    labels = torch.arange(40) % 4
    centres = torch.tensor([[0.0, 0], [9, 0], [0, 9], [9, 9]])
    train, test = (centres[labels] + 0.1 * torch.randn(40, 2) for _ in range(2))
    assert nearest_mean_accuracy(train, labels, test, labels) == 1
    assert nearest_mean_accuracy(train, labels, test, (labels + (labels == 3)) % 4) == 0.75
    scale = torch.tensor([1e-3, 1e3])
    assert nearest_mean_accuracy(train * scale, labels, test * scale, labels) == 1, "a channel's scale counts"
    silent = torch.cat([train, torch.zeros(40, 1)], dim=1), torch.cat([test, torch.full((40, 1), 5.0)], dim=1)
    assert nearest_mean_accuracy(silent[0], labels, silent[1], labels) == 1, "a channel that is always 0 counts"


@pytest.mark.parametrize(
    "wrong", [torch.zeros(4, 1, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), torch.eye(4).long()]
)
def test_labels_that_are_not_one_a_row_are_refused(wrong):
    rows, labels = torch.randn(4, 2), torch.arange(4)
    for train_labels, test_labels in ((wrong, labels), (labels, wrong)):
        with pytest.raises(ValueError, match="need labels"):
            nearest_mean_accuracy(rows, train_labels, rows, test_labels)


def test_two_directions_are_almost_orthogonal_in_a_large_network():
    d, e = random_directions(resnet.build({"depth": 18, "width": 16}))
    d, e = (torch.cat([change.flatten() for change in direction.values()]) for direction in (d, e))
    assert abs(nn.functional.cosine_similarity(d, e, dim=0)) < 0.01


# --- the script -------------------------------------------------------------------------------------------------------


def test_parts_that_need_no_weights_are_drawn_without_them(tmp_path):
    final = look(tmp_path, "--resnet", "missing.pth", "--plainnet", "missing.pth", "--depths", "8", "--runs", "2")
    assert list(final) == ["shattered", "highways"]
    assert {p.name for p in tmp_path.iterdir()} == {"visualize.json", "shattered.png", "gradient_highways.png"}
    for name in ("plain_8", "residual_8"):
        row = final["shattered"][name]
        assert len(row["autocorrelation"]) == 24 // 8 + 1 and row["autocorrelation"][0] == 1
        assert row["lag_1"] == pytest.approx(row["autocorrelation"][1], rel=1e-4) and 0 <= row["turns"] <= 1
    row = final["highways"]["residual_v2_8"]
    assert len(row["gradient_over_last"]) == 7 and row["gradient_over_last"][-1] == 1
    assert row["growth_per_layer"] ** 6 == pytest.approx(row["gradient_over_last"][0], rel=1e-3)


def test_trained_networks_are_measured_as_they_are(tmp_path):
    flags = pair(tmp_path, image_size=48)
    final = look(tmp_path / "out", "--parts", "surface", "features", *flags)
    (images, labels), (held_out, answers), _ = dataset.load("shapes", "test", None, 40)
    for name in ("resnet", "plainnet"):
        model, _ = load_model(tmp_path / f"{name}.pth", resnet.build, CPU)
        x, seen = (dataset.to_input(dataset.resize(t, 48)) for t in (images[:20], held_out))
        found = final["surface"][name]
        with torch.no_grad():
            accuracy = (model(seen).argmax(dim=1) == answers).float().mean().item()
            loss = nn.functional.cross_entropy(copy.deepcopy(model).train()(x), labels[:20]).item()
        assert found["loss_at_centre"] == pytest.approx(loss, rel=1e-5)
        assert found["loss"][1][1] == pytest.approx(loss, rel=1e-4) and len(found["loss"]) == len(found["loss"][0]) == 3
        assert found["loss_greatest"] == pytest.approx(max(map(max, found["loss"])), rel=1e-4)
        row = final["features"][name]
        assert row["accuracy"] == pytest.approx(accuracy)
        assert len(row["layers"]) == len(row["nearest_mean_accuracy"]) == 9
    assert final["surface"]["count"] == 20 and final["features"]["train_count"] == 40


def test_networks_of_degradation_are_rebuilt_by_their_own_fields(tmp_path):
    flags = []
    for name, residual in (("resnet", True), ("plainnet", False)):
        config = cifar_resnet.CifarConfig(depth=8, width=4, residual=residual)
        flags += [f"--{name}", str(saved(tmp_path / f"{name}.pth", config, cifar_resnet.build))]
    final = look(tmp_path / "out", "--parts", "surface", *flags)
    model, _ = load_model(tmp_path / "resnet.pth", cifar_resnet.build, CPU)
    images, labels = shapes(20)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model.train()(classic.to_input(images)), labels).item()
    assert final["surface"]["resnet"]["loss_at_centre"] == pytest.approx(loss, rel=1e-5)
    with pytest.raises(UserError, match="cifar10 and shapes"):
        look(tmp_path / "out", "--parts", "surface", "--dataset", "stl10", *flags)
    other = pair(tmp_path / "other")
    with pytest.raises(UserError, match="different families"):
        look(tmp_path / "out", "--parts", "surface", flags[0], flags[1], *other[2:])


@pytest.mark.parametrize(
    "words, message",
    [
        (["--parts", "features", "--resnet", "missing.pth"], "missing.pth: no such file"),
        (["--points", "4"], "in the middle"),
        (["--points", "1"], "in the middle"),
        (["--depths", "18"], "6n \\+ 2"),
        (["--line_points", "5"], "at least 16"),
        (["--surface_pictures", "129"], "left over, alone"),
    ],
)
def test_mistakes_are_named_before_anything_is_drawn(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        look(tmp_path, *words)
    assert not list(tmp_path.iterdir())


def test_the_two_networks_cannot_change_places(tmp_path):
    flags = pair(tmp_path)
    with pytest.raises(UserError, match="one without"):
        look(tmp_path / "out", "--parts", "surface", flags[0], flags[3], flags[2], flags[1])
