"""Chapter 5's training: one resampling, mixed batches, interruptions, both types alike, two processes as one.
第 5 章的训练：只重采样一次、混合批次、经得起中断、两种网络条件相同、两个进程等同于一个。
"""

import json
import os
import re
import socket
import sys
from contextlib import redirect_stdout

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn

from chapter_03_optimization_regularization.regularization.augmentation import affine, affine_matrices
from chapter_05_resnet_modern_cnn.src import augmentation
from chapter_05_resnet_modern_cnn.src import model_train as script
from chapter_05_resnet_modern_cnn.src.augmentation import random_resized_crops
from chapter_05_resnet_modern_cnn.src.data_parallel import (
    SyncBatchNorm2d,
    average,
    first_process_first,
    synchronise_norms_,
)
from chapter_05_resnet_modern_cnn.src.dataset import DATASETS, load
from chapter_05_resnet_modern_cnn.src.measuring import a_quarter
from chapter_05_resnet_modern_cnn.src.model import build
from tests.conftest import ROOT
from utils.checkpoint import load_model
from utils.cli import run
from utils.data import default_data_root
from utils.distributed import TORCHRUN, process_group, rank, world_size
from utils.errors import UserError

CPU = torch.device("cpu")
TINY = ["--dry_run", "--device", "cpu"]
SMALL = ["--enlarge", "0.375"]  # pictures to measure on, where their size does not matter


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def pictures(count, height=24, width=32):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_half_the_size_is_the_mean_of_four_pixels():
    images = torch.rand(3, 3, 8, 12, dtype=torch.float64)
    halved = affine(images, 2 * affine_matrices(torch.zeros(3)).double(), size=(4, 6))
    torch.testing.assert_close(halved, F.avg_pool2d(images, 2))


def test_the_gentlest_augmentation_leaves_a_picture_or_its_mirror():
    images = pictures(40, 32)
    x = random_resized_crops(images, 32, smallest=1.0, degrees=0.0, ratio=1.0)
    plain, mirrored = ((x - y / 255).abs().amax(dim=(1, 2, 3)) < 1e-3 for y in (images, images.flip(-1)))
    assert (plain ^ mirrored).all() and 8 < plain.sum() < 32


def test_pieces_lie_inside_the_picture():
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(200, 3, 24, 32)  # brighter to the right
    x = random_resized_crops(ramp, 16, smallest=0.25, degrees=0.0)
    assert x.shape == (200, 3, 16, 16)
    torch.testing.assert_close(x, x[:, :, :1].expand_as(x), atol=1e-3, rtol=0)  # all rows alike
    steps = x[:, 0, 0, 1:-1].diff(dim=1)  # at the very edge half a pixel is missing
    assert (steps.sign() == steps[:, :1].sign()).all(), "nothing was reflected"
    width = steps.abs().mean(dim=1) * 16 / (8 / 255)  # in pixels
    assert width.min() > 32 * (0.25 * 3 / 4) ** 0.5 - 0.5 and 30 < width.max() < 32.5


def test_batches_are_mixed_as_often_as_asked(monkeypatch):
    for name in ("cutmix", "mixup"):
        monkeypatch.setattr(augmentation, name, lambda x, targets, name=name: name)
    x, targets = torch.zeros(1), torch.zeros(1)
    done = [augmentation.mix_at_random(x, targets, 0.4, 0.1) for _ in range(4000)]
    assert abs(done.count("cutmix") / 4000 - 0.4) < 0.03 and abs(done.count("mixup") / 4000 - 0.1) < 0.02
    assert all(result[0] is x for result in done if isinstance(result, tuple))


def test_sizes_and_mixing_follow_the_epochs(tmp_path, monkeypatch):
    seen = []
    crops, mix = script.random_resized_crops, script.mix_at_random
    monkeypatch.setattr(
        script, "random_resized_crops", lambda x, side, *rest: seen.append(side) or crops(x, side, *rest)
    )
    monkeypatch.setattr(script, "mix_at_random", lambda x, y, *rest: seen.append("mixed") or mix(x, y, *rest))
    flags = [*TINY, "--train_size", "20", "--epochs", "4", "--small_share", "0.5", "--unmixed", "0.25"]
    script.main([*flags, "--out_dir", str(tmp_path)])
    assert seen == [32, "mixed", 32, "mixed", 96, "mixed", 96]
    seen.clear()
    script.main([*flags, "--full_side", "64", "--out_dir", str(tmp_path)])
    assert seen == [32, "mixed", 32, "mixed", 64, "mixed", 64]
    assert read(tmp_path / "resnet18_shapes.json")["flags"]["full_side"] == 64


# --- the script -------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def same_results(first, second):
    for results in (first, second):
        assert results["final"].pop("train_seconds") > 0
    return first == second


def test_an_interrupted_comparison_resumes_to_the_last_bit(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags = [*TINY, *SMALL, "--train_size", "40", "--split", "validation"]
    script.main([*flags, "--compare", "--out_dir", str(whole)])
    save = script.save_state

    def save_and_die(path, flags, position, *rest):
        save(path, flags, position, *rest)
        if position == 2 and "plainnet" in path.name:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(script, "save_state", save_and_die)
        script.main([*flags, "--compare", "--out_dir", str(killed)])
    script.main([*flags, "--model_type", "plainnet", "--resume", "--out_dir", str(killed)])  # one may go on alone
    for name in ("resnet18_shapes", "plainnet18_shapes"):
        assert same_results(read(whole / f"{name}.json"), read(killed / f"{name}.json"))
        a, b = (load_model(folder / f"{name}.pth", build, CPU)[0].state_dict() for folder in (whole, killed))
        assert all(torch.equal(a[key], b[key]) for key in a)
    script.main([*flags, "--compare", "--resume", "--out_dir", str(killed)])  # only measures and draws
    ours, theirs = read(whole / "depth18.json"), read(killed / "depth18.json")
    assert ours["history"] == theirs["history"] and (killed / "loss_comparison.png").exists()


def test_what_a_training_records(tmp_path):
    script.main([*TINY, "--out_dir", str(tmp_path)])
    results = read(tmp_path / "resnet18_shapes.json")
    final = results["final"]
    assert {"test_accuracy", "test_accuracy_flip", "train_loss", "train_accuracy", "macs"} <= final.keys()
    assert final["split"] == "test" and final["test_count"] == 16 and final["processes"] == 1
    assert [row["epoch"] for row in results["history"]] == [1, 2, 3]
    model, about = load_model(tmp_path / "resnet18_shapes.pth", build, CPU)
    assert final["parameters"] == sum(p.numel() for p in model.parameters())
    assert about["image_size"] == 128 and len(about["classes"]) == 10 and model.config.stem == "224"


def test_both_types_see_the_same_pictures(tmp_path, monkeypatch):
    shown, types = {"resnet": [], "plainnet": []}, []
    crops, train = script.random_resized_crops, script.train

    def watch(*args):
        shown[types[-1]].append(crops(*args))
        return shown[types[-1]][-1]

    def note_the_type(data, watched, config, *rest):
        types.append("resnet" if config.residual else "plainnet")
        return train(data, watched, config, *rest)

    monkeypatch.setattr(script, "random_resized_crops", watch)
    monkeypatch.setattr(script, "train", note_the_type)
    flags = [*TINY, *SMALL, "--train_size", "40", "--epochs", "2", "--compare"]
    script.main([*flags, "--out_dir", str(tmp_path)])
    first, second = shown.values()
    assert len(first) == len(second) == 4 and all(map(torch.equal, first, second))


def test_a_shipped_file_is_small_enough():
    model = build({"depth": 18, "stem": "224"})
    parameters = sum(p.numel() for p in model.parameters())
    buffers = sum(b.numel() for b in model.buffers())
    assert 2 * parameters + 4 * buffers + 50_000 < 23_000_000


def test_mistakes_end_in_one_clear_line(tmp_path, monkeypatch):
    flags = [*TINY, "--out_dir", str(tmp_path)]
    with pytest.raises(UserError, match="there are 64 pictures"):
        script.main([*flags, "--batch_size", "500"])
    with pytest.raises(UserError, match="lower --lr"):
        script.main([*flags, "--lr", "1e38"])
    with pytest.raises(UserError, match="no such file"):
        script.main([*flags, "--resume", "--depth", "34"])
    monkeypatch.setattr(script, "world_size", lambda: 3)
    with pytest.raises(UserError, match="by 3 processes"):
        script.main(flags)


def test_the_shapes_are_learnt_by_the_command_that_the_readme_prints(tmp_path):
    """In cheap form: fewer and smaller pictures, and a rate for fewer steps. As printed it gets nine of ten right."""
    readme = (ROOT / "chapter_05_resnet_modern_cnn/README.md").read_text(encoding="utf-8")
    (printed,) = re.findall(r"^python chapter_05\S+/model_train\.py (--dataset shapes .*)$", readme, re.MULTILINE)
    cheap = ["--train_size", "1500", "--epochs", "12", "--small_side", "48", "--full_side", "48", "--lr", "0.3"]
    cheap += ["--enlarge", "0.575", "--amp", "off", "--device", "cpu", "--out_dir", str(tmp_path)]
    script.main([*printed.split(), *cheap])
    assert read(tmp_path / "resnet18_shapes.json")["final"]["test_accuracy"] > 0.25  # guessing: 0.1; measured: 0.42


@pytest.mark.parametrize("name", DATASETS)
def test_the_training_accuracy_looks_at_every_class(name):
    """The shapes' labels come in turns: every fourth picture would show five classes of ten."""
    root = default_data_root()
    if name != "shapes" and not (root / name / "train.npz").exists():
        pytest.skip(f"{name} is not here")
    labels = load(name, "test", root, 400)[0][1]
    counts = labels[a_quarter(len(labels))].bincount(minlength=10)
    assert counts.sum() == len(labels) // 4 and counts.min() > 0.25 * counts.max()
    assert a_quarter(3).tolist() and torch.equal(a_quarter(400), a_quarter(400))


def test_a_batch_of_one_picture_on_maps_of_one_pixel_is_one_line(tmp_path, capsys):
    flags = [*TINY, "--batch_size", "1", "--epochs", "1", "--small_side", "32", "--out_dir", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        run(lambda: script.main(flags))
    said = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and said.startswith("error: ") and "--batch_size" in said


# --- several processes ------------------------------------------------------------------------------------------------


def test_synchronising_replaces_norms_and_keeps_all_else():
    model = build({"width": 4, "stem": "32"}).eval()
    x, tensors, names = (
        torch.randn(2, 3, 8, 8),
        {id(t) for t in model.state_dict(keep_vars=True).values()},
        list(model.state_dict()),
    )
    before = model(x)
    model.layer2.train()
    assert synchronise_norms_(model) is model
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20 and all(type(m) is SyncBatchNorm2d for m in norms)
    assert {id(t) for t in model.state_dict(keep_vars=True).values()} == tensors and list(model.state_dict()) == names
    assert model.layer2[0].bn1.training and not model.layer1[0].bn1.training
    assert torch.equal(model.eval()(x), before)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def test_one_process_needs_no_torchrun(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with process_group(CPU), first_process_first():
        assert (rank(), world_size()) == (0, 1) and average(torch.ones(2)).tolist() == [1, 1]


def test_processes_need_a_device_that_can_talk(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.setenv(name, "0")
    with pytest.raises(UserError, match="--device cpu"), process_group(torch.device("mps")):
        pass


def norm_and_data():
    """A norm with weights that are not 1, a batch of four, and what to weigh its outputs with, in float64."""
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(5).double()
    nn.init.normal_(norm.weight)
    return norm, torch.randn(4, 5, 3, 2).double() + 3, torch.randn(4, 5, 3, 2).double()


def be_one_of_two(process, port):
    """Set what torchrun sets in each of two processes."""
    own = {"RANK": str(process), "LOCAL_RANK": str(process), "WORLD_SIZE": "2"}
    os.environ.update(own, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)


def half_of_the_batch(process, port, folder):
    """What each of the two processes does: the norm on its half, its gradients averaged as DDP does."""
    be_one_of_two(process, port)
    with process_group(CPU):
        with first_process_first():
            norm, x, factor = norm_and_data()
        norm = synchronise_norms_(nn.Sequential(norm))[0]
        assert type(norm) is SyncBatchNorm2d
        x, factor = x.chunk(2)[process].requires_grad_(), factor.chunk(2)[process]
        y = norm(x)
        (y.sin() * factor).sum().backward()
        result = {"y": y.detach(), "x": x.grad, "weight": average(norm.weight.grad), "bias": average(norm.bias.grad)}
        torch.save(result | norm.state_dict(prefix="norm."), f"{folder}/{process}.pt")


@pytest.mark.skipif(sys.platform == "win32", reason="two processes meet through a store that Windows builds may lack")
def test_batch_norm_over_two_processes_is_batch_norm_over_the_batch(tmp_path, quick_processes):
    norm, x, factor = norm_and_data()
    y = norm(x.requires_grad_())
    (y.sin() * factor).sum().backward()
    mp.spawn(half_of_the_batch, (free_port(), str(tmp_path)), nprocs=2)
    halves = [torch.load(tmp_path / f"{process}.pt", weights_only=True) for process in (0, 1)]
    exact = {"atol": 1e-12, "rtol": 1e-12}
    torch.testing.assert_close(torch.cat([half["y"] for half in halves]), y.detach(), **exact)
    torch.testing.assert_close(torch.cat([half["x"] for half in halves]), x.grad, **exact)
    for half in halves:  # the loss is a sum: the gradients of its parameters are twice the mean of two
        torch.testing.assert_close(2 * half["weight"], norm.weight.grad, **exact)
        torch.testing.assert_close(2 * half["bias"], norm.bias.grad, **exact)
        for name, tensor in norm.state_dict().items():
            torch.testing.assert_close(half[f"norm.{name}"], tensor, **exact)


def train_as_one_of_two(process, port, flags, folder):
    """What each of the two processes does: the script, and keep what it prints."""
    be_one_of_two(process, port)
    with (folder / f"printed_{process}.txt").open("w") as file, redirect_stdout(file):
        script.main(flags)


@pytest.mark.skipif(sys.platform == "win32", reason="two processes meet through a store that Windows builds may lack")
def test_two_processes_train_as_one(tmp_path, quick_processes):
    """On the CPU, with batch norm's statistics synchronised by data_parallel.py."""
    one, two = tmp_path / "one", tmp_path / "two"
    flags = [*TINY, *SMALL, "--lr", "0.01", "--amp", "off"]
    mp.spawn(train_as_one_of_two, (free_port(), [*flags, "--out_dir", str(two)], tmp_path), nprocs=2)
    printed = [(tmp_path / f"printed_{process}.txt").read_text() for process in (0, 1)]
    assert printed[0].count("test_accuracy_flip") == 1 and not printed[1], "the first process alone prints"
    script.main([*flags, "--out_dir", str(one)])
    paths = (folder / "resnet18_shapes_state.pth" for folder in (one, two))
    a, b = (torch.load(path, map_location="cpu", weights_only=True) for path in paths)
    for ours, theirs in zip(a["history"], b["history"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    for ours, theirs in ((a["model"], b["model"]), (a["ema"]["model"], b["ema"]["model"])):
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5)
    assert torch.equal(a["rng"]["cpu"], b["rng"]["cpu"]), "the next epoch would begin alike"
    assert read(two / "resnet18_shapes.json")["final"]["processes"] == 2
