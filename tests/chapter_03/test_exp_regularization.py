"""Chapter 3's experiment with regularisers: its recipes, its calibration, its tuning, and what it writes.
第 3 章正则化实验：配方、校准、调参，以及写出的结果。
"""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from chapter_03_optimization_regularization import exp_regularization as experiment
from chapter_03_optimization_regularization.dataset import load, to_input
from chapter_03_optimization_regularization.experiments import bench as bench_module
from chapter_03_optimization_regularization.experiments import recipe as recipe_module
from chapter_03_optimization_regularization.experiments.bench import Bench, Setting, Trial, best
from chapter_03_optimization_regularization.experiments.calibration import calibration_error, mask_averages, reliability
from chapter_03_optimization_regularization.experiments.recipe import Recipe, train_by_recipe
from chapter_03_optimization_regularization.model import CNN, CNNConfig
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS
from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.schedules import cosine, warmup
from chapter_03_optimization_regularization.regularization import soft_threshold_
from chapter_03_optimization_regularization.training import fit, make_optimizers

ARMS = list(experiment.ARMS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def bars(count):
    """Pictures (count, 1, 28, 28) with a bright bar, upright for class 0 and level for class 1."""
    labels = torch.arange(count) % 2
    images = torch.randint(0, 60, (count, 1, 28, 28), dtype=torch.uint8)
    for image, label, place in zip(images, labels, torch.randint(4, 24, (count,)).tolist(), strict=True):
        image[(0, slice(None), place) if label == 0 else (0, place)] = 255
    return images, labels


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_gradient_descent_and_soft_threshold_find_the_lasso():
    target = torch.tensor([[2.0, -0.3, 0.4, -1.0]], dtype=torch.float64)
    w = nn.Parameter(torch.ones_like(target))
    optimizer = OPTIMIZERS["sgd"]([w], lr=0.1)
    for _ in range(300):
        w.grad = w.detach() - target  # of |w - target|^2 / 2
        optimizer.step()
        soft_threshold_(w, 0.1 * 0.5)
    expected = torch.tensor([[1.5, 0.0, 0.0, -0.5]], dtype=torch.float64)
    torch.testing.assert_close(w.detach(), expected, atol=1e-12, rtol=0)
    assert w[0, 1] == 0 and w[0, 2] == 0


def test_after_a_step_its_rate_still_holds_and_the_training_can_end():
    model, rates = CNN(CNNConfig(n_classes=2, width=2)), []
    (optimizer,) = make_optimizers(model, "sgd", 0.3, 0.0)
    factor = warmup(cosine(18), 2)

    def after_step(done):
        rates.append(optimizer.param_groups[0]["lr"])
        assert done == len(rates)
        return done == 7

    losses = fit(model, *bars(40), [optimizer], factor, 20, 10, to_input=to_input, after_step=after_step)
    assert len(losses) == 7 and rates == pytest.approx([0.3 * factor(step) for step in range(7)], rel=1e-12)


def test_limits_hold_after_every_step_and_the_average_sees_them(monkeypatch):
    shrunk, averaged = [], []
    monkeypatch.setattr(recipe_module, "soft_threshold_", lambda p, threshold: shrunk.append(threshold))
    monkeypatch.setattr(EMA, "update", lambda self, model: averaged.append(model.head.weight.norm(dim=1).max().item()))
    data, config = bars(40), CNNConfig(n_classes=2, width=2)
    train_by_recipe(Recipe(l1=0.5, max_norm=0.3, ema=0.9), data, data, config, "adamw", 0.1, 20, batch_size=10)
    assert len(averaged) == 20 and max(averaged) <= 0.3 + 1e-6
    factor = warmup(cosine(19), 1)  # of 20 steps 5 % rise
    assert shrunk[::7] == pytest.approx([0.1 * 0.5 * factor(step) for step in range(20)])  # six convolutions, a head


def test_without_ingredients_a_recipe_is_plain_training():
    data, config = bars(40), CNNConfig(n_classes=2, width=2)
    torch.manual_seed(1)
    model = train_by_recipe(Recipe(), data, data, config, "adamw", lr=0.01, steps=8, batch_size=10)
    torch.manual_seed(1)
    plain = CNN(CNNConfig(n_classes=2, width=2, norm="none")).to(memory_format=torch.channels_last)
    fit(plain, *data, make_optimizers(plain, "adamw", 0.01, 0.0), cosine(8), 8, 10, to_input=to_input)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_every_ingredient_changes_the_network():
    data, config = bars(40), CNNConfig(n_classes=2, width=2)
    weights = {}
    for arm, recipe in experiment.ARMS.items():
        torch.manual_seed(1)
        model = train_by_recipe(recipe, data, data, config, "adamw", lr=0.02, steps=12, batch_size=10)
        assert not model.training and all(p.isfinite().all() for p in model.parameters())
        weights[arm] = model.head.weight.detach()
    for arm in ARMS:
        same = [other for other in ARMS if other != arm and torch.equal(weights[arm], weights[other])]
        assert set(same) <= {"nothing", "early stopping", "max-norm"}, f"{arm} is the same as {same}"


def test_early_stopping_returns_the_best_network(monkeypatch):
    losses = iter([0.9, 0.5, 0.7, 0.6, 0.8])
    seen = []

    def look(p, labels):
        seen.append(p)
        return 0.0, next(losses)

    monkeypatch.setattr(recipe_module, "score", look)
    data = bars(40)
    model = train_by_recipe(
        Recipe(patience=2), data, data, CNNConfig(n_classes=2, width=2), "adamw", 0.01, 100, batch_size=10
    )
    assert len(seen) == 4  # the second was best, and two more brought nothing
    assert not model.training
    with torch.no_grad():
        torch.testing.assert_close(model(to_input(data[0])).softmax(dim=1), seen[1])


def test_mixing_picks_one_of_the_two(monkeypatch):
    used = []
    for name in ("mixup", "cutmix"):
        monkeypatch.setattr(
            f"chapter_03_optimization_regularization.regularization.mixing.{name}",
            lambda x, targets, alpha, name=name: used.append((name, alpha)) or (x, targets),
        )
    model, (images, labels) = CNN(CNNConfig(n_classes=2, width=2)), bars(4)
    for _ in range(30):
        Recipe(mixup=0.2, cutmix=1.0).loss(model, to_input(images), labels)
    assert set(used) == {("mixup", 0.2), ("cutmix", 1.0)} and len(used) == 30


# --- calibration ------------------------------------------------------------------------------------------------------


def test_reliability_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.45, 0.55], [1.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])
    rows = reliability(p, labels, bins=2)
    assert rows == [{"share": 1.0, "confidence": pytest.approx(0.8125), "accuracy": 0.75}]
    rows = reliability(p, labels, bins=5)  # [0.4, 0.6), [0.8, 1]
    assert [row["share"] for row in rows] == [0.25, 0.75]
    assert calibration_error(p, labels, bins=5) == pytest.approx(0.25 * 0.45 + 0.75 * (0.9 - 2 / 3), abs=1e-12)


def test_honest_predictions_are_calibrated():
    p = torch.rand(200_000, 2, dtype=torch.float64).softmax(dim=1)
    labels = torch.multinomial(p, 1)[:, 0]
    assert calibration_error(p, labels) < 0.005
    assert calibration_error((3 * p.log()).softmax(dim=1), labels) > 0.1  # three times too sure


def test_averages_over_masks_are_those_of_whole_passes():
    model, images = CNN(CNNConfig(n_classes=3, width=2, dropout=0.5)), bars(6)[0]
    torch.manual_seed(3)
    averages = list(mask_averages(model, images, masks=4))
    torch.manual_seed(3)
    model.eval()
    model.dropout.train()
    with torch.no_grad():
        passes = torch.stack([model(to_input(images)).softmax(dim=1) for _ in range(4)])
    torch.testing.assert_close(torch.stack(averages), passes.cumsum(dim=0) / torch.arange(1, 5)[:, None, None])
    assert (passes[0] - passes[1]).abs().max() > 1e-3


# --- the experiment ---------------------------------------------------------------------------------------------------


class Hill(bench_module.Bench):
    """A bench on which rate 10^(peak / 3) is best, and longer is better by `slope` a step."""

    def __init__(self, peak, slope=1e-5):
        self.peak, self.slope = peak, slope

    def trial(self, recipe, lr, steps):
        return Trial(lr, steps, 0.8 - 0.01 * abs(3 * math.log10(lr) - self.peak) + self.slope * steps)


@pytest.mark.parametrize("peak, trials", [(-6, 4), (-7, 5), (-8, 6), (-4, 6), (9, 7)])
def test_tuning_follows_the_best_rate_over_the_edge(peak, trials):
    found = Hill(peak).tune(Recipe(), 3, [10, 100])
    assert len(found) == trials and len({(t.lr, t.steps) for t in found}) == trials
    assert best(found).lr == pytest.approx(10 ** (min(peak, -2) / 3)) and best(found).steps == 100
    assert best(Hill(peak, slope=-1e-5).tune(Recipe(), 3, [10, 100])).steps == 10


def test_the_same_training_is_done_once(monkeypatch):
    calls = []
    monkeypatch.setattr(
        bench_module, "train_by_recipe", lambda recipe, *how: calls.append((recipe, how[5])) or object()
    )
    bar = SimpleNamespace(set_postfix_str=lambda text: None)
    bench = Bench(Setting(CNNConfig(2, 2), "adamw", batch_size=4), [5, 6], [None, None], None, bar)
    first = bench.repeat(Recipe(), Trial(0.01, 10, 0.5))
    assert bench.repeat(Recipe(l1=0.0), Trial(0.01 * (1 + 1e-12), 10, 0.7)) == first
    assert calls == [(Recipe(), 10)] * 2 and first[0] is not first[1]
    bench.repeat(Recipe(l1=0.1), Trial(0.01, 10, 0.5))
    assert len(calls) == 4


def test_seeds_train_on_other_pictures_than_they_are_tuned_on():
    args = SimpleNamespace(dataset="shapes", data_root=None, train_size=200, runs=2, seed=3, per_class=5, device="cpu")
    vars(args).update(validation_size=40, width=2, optimizer="adamw", batch_size=4, amp="off")
    bench = experiment.make_bench(args, bar=None)
    sets = [{image.numpy().tobytes() for image in images} for images, _ in bench.train_sets]
    held_out = {image.numpy().tobytes() for image in bench.validation[0]}
    test = {image.numpy().tobytes() for image in load("shapes", "test", None, 200)[1][0]}
    assert len(sets[0]) == len(sets[1]) == 50 and sets[0] != sets[1]
    assert not (sets[0] | sets[1]) & (held_out | test) and not held_out & test
    assert all(torch.bincount(labels).tolist() == [5] * 10 for _, labels in bench.train_sets)


def test_a_small_run_adds_up(tmp_path, capsys):
    experiment.main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path)])
    results = json.loads((tmp_path / "exp_regularization.json").read_text(encoding="utf-8"))
    final, seeds = results["final"], results["per_seed"]
    table = {row["arm"]: row for row in final["table"]}
    assert list(table) == [*ARMS, "nothing, longer", "combination, longer"]
    assert final["gain"] == pytest.approx(
        table["combination, longer"]["test_accuracy"] - table["nothing, longer"]["test_accuracy"]
    )
    assert final["gain"] == pytest.approx(sum(row["gain"] for row in seeds) / 2)
    for arm, row in table.items():
        assert row["test_accuracy"] == pytest.approx(sum(seed[arm]["test_accuracy"] for seed in seeds) / 2)
        assert row["gap"] == pytest.approx(row["train_accuracy"] - row["test_accuracy"])
    assert [row["masks"] for row in final["masks"]] == [1, 2, 3]
    strengths = {row["strength"]: row["zeros"] for row in final["sparsity"]}
    assert strengths[0.0] == 0 and strengths[1000.0] == 1
    assert all("." not in key for row in [final, *seeds, *final["table"]] for key in row)
    pictures = sorted(tmp_path.glob("*.png"))
    assert [p.stem for p in pictures] == [f"exp_regularization_{name}" for name in ("calibration", "gap", "sparsity")]
    assert all(p.stat().st_size < 300_000 for p in pictures)
    assert "gain" in capsys.readouterr().out
