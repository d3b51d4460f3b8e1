"""Chapter 5: four networks of modern blocks are torchvision's, number for number; the blocks by hand; their comparison.
第 5 章：由现代模块搭成的四个网络与 torchvision 逐数一致；手算检验各模块；以及它们的对比实验。
"""

import json
import math

import pytest
import torch
import torchvision
from torch import nn

from chapter_03_optimization_regularization.training import make_optimizers
from chapter_05_resnet_modern_cnn.src import blocks_compare
from chapter_05_resnet_modern_cnn.src.figures.blocks import LABELS
from chapter_05_resnet_modern_cnn.src.networks.modern_blocks import (
    ChannelNorm,
    ConvNeXtBlock,
    DenseBlock,
    DenseLayer,
    InvertedResidual,
    ResNeXtBottleneck,
    SEBasicBlock,
    SqueezeExcitation,
    Transition,
    grouped,
)
from chapter_05_resnet_modern_cnn.src.networks.modern_networks import (
    FAMILIES,
    PUBLISHED,
    SkeletonConfig,
    build,
    from_torchvision,
    skeleton,
)
from utils.checkpoint import load_model, round_to_half, save_model
from utils.model_summary import model_summary

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@torch.no_grad()
def stir(model):
    """Give norms, biases and layer scales other numbers than those that they start with."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var") or (tensor.squeeze().ndim == 1 and not name.endswith(("bias", "mean"))):
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim == 1:
            tensor.normal_(std=0.2)
    return model.double()


def macs(model, *shape):
    return model_summary(model, torch.zeros(shape)).macs


# --- against torchvision ----------------------------------------------------------------------------------------------


def outcome(model, x):
    """Logits, and the gradients of their projection onto fixed random numbers by the input and each parameter."""
    x = x.clone().requires_grad_()
    torch.manual_seed(1)  # of stochastic depth
    logits = model(x)
    logits.backward(torch.randn(logits.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(2)))
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    return logits.detach(), x.grad, gradients


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchvision_weights_give_torchvision_outputs_and_gradients(name):
    dropout = {"dropout": 0.0} if name == "mobilenet_v2" else {}
    theirs = stir(getattr(torchvision.models, name)(weights=None, num_classes=20, **dropout))
    x = torch.randn(2, 3, 64, 48, dtype=DOUBLE)
    norms = [m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:  # or numbers would explode in eval mode
        norm.momentum = 1.0
    theirs(x)
    for norm in norms:
        norm.momentum = 0.1
    with torch.device("meta"):
        ours = PUBLISHED[name][0](n_classes=20).double()
    ours.to_empty(device="cpu").load_state_dict(from_torchvision(name, theirs.state_dict()), strict=True)
    for training in (False, True):
        expected, found = outcome(theirs.train(training), x), outcome(ours.train(training), x)
        assert expected[0].std() > 0.01 and expected[1].abs().max() > 0
        expected = (*expected[:2], from_torchvision(name, expected[2]))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.state_dict(), from_torchvision(name, theirs.state_dict()), rtol=1e-9, atol=1e-9)


def test_squeeze_and_excitation_is_torchvisions():
    ours, theirs = SqueezeExcitation(12, 4).double(), torchvision.ops.SqueezeExcitation(12, 3).double()
    for name in ("fc1", "fc2"):
        convolution = getattr(theirs, name)  # of 1x1: (out, in, 1, 1)
        getattr(ours, name).load_state_dict({key: t.flatten(1) if key == "weight" else t
                                             for key, t in convolution.state_dict().items()})  # fmt: skip
    x = torch.randn(1, 12, 5, 3, dtype=DOUBLE)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


# --- what a block does ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_groups_see_only_their_own_channels(groups):
    conv = grouped(12, 3, 2, groups)
    x = torch.randn(2, 12, 7, 7)
    parts = zip(x.chunk(groups, dim=1), conv.weight.chunk(groups), strict=True)
    expected = torch.cat([nn.functional.conv2d(part, weight, stride=2, padding=1) for part, weight in parts], dim=1)
    torch.testing.assert_close(conv(x), expected)


def test_grouped_convolutions_start_so_that_gradients_keep_their_size():
    for groups in (1, 8, 64):
        conv = grouped(64, 3, 1, groups)
        x = torch.randn(8, 64, 24, 24, requires_grad=True)
        pull = torch.randn(8, 64, 24, 24)
        (gradient,) = torch.autograd.grad(conv(x), x, pull)
        assert gradient[:, :, 1:-1, 1:-1].std().item() == pytest.approx(math.sqrt(2), rel=0.15)  # ReLU halves squares


def test_a_resnext_block_is_a_sum_of_small_branches():
    """Xie et al. 2017, figure 3: (a) one path for each group, summed, is (c) the grouped convolution."""
    block = stir(ResNeXtBottleneck(16, 8, groups=4)).eval()
    x = torch.randn(2, 16, 5, 5, dtype=DOUBLE)
    inner = block.bn1(block.conv1(x)).relu()  # (B, D, H, W)
    paths = 0.0
    for g in range(4):
        own = slice(2 * g, 2 * g + 2)
        path = nn.functional.conv2d(inner[:, own], block.conv2.weight[own], padding=1)
        norm = block.bn2
        factor = (norm.weight / (norm.running_var + norm.eps).sqrt())[own].view(-1, 1, 1)
        path = (path - norm.running_mean[own].view(-1, 1, 1)) * factor + norm.bias[own].view(-1, 1, 1)
        paths = paths + nn.functional.conv2d(path.relu(), block.conv3.weight[:, own])
    torch.testing.assert_close(block(x), (x + block.bn3(paths)).relu(), rtol=1e-12, atol=1e-12)


def test_excitation_weighs_the_branch_and_not_the_shortcut():
    block = stir(SEBasicBlock(8, 8, reduction=2)).eval()
    x = torch.randn(2, 8, 5, 5, dtype=DOUBLE).abs()
    nn.init.constant_(block.se.fc2.bias, -1000.0)  # every factor becomes 0
    assert torch.equal(block(x), x)
    nn.init.constant_(block.se.fc2.bias, 1000.0)  # 1
    torch.testing.assert_close(block(x), (super(SEBasicBlock, block).branch(x) + x).relu())


def test_a_dense_block_keeps_its_input_and_every_layer_sees_all_before_it():
    block = stir(DenseBlock(5, 3, 4)).eval()
    x = torch.randn(2, 5, 6, 6, dtype=DOUBLE)
    y = block(x)
    assert y.shape == (2, 17, 6, 6) and torch.equal(y[:, :5], x)
    for i, layer in enumerate(block):
        torch.testing.assert_close(y[:, 5 + 3 * i : 8 + 3 * i], layer(y[:, : 5 + 3 * i]))


def test_a_transition_may_take_the_mean_first():
    block = stir(Transition(6, 4)).eval()
    x = torch.randn(2, 6, 7, 7, dtype=DOUBLE)
    means = nn.functional.avg_pool2d(block.norm(x).relu(), 2)
    assert block(x).shape == (2, 4, 3, 3)
    torch.testing.assert_close(block(x), block.conv(means), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("c_out", "stride", "shortcut"), [(6, 1, True), (6, 2, False), (8, 1, False)])
def test_an_inverted_residual_has_a_shortcut_where_the_shape_stays(c_out, stride, shortcut):
    block = stir(InvertedResidual(6, c_out, stride)).eval()
    x = torch.randn(2, 6, 7, 7, dtype=DOUBLE)
    y = block(x)
    assert torch.equal(y, block.conv(x) + x if shortcut else block.conv(x))
    assert y.min() < 0, "nothing clips the narrow end"


def test_channel_norm_is_layer_norm_at_each_place():
    norm = stir(ChannelNorm(6))
    x = torch.randn(2, 6, 3, 4, dtype=DOUBLE)
    y = norm(x)
    for i in range(3):
        for j in range(4):
            expected = nn.functional.layer_norm(x[:, :, i, j], (6,), norm.weight, norm.bias, 1e-6)
            torch.testing.assert_close(y[:, :, i, j], expected)


def test_a_convnext_block_starts_near_the_identity_and_may_drop_its_branch():
    block = ConvNeXtBlock(4, drop_path=0.5)
    x = torch.randn(64, 4, 5, 5)
    assert 0 < (block.eval()(x) - x).abs().max() < 1e-5
    nn.init.ones_(block.layer_scale)
    branch = block(x) - x
    in_training = block.train()(x) - x  # 0, or twice the branch
    dropped = in_training.flatten(1).abs().amax(dim=1) == 0
    assert 16 < dropped.sum() < 48
    torch.testing.assert_close(in_training[~dropped], 2 * branch[~dropped], rtol=1e-4, atol=1e-5)


# --- multiply-accumulates, as the docstrings work them out ------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
def test_macs_of_a_resnext_block(stride):
    c_in, d, groups, places, after = 24, 16, 4, 6 * 10, 6 * 10 // stride**2
    expected = places * c_in * d + after * (9 * d * d // groups + 2 * d * d) + after * c_in * 2 * d
    assert macs(ResNeXtBottleneck(c_in, d, stride, groups), 1, c_in, 6, 10) == expected


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("t", [1, 6])
def test_macs_of_an_inverted_residual(t, stride):
    c_in, c_out, places, after = 8, 12, 6 * 10, 6 * 10 // stride**2
    expected = (places * t * c_in**2 if t > 1 else 0) + after * t * c_in * (9 + c_out)
    assert macs(InvertedResidual(c_in, c_out, stride, t), 1, c_in, 6, 10) == expected


def test_macs_of_the_other_blocks():
    places, c, k, n_layers = 6 * 10, 16, 4, 5
    assert macs(SqueezeExcitation(c, 4), 1, c, 6, 10) == 2 * c * c // 4
    assert macs(DenseLayer(c, k), 1, c, 6, 10) == places * (4 * k * c + 36 * k * k)
    dense = places * k * n_layers * (4 * c + 2 * k * (n_layers - 1) + 36 * k)
    assert macs(DenseBlock(c, k, n_layers), 1, c, 6, 10) == dense
    assert macs(Transition(c, 8), 1, c, 6, 10) == places * c * 8
    assert macs(ConvNeXtBlock(c), 1, c, 6, 10) == places * (49 * c + 8 * c * c)
    for groups in (1, 4, c):
        assert macs(grouped(c, 3, 1, groups), 1, c, 6, 10) == places * 9 * c * c // groups


# --- the skeleton -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_families_take_the_same_multiply_accumulates(family):
    basic, other = (macs(build(vars(skeleton(name))), 1, 3, 32, 32) for name in ("basic", family))
    assert basic == 40_813_184 and other == pytest.approx(basic, rel=0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_have_32_16_and_8_pixels(family):
    model = build(vars(skeleton(family, n_classes=7, scale=0.25))).eval()
    x, sides = torch.randn(2, 3, 32, 32), {}
    logits = model(x)
    assert logits.shape == (2, 7)
    torch.testing.assert_close(logits, model.head(model.features(x)))
    for name, part in model.features.named_children():
        x = part(x)
        sides[name] = x.shape[-1]
    assert [sides["stem"], *(sides[f"stage{i}"] for i in (1, 2, 3))] == [32, 32, 16, 8]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_family_learns(family, optimizer):
    model = build(vars(skeleton(family, n_classes=3, scale=0.5)))
    y = torch.arange(9) % 3
    x = torch.randn(3, 3, 16, 16)[y] + 0.5 * torch.randn(9, 3, 16, 16)  # three patterns under noise
    optimizers = make_optimizers(model, optimizer, 1e-2, 0.0)
    losses = []
    for _ in range(15):
        losses.append(nn.functional.cross_entropy(model(x), y))
        model.zero_grad()
        losses[-1].backward()
        for each in optimizers:
            each.step()
    assert losses[-1] < 0.25 * losses[0]
    assert all(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shipped_network_comes_back_as_it_was(family, tmp_path):
    config = skeleton(family, n_classes=3, scale=0.25)
    model = build(vars(config))
    round_to_half(model)
    save_model(tmp_path / "model.pth", model, config, about={})
    loaded = load_model(tmp_path / "model.pth", build, torch.device("cpu"))[0]
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(x), model.eval()(x))


def test_families_that_do_not_exist_are_refused():
    with pytest.raises(KeyError):
        build(vars(SkeletonConfig(family="vgg")))


# --- the comparison ---------------------------------------------------------------------------------------------------


def test_the_comparison_gives_every_family_the_same_trials(tmp_path, monkeypatch):
    assert list(LABELS) == list(FAMILIES)
    two = {family: FAMILIES[family] for family in ("densenet", "se")}  # the scripts' own test runs all seven
    monkeypatch.setattr(blocks_compare, "FAMILIES", two)
    blocks_compare.main(["--dry_run", "--out_dir", str(tmp_path)])
    results = json.loads((tmp_path / "blocks.json").read_text(encoding="utf-8"))
    final = results["final"]
    assert [row["model"] for row in final["table"]] == list(two)
    assert final["recipe"]["optimizer"] == "muon" and final["recipe"]["minutes"] == final["minutes"]
    assert final["split"] == "test" and final["test_count"] == 25
    for row in final["table"]:
        assert len(row["trials"]) >= 3 and row["lr"] in [trial["lr"] for trial in row["trials"]]
        assert 0 <= row["test_accuracy"] <= 1 and row["macs"] > 0 and row["pictures_per_second"] > 0
    assert (tmp_path / "blocks.png").stat().st_size > 0
