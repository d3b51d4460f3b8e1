"""Chapter 4's five networks, CIFAR-10 as it lies on a disk, a training that survives interruptions, what ships.
第 4 章：五个网络、磁盘上的 CIFAR-10、经得起中断的训练，以及随附的成果。
"""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.datasets import CIFAR10

from chapter_03_optimization_regularization.training import make_optimizers, probabilities, score
from chapter_04_cnn_classic import compare, dataset, train
from chapter_04_cnn_classic.model import MODELS, VGG_PLAN, ModelConfig, build, conv_block
from tests.conftest import ROOT
from utils.checkpoint import load_model, probe_input
from utils.cli import run
from utils.data import default_data_root
from utils.errors import UserError
from utils.model_summary import model_summary

CPU = torch.device("cpu")
TINY = ["--dry_run", "--epochs", "3", "--train_size", "100"]
CHAPTER = ROOT / "chapter_04_cnn_classic"
SHIPPED = CHAPTER / "results/best_model.pth"
RECORDED = [2.323252558708191, 2.2611324787139893, 2.232297897338867]  # losses of a dry run of three epochs
HAS_DATA = (default_data_root() / "cifar10" / "test.npz").exists()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


# --- the networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_network_classifies_and_every_parameter_learns(name):
    model = build({"model": name, "n_classes": 7, "width": 0.2})
    x = torch.randn(3, 3, 32, 32)
    logits = model(x)
    assert logits.shape == (3, 7) and len(model.stage_names) == len(model.stages)
    torch.testing.assert_close(model.eval()(x), model.head(model.features(x)))
    model.train()(x).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_network_can_be_trained(name, optimizer):
    model = build({"model": name, "n_classes": 4, "width": 0.3})
    y = torch.arange(16) % 4
    x = torch.randn(4, 3, 32, 32)[y] + 0.5 * torch.randn(16, 3, 32, 32)  # four patterns under noise
    optimizers = make_optimizers(model, optimizer, 1e-2, 0.0)
    losses = []
    for _ in range(20):
        losses.append(nn.functional.cross_entropy(model(x), y))
        model.zero_grad()
        losses[-1].backward()
        for each in optimizers:
            each.step()
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("lenet", 5 * 5 * 3 * 6 + 6 + 5 * 5 * 6 * 16 + 16 + 5 * 5 * 16 * 120 + 120 + 120 * 84 + 84 + 84 * 10 + 10)],
)
def test_parameters_counted_by_hand(name, parameters):
    assert model_summary(build({"model": name}), torch.zeros(1, 3, 32, 32)).parameters == parameters


def test_vgg_is_what_its_plan_says():
    model = build({"model": "vgg"})
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [int(word) for word in VGG_PLAN.split() if word != "M"]
    assert all(m.kernel_size == (3, 3) for m in convolutions)
    x, sides = torch.zeros(2, 3, 32, 32), []
    for stage in model.eval().stages:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [16, 8, 4, 4]


def test_pooling_before_a_norm_and_relu_is_pooling_after_them():
    block = conv_block(3, 8, 3, pool=nn.MaxPool2d(2)).eval()
    conv, pool, norm, relu = block
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.weight.data.uniform_(0.1, 2)  # positive, or a maximum would become a minimum
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(block(x), pool(nn.functional.relu(norm(conv(x)))))


def test_names_that_no_network_has_are_refused():
    with pytest.raises(KeyError):
        build({"model": "resnet"})


# --- data -------------------------------------------------------------------------------------------------------------


def test_splits_of_the_shapes_share_no_picture(tmp_path):
    train_x, _ = dataset.load("shapes", "test", tmp_path, 200)[0]
    seen = {bytes(x.flatten().tolist()) for x in train_x}
    for split in ("validation", "test"):
        images, labels = dataset.load("shapes", split, tmp_path, 200)[1]
        assert images.shape == (50, 3, 32, 32) and labels.bincount().tolist() == [5] * 10
        assert not seen & {bytes(x.flatten().tolist()) for x in images}


@pytest.mark.skipif(not HAS_DATA, reason="CIFAR-10 is not here")
def test_the_validation_split_is_cut_from_the_training_pictures():
    (x, y), (held_out, labels), classes = dataset.load("cifar10", "validation", default_data_root())
    whole, all_labels = dataset.cifar10(default_data_root(), train=True)
    assert len(x) == 45_000 and len(held_out) == 5_000 and classes == dataset.CIFAR10_CLASSES
    assert torch.equal(torch.cat([x, held_out]), whole) and torch.equal(torch.cat([y, labels]), all_labels)


@pytest.mark.skipif(not HAS_DATA, reason="CIFAR-10 is not here")
def test_inputs_have_mean_0_and_deviation_1():
    x = dataset.to_input(dataset.cifar10(default_data_root(), train=True)[0][:10_000])
    assert x.shape == (10_000, 3, 32, 32) and x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(x.std(dim=(0, 2, 3)), torch.ones(3), atol=0.02, rtol=0)


def official(folder, monkeypatch):
    """Write a tiny CIFAR-10 in torchvision's layout, and let its checksums be the right ones."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lists = {"train_list": [], "test_list": []}
    for name, group in (("data_batch_1", "train_list"), ("test_batch", "test_list")):
        batch = {"data": rng.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": [3, 1, 4, 1]}
        (folder / name).write_bytes(pickle.dumps(batch))
        lists[group].append([name, None])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": dataset.CIFAR10_CLASSES}))
    for group, files in lists.items():
        monkeypatch.setattr(CIFAR10, group, files)
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})
    monkeypatch.setattr(dataset, "TRAINING", 4)


def test_the_official_files_are_read_and_cached(tmp_path, monkeypatch):
    official(tmp_path / "cifar-10-batches-py", monkeypatch)
    images, labels = dataset.cifar10(tmp_path, train=True)
    batch = pickle.loads((tmp_path / "cifar-10-batches-py" / "data_batch_1").read_bytes())
    assert torch.equal(images, torch.from_numpy(batch["data"]).view(4, 3, 32, 32)) and labels.tolist() == [3, 1, 4, 1]
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").unlink()
    assert torch.equal(dataset.cifar10(tmp_path, train=True)[0], images), "the second time the cache is read"


def test_official_files_with_a_wrong_checksum_are_not_opened(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "batches.meta"):
        (folder / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(UserError, match="not whole"):
        dataset.cifar10(tmp_path, train=True)
    assert not (tmp_path / "cifar10").exists()


def test_a_damaged_cache_is_named(tmp_path):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "train.npz").write_bytes(b"PK not an archive")
    with pytest.raises(UserError, match=r"train\.npz is damaged"):
        dataset.cifar10(tmp_path, train=True)


def good_cache():
    rng = np.random.default_rng(0)
    return {"images": rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), "labels": np.array([3, 1, 4, 1])}


BAD_CACHES = {
    "fewer labels": lambda a: a | {"labels": a["labels"][:3]},
    "fewer pictures": lambda a: {"images": a["images"][:3], "labels": a["labels"][:3]},  # as if it were the test set's
    "labels of 200": lambda a: a | {"labels": a["labels"] + 196},
    "negative labels": lambda a: a | {"labels": a["labels"] - 2},
    "labels in a column": lambda a: a | {"labels": a["labels"][:, None]},
    "one-hot labels": lambda a: a | {"labels": np.eye(10, dtype=np.int64)[a["labels"]]},
    "labels that are no whole numbers": lambda a: a | {"labels": a["labels"] + 0.5},
    "swapped": lambda a: {"images": a["labels"], "labels": a["images"]},
    "floats": lambda a: a | {"images": a["images"] / 255},
    "channels first": lambda a: a | {"images": a["images"].transpose(0, 3, 1, 2)},
    "larger pictures": lambda a: a | {"images": np.zeros((4, 40, 40, 3), np.uint8)},
    "gigantic": lambda a: a | {"images": np.zeros((4, 3000, 300, 3), np.uint8)},
    "a foreign file": lambda a: {"x": a["images"], "y": a["labels"]},
    "pickled": lambda a: a | {"labels": np.array([None, 1, 2, 3])},
}


@pytest.mark.parametrize("kind", BAD_CACHES)
def test_a_cache_that_holds_something_else_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "TRAINING", 4)
    (tmp_path / "cifar10").mkdir()
    cache = tmp_path / "cifar10" / "train.npz"
    np.savez_compressed(cache, **good_cache())
    assert dataset.cifar10(tmp_path, train=True)[1].tolist() == [3, 1, 4, 1]
    np.savez_compressed(cache, **BAD_CACHES[kind](good_cache()))
    before = cache.read_bytes()
    with pytest.raises(UserError, match=r"train\.npz (holds|is damaged).*delete it"):
        dataset.cifar10(tmp_path, train=True)
    assert cache.read_bytes() == before


@pytest.mark.parametrize("content", [b"sent as text", b"\x1f\x8b" + bytes(500), b""])
def test_an_archive_that_is_none_ends_in_one_line(content, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "download", lambda *args, **kwargs: tmp_path / CIFAR10.filename)
    (tmp_path / CIFAR10.filename).write_bytes(content)
    with pytest.raises(UserError, match="not whole"):
        dataset.cifar10(tmp_path, train=True)


def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("utils.file_io_util.urlopen", refuse)
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz.*--dataset shapes"):
        dataset.cifar10(tmp_path, train=True)


# --- training ---------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "more", [["--split", "validation"], ["--model", "lenet", "--optimizer", "adamw", "--ema", "0"]]
)
def test_an_interrupted_training_resumes_to_the_last_bit(more, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train.main([*TINY, *more, "--out_dir", str(whole)])
    save = train.save_state

    def save_and_die(*args):
        save(*args)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train, "save_state", save_and_die)
        train.main([*TINY, *more, "--out_dir", str(killed)])
    train.main([*TINY, *more, "--out_dir", str(killed), "--resume"])
    name = "train_lenet.json" if "lenet" in more else "train_vgg.json"
    first, second = (read(folder / name) for folder in (whole, killed))
    for results in (first, second):
        assert results["final"].pop("train_seconds") > 0
    assert first["history"] == second["history"] and first["final"] == second["final"]
    a, b = (load_model(folder / "best_model.pth", build, CPU)[0].state_dict() for folder in (whole, killed))
    assert all(torch.equal(a[key], b[key]) for key in a)


MISTAKES = {
    "more pictures a step than there are": (["--batch_size", "1000000"], "there are 100 pictures"),
    "wider than a machine": (["--width", "1000000"], "--width 1e+06: at most 8"),
    "moved out of sight": (["--shift", "32"], "--shift 32: the pictures have 32 pixels a side"),
    "a loss that is no number": (["--optimizer", "sgd", "--lr", "1e38", "--model", "lenet"], "lower --lr"),
    "weights beyond 16 bits": (
        ["--optimizer", "sgd", "--lr", "3e5", "--ema", "0", "--model", "lenet", "--epochs", "1"],
        "too large",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_end_in_one_clear_line_and_no_model(kind, tmp_path, capsys):
    flags, message = MISTAKES[kind]
    with pytest.raises(SystemExit) as stop:
        run(lambda: train.main([*TINY, "--device", "cpu", *flags, "--out_dir", str(tmp_path)]))
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and line.startswith("error: ") and message in line
    assert not [path for path in tmp_path.iterdir() if path.name != "state.pth"]


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_one_is_enough(name, tmp_path):
    """Where the last maps are 1 x 1, batch norm would have nothing to take a mean over: there is none there."""
    flags = ["--dry_run", "--device", "cpu", "--model", name, "--batch_size", "1", "--train_size", "2", "--epochs", "1"]
    train.main([*flags, "--out_dir", str(tmp_path)])
    assert read(tmp_path / f"train_{name}.json")["history"][0]["train_loss"] > 0


def test_the_comparison_ends_in_one_clear_line_too(tmp_path):
    for flag, message in (("--width", "at most 8"), ("--batch_size", "there are 100 pictures")):
        with pytest.raises(UserError, match=message):
            compare.main(["--dry_run", "--device", "cpu", flag, "1000000", "--out_dir", str(tmp_path)])


@pytest.mark.parametrize(("flip", "epochs"), [("0.5", 2), ("0.25", 4)])
def test_every_picture_has_its_turn_to_be_mirrored(flip, epochs, tmp_path, monkeypatch):
    turns, random_flip = {}, train.random_flip

    def watch(images, p):
        for image, turn in zip(images, p.flatten().tolist(), strict=True):
            turns.setdefault(image.numpy().tobytes(), []).append(bool(turn))
        return random_flip(images, p)

    monkeypatch.setattr(train, "random_flip", watch)
    flags = [
        "--train_size",
        "100",
        "--flip",
        flip,
        "--epochs",
        str(epochs),
        "--model",
        "lenet",
        "--out_dir",
        str(tmp_path),
    ]
    train.main(["--dry_run", *flags])
    assert len(turns) == 100 and all(len(turn) == epochs and sum(turn) == 1 for turn in turns.values())
    assert {turn.index(True) for turn in turns.values()} == set(range(epochs)), "not all in the same epoch"


def test_first_losses_are_those_of_the_published_recipe(tmp_path):
    """Recorded when the shipped network was trained: batches, augmentation, rates and average are still the same."""
    train.main([*TINY, "--split", "validation", "--device", "cpu", "--out_dir", str(tmp_path)])
    history = read(tmp_path / "train_vgg.json")["history"]
    assert [row["train_loss"] for row in history] == pytest.approx(RECORDED, rel=1e-3)


def test_a_reader_of_one_training_step_meets_few_files(tmp_path, monkeypatch):
    """Counted: every file of ours in which a function runs between the first batch and the call that saves."""
    met, flip = set(), train.random_flip

    def note(frame, event, arg):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT) and "tests" not in path.parts:
            met.add(path.relative_to(ROOT).as_posix())
        if event == "call" and frame.f_code.co_name == "save_state":
            sys.setprofile(None)

    def start(*args):
        met.add("chapter_04_cnn_classic/train.py")
        sys.setprofile(note)
        return flip(*args)

    monkeypatch.setattr(train, "random_flip", start)
    train.main(["--dry_run", "--epochs", "1", "--device", "cpu", "--out_dir", str(tmp_path)])
    assert "utils/checkpoint.py" in met and "chapter_04_cnn_classic/model.py" in met
    assert len(met) <= 10, sorted(met)


def test_the_training_that_needs_no_download_learns(tmp_path):
    """The printed `train.py --dataset shapes --epochs 6`, with fewer pictures and channels; chance is 10 %."""
    flags = ["--dataset", "shapes", "--epochs", "6", "--train_size", "1000", "--batch_size", "50", "--width", "0.25"]
    train.main([*flags, "--amp", "off", "--device", "cpu", "--out_dir", str(tmp_path)])
    assert read(tmp_path / "train_vgg.json")["final"]["test_accuracy"] > 0.5


def test_the_comparison_gives_every_network_the_same_trials(tmp_path):
    compare.main(["--dry_run", "--out_dir", str(tmp_path)])
    results = read(tmp_path / "compare.json")
    table = results["final"]["table"]
    assert sorted(row["model"] for row in table) == sorted(MODELS)
    for row in table:
        assert len(row["trials"]) >= 3 and row["lr"] in [trial["lr"] for trial in row["trials"]]
        assert 0 <= row["test_accuracy"] <= 1 and row["macs"] > 0


def test_a_config_is_plain():
    assert vars(ModelConfig()).keys() == {"model", "n_classes", "width", "dropout"}


# --- what ships -------------------------------------------------------------------------------------------------------


def test_the_shipped_model_gives_its_recorded_output_and_reaches_the_target():
    model, about = load_model(SHIPPED, build, CPU)
    with torch.no_grad():
        output = model(probe_input(1, 3, 32, 32))[0]
    torch.testing.assert_close(output, torch.tensor(about["probe"]), rtol=0, atol=1e-3)
    results = read(CHAPTER / "results/train_vgg.json")
    final = results["final"]
    assert final["test_count"] == 10_000 and final["split"] == "test" and results["flags"]["model"] == "vgg"
    assert final["test_accuracy"] == about["test_accuracy"] >= 0.94
    assert final["train_seconds"] <= 3600
    assert SHIPPED.stat().st_size <= 14_000_000


@pytest.mark.skipif(not HAS_DATA, reason="CIFAR-10 is not here")
def test_the_shipped_model_scores_what_was_recorded():
    model, about = load_model(SHIPPED, build, CPU)
    images, labels = dataset.cifar10(default_data_root(), train=False)
    p = probabilities(model, images[:1000], to_input=dataset.to_input)
    assert score(p, labels[:1000])[0] == pytest.approx(about["test_accuracy"], abs=0.025)
