"""Chapter 5's training: one resampling, mixed batches, interruptions, both types alike, two processes as one.
第 5 章的训练：只重采样一次、混合批次、经得起中断、两种网络条件相同、两个进程等同于一个。
"""

import json
import os
import socket
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn

from chapter_03_optimization_regularization.regularization.augmentation import affine, affine_matrices
from chapter_05_resnet_modern_cnn.src import model_train as script
from chapter_05_resnet_modern_cnn.src.data_parallel import SyncBatchNorm2d, average, first_process_first, synchronise
from chapter_05_resnet_modern_cnn.src.dataset import to_input
from chapter_05_resnet_modern_cnn.src.model import build
from tests.conftest import ROOT
from utils.checkpoint import load_model
from utils.distributed import process_group, rank, world_size
from utils.errors import UserError

CPU = torch.device("cpu")
TINY = ["--dry_run", "--device", "cpu"]
STILL = {"crop": 1.0, "degrees": 0.0, "jitter": 0.0}  # leaves a picture as it is, but for its mirror


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


def test_the_gentlest_augmentation_leaves_a_picture_or_its_mirror(monkeypatch):
    monkeypatch.setattr(script, "RATIO", 1.0)
    images = pictures(40, 32)
    x = script.augment(images, 32, Namespace(**STILL))
    assert x.is_contiguous(memory_format=torch.channels_last)
    plain, mirrored = ((x - to_input(y)).abs().amax(dim=(1, 2, 3)) < 1e-3 for y in (images, images.flip(-1)))
    assert (plain ^ mirrored).all() and 8 < plain.sum() < 32


def test_pieces_lie_inside_the_picture():
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(200, 3, 24, 32)  # brighter to the right
    x = script.augment(ramp, 16, Namespace(crop=0.25, degrees=0.0, jitter=0.0))
    assert x.shape == (200, 3, 16, 16)
    torch.testing.assert_close(x, x[:, :, :1].expand_as(x), atol=1e-3, rtol=0)  # all rows alike
    steps = x[:, 0, 0, 1:-1].diff(dim=1)  # at the very edge half a pixel is missing
    assert (steps.sign() == steps[:, :1].sign()).all(), "nothing was reflected"
    width = steps.abs().mean(dim=1) * 16 / (8 / (255 * 0.2613))  # in pixels
    assert width.min() > 32 * (0.25 * 3 / 4) ** 0.5 - 0.5 and 30 < width.max() < 32.5


def test_batches_are_mixed_as_often_as_asked(monkeypatch):
    for name in ("cutmix", "mixup"):
        monkeypatch.setattr(script, name, lambda x, targets, name=name: name)
    x, targets = torch.zeros(1), torch.zeros(1)
    done = [script.mix(x, targets, Namespace(cutmix=0.4, mixup=0.1)) for _ in range(4000)]
    assert abs(done.count("cutmix") / 4000 - 0.4) < 0.03 and abs(done.count("mixup") / 4000 - 0.1) < 0.02
    assert all(result[0] is x for result in done if isinstance(result, tuple))


def test_sizes_and_mixing_follow_the_epochs(tmp_path, monkeypatch):
    seen = []
    augment, mix = script.augment, script.mix
    monkeypatch.setattr(script, "augment", lambda images, size, args: seen.append(size) or augment(images, size, args))
    monkeypatch.setattr(script, "mix", lambda x, t, args: seen.append("mixed") or mix(x, t, args))
    flags = ["--train_size", "20", "--epochs", "4", "--small_share", "0.5", "--unmixed", "0.25"]
    script.main([*TINY, *flags, "--out_dir", str(tmp_path)])
    assert seen == [32, "mixed", 32, "mixed", 96, "mixed", 96]


# --- the script -------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def same_results(first, second):
    for results in (first, second):
        assert results["final"].pop("train_seconds") > 0
    return first == second


def test_an_interrupted_comparison_resumes_to_the_last_bit(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags = [*TINY, "--train_size", "40", "--split", "validation"]
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
    assert final["split"] == "test" and final["test_count"] == 15 and final["processes"] == 1
    assert [row["epoch"] for row in results["history"]] == [1, 2, 3]
    model, about = load_model(tmp_path / "resnet18_shapes.pth", build, CPU)
    assert final["parameters"] == sum(p.numel() for p in model.parameters())
    assert about["image_size"] == 128 and len(about["classes"]) == 10 and model.config.stem == "224"


def test_both_types_see_the_same_pictures(tmp_path, monkeypatch):
    shown = {"resnet": [], "plainnet": []}
    augment = script.augment

    def watch(images, size, args):
        x = augment(images, size, args)
        shown[args.model_type].append(x)
        return x

    monkeypatch.setattr(script, "augment", watch)
    script.main([*TINY, "--train_size", "40", "--epochs", "2", "--compare", "--out_dir", str(tmp_path)])
    first, second = shown.values()
    assert len(first) == len(second) == 4 and all(map(torch.equal, first, second))


def test_a_shipped_file_is_small_enough():
    model = build({"depth": 18, "stem": "224"})
    parameters = sum(p.numel() for p in model.parameters())
    buffers = sum(b.numel() for b in model.buffers())
    assert 2 * parameters + 4 * buffers + 50_000 < 23_000_000


def test_mistakes_end_in_one_clear_line(tmp_path, monkeypatch):
    flags = [*TINY, "--out_dir", str(tmp_path)]
    with pytest.raises(UserError, match="there are 60 pictures"):
        script.main([*flags, "--batch_size", "500"])
    with pytest.raises(UserError, match="lower --lr"):
        script.main([*flags, "--lr", "1e38"])
    with pytest.raises(UserError, match="no such file"):
        script.main([*flags, "--resume", "--depth", "34"])
    monkeypatch.setattr(script, "world_size", lambda: 3)
    with pytest.raises(UserError, match="by 3 processes"):
        script.main(flags)


# --- several processes ------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def test_one_process_needs_no_torchrun(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with process_group(CPU), first_process_first():
        assert (rank(), world_size()) == (0, 1) and average(torch.ones(2)).tolist() == [1, 1]


def test_processes_need_a_device_that_can_talk(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="--device cpu"), process_group(torch.device("mps")):
        pass


def norm_and_data():
    """A norm with weights that are not 1, a batch of four, and what to weigh its outputs with, in float64."""
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(5).double()
    nn.init.normal_(norm.weight)
    return norm, torch.randn(4, 5, 3, 2).double() + 3, torch.randn(4, 5, 3, 2).double()


def half_of_the_batch(process, port, folder):
    """What each of the two processes does: the norm on its half, its gradients averaged as DDP does."""
    os.environ.update(RANK=str(process), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    with process_group(CPU):
        with first_process_first():
            norm, x, factor = norm_and_data()
        synchronise(norm)
        assert type(norm) is SyncBatchNorm2d
        x, factor = x.chunk(2)[process].requires_grad_(), factor.chunk(2)[process]
        y = norm(x)
        (y.sin() * factor).sum().backward()
        result = {"y": y.detach(), "x": x.grad, "weight": average(norm.weight.grad), "bias": average(norm.bias.grad)}
        torch.save(result | norm.state_dict(prefix="norm."), f"{folder}/{process}.pt")


@pytest.mark.skipif(sys.platform == "win32", reason="two processes meet through a store that Windows builds may lack")
def test_batch_norm_over_two_processes_is_batch_norm_over_the_batch(tmp_path):
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


@pytest.mark.skipif(sys.platform == "win32", reason="two processes meet through a store that Windows builds may lack")
def test_two_processes_train_as_one(tmp_path):
    """Under torchrun, on the CPU, with batch norm's statistics synchronised by data_parallel.py."""
    one, two = tmp_path / "one", tmp_path / "two"
    flags = [*TINY, "--lr", "0.01", "--amp", "off"]
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1"]
    path = ROOT / "chapter_05_resnet_modern_cnn/src/model_train.py"
    command = [sys.executable, *torchrun, f"--master_port={free_port()}", str(path)]
    done = subprocess.run([*command, *flags, "--out_dir", str(two)], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test_accuracy_flip") == 1, "the first process alone prints"
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
