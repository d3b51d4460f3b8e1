"""Chapter 5: our ResNet is torchvision's, number for number; what v2, PlainNet and a zeroed branch do.
第 5 章：我们的 ResNet 与 torchvision 逐数一致；v2、PlainNet 与置零分支的行为。
"""

import pytest
import torch
import torchvision
from torch import nn

from chapter_03_optimization_regularization.training import make_optimizers
from chapter_05_resnet_modern_cnn.src.model import (
    DEPTHS,
    BasicBlock,
    Block,
    Bottleneck,
    PreActBasicBlock,
    PreActBottleneck,
    ResNetConfig,
    build,
)
from utils.checkpoint import load_model, round_to_half, save_model

BLOCKS = {"v1": [BasicBlock, Bottleneck], "v2": [PreActBasicBlock, PreActBottleneck]}
EXPANSIONS = {18: 1, 34: 1, 50: 4, 101: 4}
PARAMETERS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160}  # with 1,000 classes
SMALL = {"n_classes": 3, "width": 4, "stem": "32"}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def meta(**config):
    """A network that has shapes only: made at once, however large."""
    with torch.device("meta"):
        return build(config)


@torch.no_grad()
def stir(model):
    """Give norms other numbers than 0 and 1: a network as a training might leave it."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (norm.bias, norm.running_mean):
                tensor.normal_(std=0.2)
    return model


def count_once(model, x):
    """Let the norms take this batch's statistics for the running ones, or numbers would explode in eval mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(x)
    for norm in norms:
        norm.momentum = 0.1  # PyTorch's own


def outcome(model, x):
    """Logits, the gradients of a sum of their squares by parameter and by input, and what the norms have counted."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    logits = model(x)
    logits.square().sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return found | {f"buffer {name}": b for name, b in model.named_buffers()} | {"logits": logits, "input": x.grad}


# --- against torchvision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
def test_torchvision_weights_give_torchvision_outputs_and_gradients(depth):
    theirs = stir(getattr(torchvision.models, f"resnet{depth}")(num_classes=20).double())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    count_once(theirs, x)
    ours = build({"depth": depth, "n_classes": 20, "stem": "224"}).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for training in (False, True):
        expected, found = outcome(theirs.train(training), x), outcome(ours.train(training), x)
        assert expected["input"].abs().max() > 0 and expected.keys() == found.keys()
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", DEPTHS)
def test_parameters_are_as_many_as_torchvision_has_and_plain_ones_as_many_without_shortcuts(depth):
    model = meta(depth=depth, n_classes=1000, stem="224")
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[depth]
    for version in ("v1", "v2"):
        residual, plain = (shapes(meta(depth=depth, version=version, residual=r)) for r in (True, False))
        assert plain == {name: shape for name, shape in residual.items() if ".downsample." not in name} != residual


def test_convolutions_start_with_the_deviation_of_he_et_al():
    for module in build({"stem": "224"}).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 30_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)


# --- what a block does ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "residual", "expected"),
    [  # of 1, -1: the branch makes 3 * relu(2 x) = 6, 0 of them in v1, and 3 * relu(2 * relu(x)) = 6, 0 in v2
        ("v1", True, [7.0, 0.0]),
        ("v1", False, [6.0, 0.0]),
        ("v2", True, [7.0, -1.0]),  # nothing stops the -1
        ("v2", False, [6.0, 0.0]),
    ],
)
def test_a_block_worked_by_hand(version, residual, expected):
    block = BLOCKS[version][0](1, 1, residual=residual).eval()
    for conv, factor in ((block.conv1, 2.0), (block.conv2, 3.0)):
        conv.weight.data.zero_()
        conv.weight.data[0, 0, 1, 1] = factor
    block.bn1.eps = block.bn2.eps = 0.0
    x = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)
    assert block(x).flatten().tolist() == expected


@pytest.mark.parametrize(("version", "kind"), [(version, kind) for version in BLOCKS for kind in BLOCKS[version]])
def test_a_plain_network_is_the_residual_one_without_its_shortcuts(kind, version):
    c_in, x = 4 * kind.expansion, torch.randn(3, 4 * kind.expansion, 6, 6)
    residual, plain = (stir(kind(c_in, 4, residual=r)) for r in (True, False))
    plain.load_state_dict(residual.state_dict())  # strict: the identity has no parameters
    y, branch = residual(x), plain(x)
    if version == "v2":
        torch.testing.assert_close(y, x + branch)
    else:
        last = residual.branch(x)
        torch.testing.assert_close(branch, last.relu())
        torch.testing.assert_close(y, (last + x).relu())


@pytest.mark.parametrize("kind", BLOCKS["v2"])
@pytest.mark.parametrize("stride", [1, 2])
def test_where_the_shape_changes_v2_starts_its_shortcut_after_the_first_norm_and_relu(kind, stride):
    block = stir(kind(5, 4, stride)).eval().double()
    x = torch.randn(2, 5, 7, 7, dtype=torch.float64)
    start = block.bn1(x).relu()
    torch.testing.assert_close(block(x), block.branch(start) + block.downsample(start), rtol=0, atol=0)
    assert [type(m) for m in block.downsample] == [nn.Conv2d]


@pytest.mark.parametrize("kind", BLOCKS["v2"])
def test_gradients_pass_a_v2_block_unchanged_beside_those_of_its_branch(kind):
    block = stir(kind(4 * kind.expansion, 4)).double()
    x = torch.randn(2, 4 * kind.expansion, 5, 5, dtype=torch.float64, requires_grad=True)
    pull = torch.randn_like(x)
    (whole,) = torch.autograd.grad(block(x), x, pull)
    (branch,) = torch.autograd.grad(block.branch(block.bn1(x).relu()), x, pull)
    torch.testing.assert_close(whole, pull + branch, rtol=1e-13, atol=1e-13)


def test_gradients_pass_a_whole_v2_stage_unchanged_but_not_one_of_v1():
    """x_L = x_0 + the branches' sum (He et al. 2016b, equation 4): with branches of 0 the derivative is 1."""
    for version in ("v1", "v2"):
        stage = build({"depth": 34, "version": version} | SMALL).layer1  # zero-initialised
        x = torch.randn(2, 4, 5, 5, requires_grad=True)
        pull = torch.randn_like(x)
        y = stage(x)
        (gradient,) = torch.autograd.grad(y, x, pull)
        if version == "v2":
            assert torch.equal(y, x) and torch.equal(gradient, pull)
        else:
            assert torch.equal(y, x.relu()) and torch.equal(gradient, pull * (x > 0))


# --- branches that start as 0 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("depth", [18, 50])
def test_zeroed_branches_put_out_0_and_wake_up(depth, version):
    model = build({"depth": depth, "version": version} | SMALL)
    x, y = torch.randn(6, 3, 16, 16), torch.arange(6) % 3
    blocks = [m for m in model.modules() if isinstance(m, Block)]
    outputs = []
    hooks = [b.register_forward_pre_hook(lambda b, inputs: outputs.append(b.branch(inputs[0].clone()))) for b in blocks]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    assert len(outputs) == len(blocks) and not any(output.any() for output in outputs)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # the first step moves what was 0, and from the second on everything learns
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_a_zeroed_norm_in_v2_would_stay_dead():
    block = PreActBasicBlock(4, 4)
    nn.init.zeros_(block.bn2.weight)
    block(torch.randn(2, 4, 5, 5)).square().sum().backward()
    assert not any(p.grad.any() for p in (block.bn2.weight, block.bn2.bias, block.conv1.weight, block.conv2.weight))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_plain_network_is_not_zeroed(version):
    model = build({"version": version, "residual": False, "zero_init": True} | SMALL)
    assert all(parameter.any() for name, parameter in model.named_parameters() if name.endswith("weight"))


# --- the whole network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "side", "sides"),
    [
        ("32", 32, [32, 16, 8, 4]),
        ("96", 96, [48, 24, 12, 6]),
        ("224", 96, [24, 12, 6, 3]),
        ("224", 224, [56, 28, 14, 7]),
        ("96", 75, [38, 19, 10, 5]),  # any other side works too
    ],
)
@pytest.mark.parametrize("depth", [18, 50])
def test_maps_are_of_the_promised_size(depth, stem, side, sides):
    model = meta(depth=depth, stem=stem)
    x = model.maxpool(model.conv1(torch.empty(2, 3, side, side, device="meta")))
    found = []
    for name in model.stage_names:
        x = getattr(model, name)(x)
        found.append(tuple(x.shape))
    expansion = EXPANSIONS[depth]
    assert found == [(2, expansion * 64 * 2**i, s, s) for i, s in enumerate(sides)]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_features_are_positive_maps_that_the_head_reads(version):
    model = stir(build({"version": version} | SMALL)).eval()
    x = torch.randn(3, 3, 20, 28)
    maps = model.features(x)
    assert maps.shape == (3, 32, 3, 4) and maps.min() == 0 < maps.max()
    torch.testing.assert_close(model.head(maps), model(x))
    torch.testing.assert_close(model(x), model.fc(maps.mean(dim=(2, 3))))


def losses(optimizer="adamw", **config):
    """Fifteen steps on three patterns under noise."""
    torch.manual_seed(0)
    model = build(SMALL | config)
    y = torch.arange(9) % 3
    x = torch.randn(3, 3, 16, 16)[y] + 0.5 * torch.randn(9, 3, 16, 16)
    optimizers = make_optimizers(model, optimizer, 1e-2, 0.0)
    found = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(model(x), y)
        model.zero_grad()
        loss.backward()
        for each in optimizers:
            each.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("depth", "stem"), [(18, "32"), (34, "96"), (50, "224"), (101, "32")])
def test_every_residual_network_learns(depth, stem, version):
    history = losses(depth=depth, stem=stem, version=version)
    assert history[-1] < 0.1 * history[0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_plain_network_of_18_layers_learns(version, optimizer):
    history = losses(optimizer, residual=False, version=version)
    assert history[-1] < 0.1 * history[0]


@pytest.mark.parametrize(("depth", "stem"), [(34, "96"), (50, "224")])
def test_deep_plain_networks_fall_behind(depth, stem):
    plain, residual = (losses(depth=depth, stem=stem, residual=r) for r in (False, True))
    assert plain[-1] > 0.4 * plain[0] and plain[-1] > 10 * residual[-1]


def test_without_shortcuts_v1_and_v2_are_one_network():
    v1, v2 = (build({"version": version, "residual": False} | SMALL) for version in ("v1", "v2"))
    stir(v1)
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.Linear):  # the same parts in the same order, under other names
        parts = [[m for m in model.modules() if isinstance(m, kind)] for model in (v1, v2)]
        for ours, theirs in zip(*parts, strict=True):
            theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 3, 16, 16)
    for training in (True, False):
        assert torch.equal(v1.train(training)(x), v2.train(training)(x))


@pytest.mark.parametrize("config", [{"version": "v2"}, {"residual": False}, {"depth": 50, "zero_init": False}])
def test_a_shipped_network_comes_back_as_it_was(config, tmp_path):
    config = ResNetConfig(**SMALL | config)
    model = stir(build(vars(config)))
    round_to_half(model)
    save_model(tmp_path / "model.pth", model, config, about={})
    loaded = load_model(tmp_path / "model.pth", build, torch.device("cpu"))[0]
    x = torch.randn(2, 3, 16, 16)
    assert loaded.config == config and torch.equal(loaded(x), model.eval()(x))


@pytest.mark.parametrize("config", [{"depth": 20}, {"stem": "64"}])
def test_networks_that_do_not_exist_are_refused(config):
    with pytest.raises(KeyError):
        build(config)
