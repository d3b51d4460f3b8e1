"""Chapter 5: CAM, Grad-CAM and Grad-CAM++ are what their papers say, equal a known package, and leave no trace.
第 5 章：CAM、Grad-CAM 与 Grad-CAM++ 与论文的定义一致，与知名软件包的结果相等，并且不留痕迹。
"""

import json

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.nn import functional as F

from chapter_04_cnn_classic.model import build as build_classic
from chapter_05_resnet_modern_cnn.src import cam as script
from chapter_05_resnet_modern_cnn.src.dataset import STL10_CLASSES, to_input
from chapter_05_resnet_modern_cnn.src.figures import cam as figures
from chapter_05_resnet_modern_cnn.src.model import ResNetConfig, build
from chapter_05_resnet_modern_cnn.src.probes.class_activation import (
    cam,
    grad_cam,
    grad_cam_plus_plus,
    maps_and_gradient,
)
from tests.conftest import ROOT
from utils.checkpoint import load_model, round_to_half, save_model
from utils.cli import run
from utils.pictures import read_picture

CHAPTER = ROOT / "chapter_05_resnet_modern_cnn"
SHIPPED = CHAPTER / "checkpoints/resnet18_stl10.pth"
NETWORKS = {
    "v1": {"version": "v1", "stem": "96"},
    "v2": {"version": "v2", "stem": "96"},
    "plain": {"residual": False, "stem": "96"},
    "plain v2": {"residual": False, "version": "v2", "stem": "96"},
    "bottleneck": {"depth": 50, "stem": "224"},
}
METHODS = [grad_cam, grad_cam_plus_plus]
METHOD_NAMES = ["Grad-CAM", "Grad-CAM++"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@torch.no_grad()
def stir(model):
    """Give norms other numbers than 0 and 1: a network as a training might leave it."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.uniform_(0.5, 1.5)
            layer.running_var.uniform_(0.5, 1.5)
            layer.bias.normal_(std=0.2)
            layer.running_mean.normal_(std=0.2)
    return model


def resnet(name):
    return stir(build({"width": 4, "n_classes": 5, "zero_init": False} | NETWORKS[name])).double().eval()


def pictures(count=2, side=48):
    return torch.randn(count, 3, side, side, dtype=torch.float64)


# --- CAM --------------------------------------------------------------------------------------------------------------


class Given(nn.Module):
    """A network whose input is its last maps."""

    def __init__(self, weight, bias):
        super().__init__()
        linear = nn.Linear(weight.shape[1], len(weight), dtype=weight.dtype)
        linear.weight.data, linear.bias.data = weight, bias
        self.features, self.head = nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)

    def forward(self, x):
        return self.head(self.features(x))


def test_maps_worked_by_hand():
    """A cat and a dog, two maps of 2 x 2: the theory's example."""
    maps = torch.tensor([[[4.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [2.0, 2.0]]])[None]
    model = Given(torch.tensor([[1.0, -1.0], [-0.5, 1.0]]), torch.zeros(2))
    assert cam(model, maps, 0).tolist() == [[[4.0, 0.0], [-2.0, -2.0]]]
    assert cam(model, maps).tolist() == cam(model, maps, 1).tolist() == [[[-2.0, 0.0], [2.0, 2.0]]]
    assert grad_cam(model, maps, "features", 0).tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
    found = grad_cam_plus_plus(model, maps, "features", 0, eps=0.0)
    torch.testing.assert_close(found, torch.tensor([[[4 / 3, 0.0], [0.0, 0.0]]]))  # w = 1/3 and 0


def test_grad_cam_plus_plus_weighs_a_small_object_more():
    """Four places of a large object and one of a small one, where the derivative is 1: 2 to 1 instead of 4 to 1."""
    maps = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    maps[0, 0, :2, :2] = maps[0, 1, 2, 2] = 1

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x):
            return (self.layer(x) * maps).sum(dim=(1, 2, 3))[:, None]

    for method, large, small in ((grad_cam, 4 / 9, 1 / 9), (grad_cam_plus_plus, 4 / 6, 1 / 3)):
        found = method(Sum(), maps, "layer", 0)[0]
        assert found[0, 0].item() == pytest.approx(large, rel=1e-6)
        assert found[2, 2].item() == pytest.approx(small, rel=1e-6) and found[0, 2] == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_the_mean_of_cam_and_the_bias_are_the_logit(name):
    model, x = resnet(name), pictures()
    logits = model(x)
    for target in range(5):
        accounted = cam(model, x, target).mean(dim=(1, 2)) + model.fc.bias[target]
        torch.testing.assert_close(accounted, logits[:, target])


@pytest.mark.parametrize("name", NETWORKS)
def test_after_pooling_and_a_linear_layer_grad_cam_is_cam(name):
    model, x = resnet(name), pictures(side=80)
    layers = ["features"] if "v2" in name else ["features", "layer4"]  # in v2 a norm and a ReLU lie between the two
    for target in (0, 3):
        expected = cam(model, x, target).relu()  # (B, h, w)
        h, w = expected.shape[1:]
        assert h == w > 1 and (expected > 0).any()
        for layer in layers:
            torch.testing.assert_close(grad_cam(model, x, layer, target) * (h * w), expected)


@pytest.mark.parametrize("name", ["vgg", "nin", "inception"])
def test_chapter_4_networks_have_cams_too(name):
    model = stir(build_classic({"model": name, "width": 0.1, "dropout": 0.5})).double()
    x, last = pictures(side=32), f"stages.{len(model.stages) - 1}"
    found = cam(model, x)
    logits = model.eval()(x)
    torch.testing.assert_close(found.mean(dim=(1, 2)) + model.head[-1].bias[logits.argmax(1)], logits.amax(dim=1))
    torch.testing.assert_close(grad_cam(model, x, last) * found[0].numel(), found.relu())


@pytest.mark.parametrize("name", ["lenet", "alexnet"])
def test_without_pooling_before_one_linear_layer_there_is_grad_cam_only(name):
    model, x = build_classic({"model": name, "width": 0.5}).double(), pictures(side=32)
    with pytest.raises(ValueError, match="use Grad-CAM"):
        cam(model, x)
    for method in METHODS:
        assert torch.equal(method(model, x, "features"), method(model, x, "stages.2"))


# --- against independent computations ---------------------------------------------------------------------------------


@torch.no_grad()
def differences(model, x, layer, target, step=1e-7):
    """The maps of one picture and dS / dA by finite differences: in a hook each number is moved on its own."""
    kept, moves = [], torch.zeros(1, dtype=x.dtype)

    def hook(module, args, output):
        kept.append(output.clone())
        return output + moves

    handle = model.get_submodule(layer).register_forward_hook(hook)
    model(x)
    maps = kept[0][0]  # (C, h, w)
    moves = step * torch.eye(maps.numel(), dtype=x.dtype).view(-1, *maps.shape)  # (C * h * w, C, h, w)
    many = x.expand(len(moves), -1, -1, -1)
    rise = model(many)[:, target]
    moves = -moves
    gradient = (rise - model(many)[:, target]) / (2 * step)
    handle.remove()
    return maps.numpy(), gradient.view_as(maps).numpy()


@pytest.mark.parametrize("layer", ["layer3", "layer4.0.conv1", "layer4.1.bn1", "layer4.1.bn2"])
@pytest.mark.parametrize("name", ["v1", "v2", "plain"])
def test_maps_follow_from_finite_differences_and_loops(name, layer):
    """What a norm puts out, a ReLU in place writes over: the maps are those before it."""
    model, x, target = resnet(name), pictures(1, 32), 2
    maps, gradient = differences(model, x, layer, target)
    channels, height, width = maps.shape
    found, derivative = maps_and_gradient(model, x, layer, target)
    assert np.array_equal(found[0].numpy(), maps)
    np.testing.assert_allclose(derivative[0].numpy(), gradient, rtol=1e-6, atol=1e-7)

    expected, eps = np.zeros((2, height, width)), 1e-6
    for k in range(channels):
        weight = 0.0
        for i in range(height):
            for j in range(width):
                g = gradient[k, i, j]
                weight += max(g, 0.0) * g**2 / (2 * g**2 + g**3 * maps[k].sum() + eps)
        expected[0] += gradient[k].sum() / (height * width) * maps[k]
        expected[1] += weight * maps[k]
    for method, values in zip(METHODS, expected, strict=True):
        map_ = method(model, x, layer, target)[0].numpy()
        np.testing.assert_allclose(map_, np.maximum(values, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_gradients_at_a_stage_are_those_of_an_explicit_second_half(name, stage):
    model, x, target = resnet(name), pictures(3, 40), torch.tensor([4, 0, 2])
    below = model.maxpool(F.relu(model.bn1(model.conv1(x))) if model.config.version == "v1" else model.conv1(x))
    for i in range(1, stage + 1):
        below = model.get_submodule(f"layer{i}")(below)
    maps = below.detach().requires_grad_()
    y = maps
    for i in range(stage + 1, 5):
        y = model.get_submodule(f"layer{i}")(y)
    y = y if model.config.version == "v1" else F.relu(model.bn_last(y))
    score = model.fc(y.mean(dim=(2, 3)))[[0, 1, 2], target].sum()
    (expected,) = torch.autograd.grad(score, maps)
    found, gradient = maps_and_gradient(model, x, f"layer{stage}", target)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, maps.detach())
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("method", [*METHODS, cam])
def test_each_picture_of_a_batch_is_explained_as_if_alone(method):
    model, x = resnet("v1").train(), pictures(3)
    layer = [] if method is cam else ["layer3"]
    targets = torch.tensor([1, 4, 0])
    together = method(model, x, *layer, target=targets)
    for i, target in enumerate(targets.tolist()):
        torch.testing.assert_close(method(model, x[i, None], *layer, target=target), together[i, None])
    best = model.eval()(x).argmax(dim=1)
    assert torch.equal(method(model, x, *layer), method(model, x, *layer, target=best))


def test_what_a_constant_bias_adds_to_all_logits_changes_nothing():
    model, x = resnet("v1"), pictures()
    before = [method(model, x, "layer3", 1) for method in METHODS]
    model.fc.bias.data += 7
    assert all(torch.equal(a, method(model, x, "layer3", 1)) for a, method in zip(before, METHODS, strict=True))


# --- no trace ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_left_as_it_was(name):
    model, x = resnet(name).train(), pictures()
    model.layer2.eval()  # as in a half-frozen network
    modes = {n: m.training for n, m in model.named_modules()}
    state = {n: tensor.clone() for n, tensor in model.state_dict().items()}
    for layer in ("layer2", "layer4.0.bn1", "features"):
        for method in METHODS:
            assert not method(model, x, layer).requires_grad
    assert not cam(model, x).requires_grad
    with pytest.raises(ValueError):
        grad_cam(model, x, "fc")
    assert {n: m.training for n, m in model.named_modules()} == modes and len(set(modes.values())) == 2
    assert all(p.grad is None and p.requires_grad for p in model.parameters()) and x.grad is None
    assert all(torch.equal(tensor, state[n]) for n, tensor in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_gradients_that_a_training_has_gathered_are_kept():
    model, x = resnet("v1"), pictures()
    model(x).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    grad_cam(model, x, "layer3")
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), before, strict=True))


def test_frozen_networks_and_no_grad_blocks_have_gradients_all_the_same():
    model, x = resnet("v1"), pictures()
    expected = grad_cam(model, x, "layer3")
    with torch.no_grad():
        assert torch.equal(grad_cam(model.requires_grad_(False), x, "layer3"), expected)
    assert expected.max() > 0


def test_under_inference_mode_there_are_gradients_too():
    model, x = resnet("v1"), pictures()
    expected = {method: method(model, x, "layer3", 1) for method in METHODS}
    with torch.inference_mode():
        made_here = x * 1
        for method in METHODS:
            for pictures_ in (x, made_here):
                assert torch.equal(method(model, pictures_, "layer3", 1), expected[method])
        small = build({"width": 4, "n_classes": 5, "stem": "96"})
        with pytest.raises(ValueError, match="made in inference mode"):
            grad_cam(small, x.float(), "layer3")


@pytest.mark.parametrize("target", [5, -1, torch.tensor([0]), torch.tensor([[0], [1]]), torch.tensor([0, 5])])
def test_a_target_that_names_no_class_for_each_picture_is_refused(target):
    model, x = resnet("v1"), pictures()
    for method in (cam, lambda *args: grad_cam(args[0], args[1], "layer4", args[2])):
        with pytest.raises(ValueError, match="target"):
            method(model, x, target)


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        ("layer9", "no layer layer9"),
        ("fc", "fc puts out no maps"),
        ("layer1.0.downsample", "no layer"),
        ("", "no maps"),
    ],
)
def test_layers_that_have_no_maps(layer, complaint):
    with pytest.raises(ValueError, match=complaint):
        grad_cam(resnet("v1"), pictures(), layer)


def test_a_layer_that_is_never_called():
    model = build_classic({"model": "vgg", "width": 0.1})
    with pytest.raises(ValueError, match="stages is called 0 times"):
        grad_cam(model, torch.randn(1, 3, 32, 32), "stages")


# --- against the package pytorch-grad-cam -----------------------------------------------------------------------------


def stretched(maps, size):
    """What the package does with a map: negatives cut, scaled to [0, 1], enlarged, and scaled once more."""

    def scaled(maps):
        low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
        return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)

    return scaled(F.interpolate(scaled(maps.relu())[:, None], size, mode="bilinear")[:, 0])


def shipped_model():
    return load_model(SHIPPED, build, torch.device("cpu"))[0]


def compare_with_package(model, x, layers, targets):
    """Return the largest difference between our maps and those of pytorch-grad-cam."""
    package = pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam (pip install grad-cam) is not here")
    choices = [package.utils.model_targets.ClassifierOutputTarget(target) for target in targets]
    theirs = {grad_cam: package.GradCAM, grad_cam_plus_plus: package.GradCAMPlusPlus}
    worst = 0.0
    for method, kind in theirs.items():
        for layer in layers:
            with kind(model=model, target_layers=[model.get_submodule(layer)]) as explainer:
                expected = explainer(input_tensor=x, targets=choices)
            found = stretched(method(model, x, layer, torch.tensor(targets)), x.shape[2:])
            assert expected.max() > 0.99
            worst = max(worst, float(np.abs(found.numpy() - expected).max()))
    return worst


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_equal_those_of_the_package(name):
    model, x = resnet(name), pictures(3, 64)
    assert compare_with_package(model, x, model.stage_names, [0, 4, 2]) < 1e-6


def test_maps_of_torchvisions_network_equal_those_of_the_package():
    model = stir(torchvision.models.resnet18(num_classes=10)).double().eval()
    assert compare_with_package(model, pictures(2, 96), ["layer2", "layer4"], [1, 7]) < 1e-6


@pytest.mark.skipif(not SHIPPED.exists(), reason="the trained ResNet is not here")
def test_maps_of_the_shipped_network_equal_those_of_the_package():
    model = shipped_model()
    paths = sorted((ROOT / "chapter_05_resnet_modern_cnn/images").glob("*.png"))[::5]
    x = to_input(torch.stack([read_picture(path, 128) for path in paths]))
    answer, other = model(x).argmax(dim=1).tolist()
    asked = [answer, (other + 1) % 10]  # what the network says, and of the second picture a class that it is not
    assert compare_with_package(model, x, model.stage_names, asked) < 1e-5


# --- the script -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """A small network that has learned nothing, but has opinions."""
    torch.manual_seed(0)
    config = ResNetConfig(width=4, stem="224", zero_init=False)
    model = build(vars(config))
    round_to_half(model)
    path = tmp_path_factory.mktemp("model") / "tiny.pth"
    save_model(path, model, config, {"classes": STL10_CLASSES, "image_size": 64})
    return path


def photograph(path, side=120):
    values = np.random.default_rng(len(path.name)).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(values).resize((side, side - 20), Image.Resampling.BICUBIC).save(path)


def ask(capsys, model_path, *words):
    script.main(["--model_path", str(model_path), "--device", "cpu", *map(str, words)])
    return capsys.readouterr()


def test_one_picture_two_classes_two_layers(tmp_path, model_path, capsys):
    photograph(tmp_path / "x.png")
    words = "--image_path", tmp_path / "x.png", "--layers", "layer2", "layer4.1.conv1", "--classes", "cat", "dog"
    said = ask(capsys, model_path, *words, "--out_dir", tmp_path / "out").out
    folder = tmp_path / "out/cam_vis"
    assert sorted(path.name for path in folder.iterdir()) == ["cam.json", "x.png"]
    final = json.loads((folder / "cam.json").read_text(encoding="utf-8"))["final"]
    (picture,) = final["pictures"]
    names = [answer["class"] for answer in picture["classes"]]
    assert names[0] == picture["answer"] and {"cat", "dog"} <= set(names) and len(names) == len(set(names)) in (2, 3)
    places = ["CAM features"] + [f"{m} {layer}" for layer in ("layer2", "layer4.1.conv1") for m in METHOD_NAMES]
    for answer in picture["classes"]:
        assert sorted(answer["largest"]) == sorted(places)
        assert answer["cam_mean"] + answer["bias"] == pytest.approx(answer["logit"], abs=1e-5)
        assert answer["cam_mean"] == pytest.approx(float(np.mean(answer["cam"])), abs=1e-5)
        for found in answer["largest"].values():
            assert 0 <= found["row"] < found["of"][0] and 0 <= found["column"] < found["of"][1]
        peak = answer["largest"]["CAM features"]
        assert peak["value"] == np.max(answer["cam"]) == answer["cam"][peak["row"]][peak["column"]]
        assert f"{answer['p']:.1%}" in said and f"{answer['logit']:.2f}" in said
    with Image.open(folder / "x.png") as figure:
        assert figure.size[1] == (2 * figures.SIDE + 110) * len(names) + 56 + 16


def test_a_folder_is_gone_through_and_bad_files_are_named(tmp_path, model_path, capsys):
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "$b$.png", "overview.png"):
        photograph(folder / name)
    (folder / "notes.txt").write_text("no picture")
    words = "--image_path", folder, "--layers", "layer4", "--out_dir", out
    said = ask(capsys, model_path, *words)
    assert said.err.count("left out: ") == 1 and "notes.txt" in said.err
    written = {path.name for path in (out / "cam_vis").iterdir()}
    assert written == {"a.png.png", "a.jpg.png", "$b$.png", "overview.png.png", "overview.png", "cam.json"}
    final = json.loads((out / "cam_vis/cam.json").read_text(encoding="utf-8"))["final"]
    assert final["count"] == 4 and final["unreadable"] == 1
    assert [row["file"] for row in final["pictures"]] == ["$b$.png", "a.jpg", "a.png", "overview.png"]

    ask(capsys, model_path, *words, "--limit", 2, "--out_dir", tmp_path / "two")
    assert len(list((tmp_path / "two/cam_vis").glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--classes", "cat", "unicorn"], "--classes unicorn: this network knows airplane, bird"),
        (["--layers", "layer9"], "--layers: there is no layer layer9; there are layer1, layer2"),
        (["--layers", "layer4", "fc"], "--layers: fc puts out no maps"),
        (["--image_path", "nowhere.png"], "nowhere.png: no such file"),
        (["--model_path", "nowhere.pth"], "nowhere.pth: no such file"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(tmp_path, model_path, capsys, words, complaint):
    photograph(tmp_path / "x.png")
    flags = ["--model_path", model_path, "--image_path", tmp_path / "x.png", "--out_dir", tmp_path / "out", *words]
    with pytest.raises(SystemExit) as stop:
        run(lambda: script.main([*map(str, flags)]))
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert stop.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and complaint in lines[0]
    assert not list((tmp_path / "out").rglob("*.*"))


def test_a_picture_that_nothing_speaks_for_is_drawn_too():
    maps = {("CAM", "features"): torch.zeros(1, 3, 3)}
    maps |= {(method, "layer4"): torch.zeros(1, 3, 3) for method in METHOD_NAMES}
    picture = torch.full((3, figures.SIDE, figures.SIDE), 128, dtype=torch.uint8)
    figure = figures.explanation(figures.View("x.png", picture, ["cat (1.0%)"], maps))
    assert "What speaks for cat (1.0%)?" in [text.get_text() for text in figure.texts]
    assert numbers_in(figure) == ["0.00"] * 27


def numbers_in(figure):
    """What is written in the cells of a figure's maps, from the first drawn to the last."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_cells_hold_their_maps_numbers_on_one_scale():
    picture = torch.full((3, figures.SIDE, figures.SIDE), 200, dtype=torch.uint8)
    first, second = torch.tensor([[[4.0, -2.0], [0.04, 0.0]]]), torch.tensor([[[1.0, 1.0], [-1.0, 2.0]]])
    views = [
        figures.View(f"{i}.png", picture, ["cat (1.0%)"], {("CAM", "features"): m})
        for i, m in ((1, first), (2, second))
    ]
    figure = figures.overview(views)
    assert numbers_in(figure) == ["4.0", "\u22122.0", "0.0", "0.0", "1.0", "1.0", "\u22121.0", "2.0"]
    tiles = [np.asarray(image.get_array()) for axes in figure.axes for image in axes.get_images()]
    half = figures.SIDE // 4, 3 * figures.SIDE // 4
    pixels = {(k, i, j): tiles[1 + 2 * k][half[i], half[j]] for k in (0, 1) for i in (0, 1) for j in (0, 1)}
    redness = {place: pixel[0] - pixel[2] for place, pixel in pixels.items()}
    assert redness[0, 0, 0] > redness[1, 1, 1] > redness[1, 0, 0] > abs(redness[0, 1, 1]), "4, 2, 1, 0 on one scale"
    assert redness[0, 0, 1] < redness[1, 1, 0] < 0


def test_a_users_pictures_keep_all_their_colours(tmp_path, model_path, capsys):
    photograph(tmp_path / "x.png")
    ask(capsys, model_path, "--image_path", tmp_path / "x.png", "--layers", "layer2", "--out_dir", tmp_path / "out")
    with Image.open(tmp_path / "out/cam_vis/x.png") as figure:
        assert figure.mode in ("RGB", "RGBA") and len(figure.convert("RGB").getcolors(10**6)) > 1000


def test_the_account_that_ships_is_the_shipped_networks():
    """The README quotes these numbers: each cell is what the network says of the shipped drawing."""
    final = json.loads((CHAPTER / "results/cam_vis/cam.json").read_text(encoding="utf-8"))["final"]
    model, about = load_model(SHIPPED, build, torch.device("cpu"))
    assert final["count"] == 10
    for row in final["pictures"]:
        if row["file"] in ("bird.png", "ship.png"):
            x = to_input(read_picture(CHAPTER / "images" / row["file"], about["image_size"])[None])
            (answer,) = row["classes"]
            found = cam(model, x, about["classes"].index(answer["class"]))[0]
            torch.testing.assert_close(found, torch.tensor(answer["cam"]), rtol=0, atol=1e-3)
            assert answer["cam_mean"] + answer["bias"] == pytest.approx(answer["logit"], abs=1e-4)


def test_what_the_readme_says_of_the_maps():
    final = json.loads((CHAPTER / "results/cam_vis/cam.json").read_text(encoding="utf-8"))["final"]
    maps = {row["file"].split(".")[0]: np.array(row["classes"][0]["cam"]) for row in final["pictures"]}
    bird, ship = maps["bird"], maps["ship"]
    assert bird[1:3, 1:3].sum() / bird.sum() == pytest.approx(0.14, abs=0.005)
    assert (ship[3] > ship.mean()).all() and (ship[1:, 0] > ship.mean()).all() and (ship[0] < ship.mean()).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("airplane.png", "airplane.png"),
        ("x" * 19, "x" * 15 + "..."),
        ("猫" * 9, "猫" * 9),
        ("猫" * 10, "猫" * 7 + "..."),
    ],
)
def test_names_fit_over_their_tiles(name, expected):
    assert figures.shortened(name) == expected


@pytest.mark.parametrize("grey", [0, 60, 128, 200, 255])
def test_on_any_picture_red_is_for_blue_against_and_grey_nothing(grey):
    picture = torch.full((3, 1, 21), grey, dtype=torch.uint8)
    values = torch.linspace(-1, 1, 21)
    red, green, blue = figures.tinted(picture, values[None])[:, 0]
    assert ((red - blue)[2:-2].diff() > 0).all(), "only the deepest colours, which get darker too, may differ less"
    assert (values[:10] * (red - blue)[:10] > 0).all() and (values[11:] * (red - blue)[11:] > 0).all()
    assert red[0] < blue[0] - 0.3 and red[-1] > blue[-1] + 0.3
    assert max(abs(red[10] - blue[10]), abs(red[10] - green[10])) < 0.02
    assert 0 <= min(red.min(), blue.min()) and max(red.max(), blue.max()) <= 1


def test_a_small_negative_number_is_written_as_0():
    assert [figures.number(value, 9.0) for value in (-0.04, 0.04, -0.06)] == ["0.0", "0.0", "\u22120.1"]
    assert figures.number(-0.123, 0.2) == "\u22120.12"
