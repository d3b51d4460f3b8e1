"""Chapter 5: a network leaves as a file that answers as it did, without the book's code.
第 5 章：网络导出为文件，没有本书的代码，答案也和原来一样。
"""

import functools
import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chapter_05_resnet_modern_cnn.src import export
from chapter_05_resnet_modern_cnn.src.dataset import STL10_CLASSES, to_input
from chapter_05_resnet_modern_cnn.src.deployment import Deployable, fold_norms, write_program
from chapter_05_resnet_modern_cnn.src.model import DEPTHS, ResNetConfig, build
from tests.conftest import ROOT, file_size_limit
from utils.checkpoint import load_model, round_to_half, save_model
from utils.cli import run
from utils.errors import UserError
from utils.shapes import shapes

CPU = torch.device("cpu")
SIDE = 24
REFUSALS = (AssertionError, RuntimeError)  # an exported program's: which of them depends on the release of PyTorch


@pytest.fixture(scope="module", autouse=True)
def _ten_layers():
    """A block a stage has all kinds of parts, and is exported in half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DEPTHS, 10, ("basic", (1, 1, 1, 1)))
        yield


def trained(**config):
    """A small network whose norms have seen pictures, so that each of them does something."""
    torch.manual_seed(0)
    config = ResNetConfig(**{"depth": 10, "width": 4, "stem": "224", "zero_init": False} | config)
    model = build(vars(config))
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
            norm.momentum = 0.9
    with torch.no_grad():
        model.train()(to_input(shapes(40, SIDE)[0]))
    round_to_half(model)
    return model.eval(), config


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.pth"
    about = {"classes": STL10_CLASSES, "dataset": "shapes", "image_size": SIDE}
    save_model(path, *trained(), about)
    return path


@pytest.fixture(scope="module")
def exported(model_path, tmp_path_factory):
    """The script, run once: its folder, what it measured, the network, and pictures to try."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # where the book's code is: not for the new process
        flags = ["--device", "cpu", "--count", "11", "--batch_size", "4", "--rounds", "1", "--out_dir", str(folder)]
        export.main(["--model_path", str(model_path), *flags])
    results = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    network = load_model(model_path, build, CPU)[0]
    return SimpleNamespace(folder=folder, final=results["final"], network=network, images=shapes(9, SIDE, seed=3)[0])


@functools.cache
def load(path):
    """The program in a file, and what the file says about it: read once, for it takes a second."""
    extra = {"about.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    return program, json.loads(extra["about.json"])


# --- programs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "tolerance"), [("float32", 1e-6), ("folded", 1e-5), ("bfloat16", 0.05)])
def test_a_program_takes_any_number_of_pictures_and_prepares_them_itself(exported, name, tolerance):
    program, _ = load(exported.folder / f"{name}.pt2")
    for count in (1, 2, 3, 9):
        images = exported.images[:count]
        with torch.no_grad():
            found, expected = program(images), exported.network(to_input(images)).softmax(dim=1)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    rows_last = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # as a picture file has them
    torch.testing.assert_close(program(rows_last), found, rtol=0, atol=tolerance)


def test_a_new_process_without_the_books_code_gives_the_same_answers(exported):
    for name, count in (("float32", 11), ("static_1", 11), ("static_4", 8)):
        assert exported.final[f"{name}_difference"] <= 1e-6
        assert exported.final[f"{name}_agreement"] == 1 and exported.final[f"{name}_count"] == count
    assert exported.final["folded_difference"] <= 1e-5
    assert 0 < exported.final["bfloat16_difference"] < 0.05  # not a copy of the answers expected


def test_the_new_process_sees_no_module_of_the_book(exported, capfd):
    path = f"import sys\nsys.path.append({str(ROOT)!r})\n"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Exception, match="exit status 1"), file_size_limit(2000):
        patch.setattr(export, "ELSEWHERE", path + export.ELSEWHERE)
        export.answers_elsewhere({exported.folder / "float32.pt2": [exported.images]})
    assert "the book's code is in reach" in capfd.readouterr().err


def test_a_float64_network_is_exported_exactly(exported, tmp_path):
    model = Deployable(trained(version="v2")[0].double())
    write_program(model, tmp_path / "double.pt2", (3, SIDE, SIDE), STL10_CLASSES, batch=9)
    program, about = load(tmp_path / "double.pt2")
    expected = model.network(to_input(exported.images).double()).softmax(dim=1, dtype=torch.float32)
    assert torch.equal(program(exported.images), expected)
    assert about["precision"] == "float64" and about["input"]["shape"] == [9, 3, SIDE, SIDE]
    with pytest.raises(REFUSALS):
        program(exported.images[:8])


def test_pictures_of_another_size_are_refused(exported):
    program, _ = load(exported.folder / "float32.pt2")
    with pytest.raises(REFUSALS):
        program(torch.zeros(2, 3, SIDE, SIDE + 1, dtype=torch.uint8))


def test_a_file_says_what_goes_in_and_what_comes_out(exported):
    for name, batch in (("float32", "B"), ("static_4", 4), ("bfloat16", "B")):
        about = load(exported.folder / f"{name}.pt2")[1]
        assert about["classes"] == STL10_CLASSES and about["output"] == "probabilities of the classes"
        assert about["input"] == {"type": "uint8", "shape": [batch, 3, SIDE, SIDE], "colours": "red, green, blue"}
        assert about["precision"] == ("bfloat16" if name == "bfloat16" else "float32") and about["device"] == "cpu"


def test_sizes_times_and_accuracies_are_recorded(exported):
    final = exported.final
    for name in ("float32", "static_1", "static_4", "folded", "bfloat16"):
        assert final[f"{name}_bytes"] == (exported.folder / f"{name}.pt2").stat().st_size
    assert final["bfloat16_bytes"] < final["folded_bytes"] < final["float32_bytes"]
    times = {key for key in final if "latency" in key}
    assert times == {f"{n}_latency_{b}" for n in ("eager", "float32", "folded", "bfloat16") for b in (1, 4)} | {
        "static_1_latency_1",
        "static_4_latency_4",
    }
    images, labels = shapes(11, SIDE, seed=2)
    answers = exported.network(to_input(images)).argmax(dim=1)
    assert final["float32_accuracy"] == pytest.approx((answers == labels).float().mean().item())


# --- norms that become part of their convolutions ---------------------------------------------------------------------


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize(
    ("config", "left"),
    [  # how many norms stay: in v2 those that follow a sum or the pooling, one in a block and the last
        ({"version": "v1"}, {18: 0, 50: 0}),
        ({"version": "v1", "residual": False, "stem": "32"}, {18: 0, 50: 0}),
        ({"version": "v2"}, {18: 9, 50: 17}),
    ],
)
def test_a_network_with_its_norms_folded_is_the_same_function(depth, config, left):
    model = trained(depth=depth, **config)[0].double()
    x = torch.randn(3, 3, SIDE, SIDE, dtype=torch.float64)
    before = model(x)
    folded = fold_norms(model)
    torch.testing.assert_close(folded(x), before, rtol=1e-10, atol=1e-10)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) == left[depth]
    assert torch.equal(model(x), before), "the original stays as it was"


class Two(nn.Module):
    """A convolution with a bias under a norm, and one whose output is needed without its norm too."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 1)
        self.norm_a, self.norm_b = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.b(F.relu(self.norm_a(self.a(x))))
        return self.norm_b(x) + x


def test_a_bias_is_folded_in_and_a_convolution_that_others_read_is_left_alone():
    torch.manual_seed(0)
    model, x = Two().double(), torch.randn(4, 2, 6, 6, dtype=torch.float64)
    model(x)  # moves the running statistics
    folded = fold_norms(model)
    torch.testing.assert_close(folded(x), model.eval()(x), rtol=1e-12, atol=1e-12)
    assert [name for name, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d)] == ["norm_b"]
    s = model.norm_a.weight / (model.norm_a.running_var + model.norm_a.eps).sqrt()
    torch.testing.assert_close(folded.a.bias, s * (model.a.bias - model.norm_a.running_mean) + model.norm_a.bias)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_a_missing_or_damaged_checkpoint_is_one_line(model_path, tmp_path, capsys):
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(model_path.read_bytes()[:1000])
    for path in (tmp_path / "missing.pth", damaged):
        with pytest.raises(SystemExit) as stop:
            run(lambda path=path: export.main(["--model_path", str(path), "--out_dir", str(tmp_path / "out")]))
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1 and str(path) in error
    assert not any((tmp_path / "out").iterdir())


def test_a_batch_that_cannot_be_is_refused_before_anything_is_made(model_path, tmp_path):
    flags = ["--model_path", str(model_path), "--out_dir", str(tmp_path / "out")]
    with pytest.raises(UserError, match="--batch_size 1 is not from 2 to the 5"):
        export.main([*flags, "--count", "5", "--batch_size", "1"])
    assert not any((tmp_path / "out").iterdir())


def test_pictures_get_the_networks_size(monkeypatch):
    monkeypatch.setattr(export, "load", lambda *args: (None, shapes(4, 96), STL10_CLASSES))
    images, labels = export.read_pictures("stl10", {"image_size": 24}, None, 3)
    assert images.shape == (3, 3, 24, 24) and images.dtype == torch.uint8 and len(labels) == 3
