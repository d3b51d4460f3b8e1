"""The two networks that ship: loaded strictly, they say what was recorded, on held-out photographs as well.
随附的两个网络：严格加载后，输出与记录一致；在留出的照片上也是如此。
"""

import json

import pytest
import torch

from chapter_03_optimization_regularization.training import probabilities, score
from chapter_05_resnet_modern_cnn.src.dataset import load, resize, to_input
from chapter_05_resnet_modern_cnn.src.model import build
from chapter_05_resnet_modern_cnn.src.speed_recipe import IDEAS
from tests.conftest import ROOT
from utils.checkpoint import load_model, probe_input
from utils.data import default_data_root

CHAPTER = ROOT / "chapter_05_resnet_modern_cnn"
NAMES = ["resnet18_stl10", "plainnet18_stl10"]
HAS_DATA = (default_data_root() / "stl10" / "train.npz").exists()


def shipped(name):
    model, about = load_model(CHAPTER / f"checkpoints/{name}.pth", build, torch.device("cpu"))
    return model, about, json.loads((CHAPTER / f"results/{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_network_gives_its_recorded_output(name):
    model, about, results = shipped(name)
    side = about["image_size"]
    with torch.no_grad():
        output = model(probe_input(1, 3, side, side))[0]
    torch.testing.assert_close(output, torch.tensor(about["probe"]), rtol=0, atol=1e-3)
    assert model.config.residual == (name == "resnet18_stl10")
    assert results["final"]["test_accuracy"] == about["test_accuracy"]
    assert (CHAPTER / f"checkpoints/{name}.pth").stat().st_size <= 23_000_000


def test_both_were_trained_under_one_recipe_and_in_time():
    resnet, plainnet = (shipped(name)[2] for name in NAMES)
    assert resnet["flags"] | {"model_type": "plainnet"} == plainnet["flags"]
    for results in (resnet, plainnet):
        final = results["final"]
        assert final["split"] == "test" and final["test_count"] == 1000 and final["train_count"] == 4000
        assert final["train_seconds"] <= 75 * 60
    assert resnet["final"]["test_accuracy"] >= 0.8


@pytest.mark.skipif(not HAS_DATA, reason="STL-10 is not here")
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_network_scores_what_was_recorded(name):
    model, about, _ = shipped(name)
    images, labels = load("stl10", "test", default_data_root())[1]
    chosen = torch.arange(0, len(labels), 4)  # 250 pictures of 1,000
    p = probabilities(model, resize(images[chosen], about["image_size"]), to_input=to_input)
    assert score(p, labels[chosen])[0] == pytest.approx(about["test_accuracy"], abs=0.06)


def test_the_speedrun_took_eleven_minutes_at_most_and_was_measured_once_on_all_test_pictures():
    results = json.loads((CHAPTER / "results/speedrun.json").read_text(encoding="utf-8"))
    final, rows = results["final"], results["per_seed"]
    assert final["split"] == "test" and final["test_count"] == 10_000 and len({row["seed"] for row in rows}) == 3
    for name in ("test_accuracy", "test_accuracy_single_view", "train_seconds"):
        assert final[name] == pytest.approx(sum(row[name] for row in rows) / 3)
    assert final["test_accuracy"] >= 0.94 and final["train_seconds"] <= 660
    assert not any("accuracy" in key for row in results["history"] for key in row)  # none while training


def test_every_idea_of_the_race_has_a_row_from_pictures_that_were_not_for_testing():
    final = json.loads((CHAPTER / "results/speedrun_ideas.json").read_text(encoding="utf-8"))["final"]
    assert {row["idea"] for row in final["table"]} >= set(IDEAS)
    assert final["split"] == "validation" and final["validation_count"] == 5000


def test_the_loss_was_cut_through_around_both_kinds_of_network():
    found = json.loads((CHAPTER / "results/loss_surface.json").read_text(encoding="utf-8"))["final"]["surface"]
    for network in (found["resnet"], found["plainnet"]):
        loss, middle = torch.tensor(network["loss"]), len(found["axis"]) // 2
        assert loss.shape == (31, 31)
        assert loss[middle, middle] < 1.02 * loss.min() < loss.max()  # each lies at the bottom of its slice
