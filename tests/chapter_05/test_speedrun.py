"""The speedrun: what its network starts as, and that each shortcut does what it says and no more.
竞速训练：网络的起点，以及每个省时的做法都恰好做到它所说的。
"""

import json
from dataclasses import fields, replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from chapter_04_cnn_classic.dataset import to_input
from chapter_05_resnet_modern_cnn.src import speedrun
from chapter_05_resnet_modern_cnn.src.networks.speed_net import (
    SpeedConfig,
    SpeedNet,
    build,
    convolution,
    probabilities_by_views,
    rescale_,
    whitening_filters,
)
from chapter_05_resnet_modern_cnn.src.speed_recipe import IDEAS, RATES, Recipe
from tests.conftest import ROOT
from utils.checkpoint import load_model
from utils.errors import UserError
from utils.shapes import shapes

CPU = torch.device("cpu")
TINY = ["--dry_run", "--device", "cpu", "--runs", "1"]


def test_whitened_patches_are_uncorrelated():
    pictures = to_input(shapes(20, 24, seed=1)[0]).double()
    filters = whitening_filters(pictures, eps=0.0)
    assert filters.shape == (24, 3, 2, 2) and torch.equal(filters[:12], -filters[12:])
    out = F.conv2d(pictures, filters[:12]).transpose(0, 1).flatten(1)  # (12, all places)
    torch.testing.assert_close(out @ out.T / out.shape[1], torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-9)


def test_a_convolution_starts_by_passing_its_inputs_on():
    x = torch.randn(2, 5, 7, 6)
    torch.testing.assert_close(convolution(5, 8, identity=True)(x)[:, :5], x, rtol=0, atol=0)
    assert (convolution(5, 8, identity=False)(x)[:, :5] - x).abs().max() > 0.1


@pytest.mark.parametrize("side", [18, 24, 32, 45])
def test_pictures_of_any_size_that_leaves_a_map(side):
    net = SpeedNet(SpeedConfig(7, [8, 12, 16]))
    logits = net(torch.randn(3, 3, side, side))
    assert logits.shape == (3, 7)


def test_rescaling_changes_lengths_and_nothing_else():
    torch.manual_seed(0)
    net = build({"widths": [8, 8, 8]}).double().train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-30
    convolutions = [p for p in net.parameters() if p.ndim == 4 and p.requires_grad]
    x = torch.randn(6, 3, 32, 32, dtype=torch.float64)
    before = net(x)
    with torch.no_grad():
        for p in convolutions:
            p.mul_(3.7)
    rescale_(convolutions)
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-12)
    assert all(p.norm().item() == pytest.approx(8**0.5) for p in convolutions)


def test_six_views():
    torch.manual_seed(0)
    net = build({"widths": [8, 8, 8]}).eval()
    images = shapes(4, 32, seed=3)[0]
    x = F.pad(to_input(images), (1, 1, 1, 1), mode="reflect")
    views = [x[:, :, i : i + 32, i : i + 32] for i in (0, 1, 2)]
    logits = torch.stack([net(v) for view in views for v in (view, view.flip(-1))]).mean(dim=0)
    torch.testing.assert_close(probabilities_by_views(net, images, 6, to_input), logits.softmax(dim=1))
    torch.testing.assert_close(probabilities_by_views(net, images, 1, to_input), net(to_input(images)).softmax(dim=1))


def test_a_picture_is_mirrored_in_every_other_epoch_and_the_easy_ones_rest(tmp_path, monkeypatch):
    seen, flip = [], speedrun.random_flip

    def watch(images, chance):
        seen.append((images.flatten(1).float().mean(dim=1), chance.flatten() == 1))  # a picture's mean names it
        return flip(images, chance)

    monkeypatch.setattr(speedrun, "random_flip", watch)
    flags = ["--epochs", "4", "--drop_from", "0.5", "--drop", "0.6", "--out_dir", str(tmp_path)]
    speedrun.main([*TINY, *flags])
    assert len(seen) == 5 + 5 + 2 + 2  # of 100 pictures, 20 a step, the last two epochs leave 60 out
    epochs = [seen[:5], seen[5:10], seen[10:12], seen[12:]]
    sides = [{m.item(): f.item() for ms, fs in e for m, f in zip(ms, fs, strict=True)} for e in epochs]
    assert len(sides[0]) > 90 and all(sides[0][name] != sides[1][name] for name in sides[0])
    assert len(sides[2]) == len(sides[3]) == 40
    assert all(sides[0][name] == sides[2][name] for name in sides[2])


def test_training_reads_no_test_picture(tmp_path, monkeypatch):
    asked, train = [], speedrun.train

    def watch(data, n_classes, recipe, watched):
        asked.append(watched)
        return train(data, n_classes, recipe, watched)

    monkeypatch.setattr(speedrun, "train", watch)
    for split in ("test", "validation"):
        speedrun.main([*TINY, "--split", split, "--out_dir", str(tmp_path)])
    assert asked[0] is None and len(asked[1]) == 2


def test_what_a_run_records(tmp_path):
    speedrun.main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path)])
    results = json.loads((tmp_path / "speedrun.json").read_text())
    final, rows = results["final"], results["per_seed"]
    assert [row["seed"] for row in rows] == [0, 1] and len(results["history"]) == 4
    for name in ("test_accuracy", "test_accuracy_single_view", "train_seconds"):
        assert final[name] == pytest.approx(sum(row[name] for row in rows) / 2) and f"{name}_std" in final
    seconds = [row["seconds"] for row in results["history"]]
    assert seconds[0] < seconds[1] == rows[0]["train_seconds"]
    model, _ = load_model(tmp_path / "speedrun.pth", build, CPU)
    assert sum(p.numel() for p in model.parameters()) == final["parameters"]


def test_it_learns(tmp_path):
    flags = ["--train_size", "600", "--epochs", "6", "--widths", "16", "32", "32", "--drop", "0", "--jitter", "0"]
    speedrun.main([*TINY, *flags, "--out_dir", str(tmp_path)])
    assert json.loads((tmp_path / "speedrun.json").read_text())["final"]["test_accuracy"] > 0.8


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--batch_size", "60", "there are 50 pictures after"),
        ("--small_side", "8", "fewer than 9 pixels"),
        ("--shift", "32", "the pictures have 32 pixels a side"),
    ],
)
def test_an_impossible_flag_is_one_line(tmp_path, flag, value, message):
    with pytest.raises(UserError, match=message):
        speedrun.main([*TINY, flag, value, "--out_dir", str(tmp_path)])


def test_the_smallest_side_and_the_greatest_shift_work(tmp_path):
    speedrun.main([*TINY, "--small_side", "9", "--shift", "31", "--out_dir", str(tmp_path)])


def test_every_idea_is_measured_on_validation_pictures(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(speedrun, "IDEAS", {"the recipe": {}, "no jitter": {"jitter": 0.0}})
    monkeypatch.setattr(speedrun, "color_jitter", lambda pixels, *amounts: seen.append(amounts) or pixels)
    speedrun.main([*TINY, "--ideas", "--out_dir", str(tmp_path)])
    final = json.loads((tmp_path / "speedrun_ideas.json").read_text())["final"]
    assert [row["idea"] for row in final["table"]] == ["the recipe", "no jitter"]
    assert final["split"] == "validation" and all("validation_accuracy_std" in row for row in final["table"])
    assert 0 < len(seen) <= 10 and set(seen) == {(0.1, 0.1)}  # in the first of the two alone


def test_every_idea_changes_something_that_the_recipe_has(tmp_path, monkeypatch):
    """Else a row of the table would be the recipe under another name."""
    for idea, change in IDEAS.items():
        assert (replace(Recipe(), **change) == Recipe()) == (idea == "the recipe")


def test_the_flags_are_the_recipe(parser_of):
    """Each flag of a recipe's name has the recipe's value, so that a command without flags is the recipe."""
    parser = parser_of(ROOT / "chapter_05_resnet_modern_cnn/src/speedrun.py")
    found = {field.name: parser.get_default(field.name) for field in fields(Recipe)}
    assert Recipe(**found | {"widths": tuple(found["widths"])}) == Recipe()


def test_a_replaced_optimizer_is_tuned_on_all_seeds(tmp_path, monkeypatch):
    """The middle rate is best; a rate that runs away counts as guessing, and stops nothing."""
    best, asked = 0.00175, []

    def fake(data, n_classes, recipe, watched):
        asked.append((recipe.optimizer, recipe.beta1, recipe.lr))
        lost = recipe.lr > 0.003 and recipe.optimizer == "adamw"
        net = SpeedNet(SpeedConfig(n_classes, [8, 8, 8])).eval()
        net.distance = abs(recipe.lr - best)
        return net, [{"epoch": 1, "seconds": 1.0, "train_loss": float("nan") if lost else 1.0}], 1.0

    def votes(net, images, views, to_input, amp="off"):
        p = torch.zeros(len(images), 10)
        p[:, 0] = 1 if net.distance else 0  # a tenth is right
        p[torch.arange(len(images)), torch.arange(len(images)) % 10] += 0.0 if net.distance else 1.0  # all are
        return p

    monkeypatch.setattr(speedrun, "train", fake)
    monkeypatch.setattr(speedrun, "probabilities_by_views", votes)
    speedrun.main(["--dry_run", "--device", "cpu", "--ideas", "--only", "AdamW for Muon", "--out_dir", str(tmp_path)])
    results = json.loads((tmp_path / "speedrun_ideas.json").read_text())
    recipe, adamw = results["final"]["table"]
    assert asked[:2] == [("muon", 0.9, 0.17)] * 2, "two seeds of the recipe come first"
    assert [trial["lr"] for trial in adamw["trials"]] == RATES["AdamW for Muon"] and len(asked) == 2 + 3 * 2
    assert adamw["lr"] == best and adamw["validation_accuracy"] == 1
    assert [trial["validation_accuracy"] for trial in adamw["trials"]] == pytest.approx([0.1, 1.0, 0.1], abs=0.03)
    assert [row["idea"] for row in results["per_seed"]] == ["the recipe"] * 2 + ["AdamW for Muon"] * 2


def test_adamw_has_a_momentum_of_its_own():
    net = build({"widths": [8, 8, 8]})
    muon, adamw = (speedrun.make_optimizers(net, Recipe(optimizer=name))[0] for name in ("muon", "adamw"))
    assert muon.param_groups[0]["momentum"] == 0.7 and adamw.param_groups[0]["betas"] == (0.9, 0.95)


@pytest.mark.parametrize("idea", ["first layer learned, not whitened", "lengths not kept", "AdamW for Muon"])
def test_an_idea_left_out_trains_too(tmp_path, monkeypatch, idea):
    monkeypatch.setattr(speedrun, "IDEAS", {"the recipe": {}, idea: IDEAS[idea]})
    monkeypatch.setattr(speedrun, "RATES", {})
    speedrun.main([*TINY, "--ideas", "--out_dir", str(tmp_path)])
    history = json.loads((tmp_path / "speedrun_ideas.json").read_text())["history"]
    losses = [[row["train_loss"] for row in history if row["idea"] == name] for name in ("the recipe", idea)]
    assert losses[0] != losses[1] and all(loss > 0 for loss in losses[0] + losses[1])
