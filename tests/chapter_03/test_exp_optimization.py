"""The comparison of optimizers is fair, and measures what it says it measures.
优化器的比较是公平的，测的正是它声称的东西。
"""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_03_optimization_regularization import exp_optimization as experiment
from chapter_03_optimization_regularization.dataset import load, to_input
from chapter_03_optimization_regularization.experiments.landscapes import LANDSCAPES, quickest, trajectory
from chapter_03_optimization_regularization.figures.optimizer_comparison import FAMILIES, LABELS
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, SAM, SGD
from chapter_03_optimization_regularization.training import fit
from utils.errors import UserError


@pytest.fixture
def args():
    return SimpleNamespace(
        width=2, steps=4, batch_size=20, weight_decay=0.05, amp="off", device=torch.device("cpu"), seed=0, trials=3
    )


@pytest.fixture(scope="module")
def shapes():
    return load("shapes", "validation", None, 80)[:2]


def test_every_optimizer_takes_part():
    arms = [*OPTIMIZERS, "sam", "sam_half"]
    assert list(experiment.MIDDLE) == arms == list(LABELS)
    assert sorted(arm for family in FAMILIES.values() for arm in family) == sorted(arms)
    assert experiment.ON_LANDSCAPES == OPTIMIZERS.keys() - {"muon", "adamw"}


def test_a_plateau_is_measured_in_powers_of_ten():
    roof = {1e-2: 0.76, 1e-1: 0.80, 1.0: 0.72}  # falls by 2 points in half a decade to the left, a quarter to the right
    assert experiment.plateau(roof) == (pytest.approx(0.5 + 0.25), False)
    assert experiment.plateau({1e-2: 0.79, 1e-1: 0.80, 1.0: 0.70}) == (pytest.approx(1 + 0.2), True)
    assert experiment.plateau({1e-2: 0.3, 1e-1: 0.79, 1.0: 0.80, 10.0: 0.3})[0] == pytest.approx(
        1 + 0.01 / 0.49 + 0.02 / 0.5
    )
    hole = {1e-2: 0.80, 1e-1: 0.50, 1.0: 0.81, 10.0: 0.0}  # what lies behind a hole does not count
    assert experiment.plateau(hole)[0] < 0.1


def test_sam_makes_its_two_passes_inside_fit():
    torch.manual_seed(0)
    images, labels = torch.randint(0, 256, (30, 1, 28, 28), dtype=torch.uint8), torch.arange(30) % 10
    model, lr, rho = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), 0.1, 0.05
    start = [p.detach().clone() for p in model.parameters()]

    def gradients(at):
        for p, value in zip(model.parameters(), at, strict=True):
            p.data.copy_(value)
        return torch.autograd.grad(cross_entropy(model(to_input(images)), labels), list(model.parameters()))

    g = gradients(start)
    norm = sum(part.square().sum() for part in g).sqrt()
    uphill = gradients([p + rho * part / norm for p, part in zip(start, g, strict=True)])
    expected = [p - lr * part for p, part in zip(start, uphill, strict=True)]
    assert (uphill[0] - g[0]).abs().max() > 1e-3  # so that plain descent would not pass

    gradients(start)
    sam = experiment.SecondPass(SAM(SGD(model.parameters(), lr=lr), rho), amp="off")
    (loss,) = fit(model, images, labels, [sam], lambda step: 1.0, 1, 30, to_input=to_input, loss_of=sam.loss_of)
    for p, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), value, rtol=1e-5, atol=1e-6)
    gradients(start)
    assert loss == pytest.approx(cross_entropy(model(to_input(images)), labels).item(), rel=1e-5)


def test_on_a_landscape_the_first_to_rest_is_found():
    ravine = LANDSCAPES["ravine"]
    found = quickest(ravine, OPTIMIZERS["sgd"], experiment.LANDSCAPE_RATES, 600)
    assert found["lr"] == pytest.approx(10 ** (-5 / 3))  # the next one, 0.046, is above 2 / 50 and runs away
    path = trajectory(ravine.function, ravine.start, lambda p: SGD(p, lr=found["lr"]), 600)
    values = ravine.function(path)
    assert values[found["steps"] - 1] >= 1e-6 > values[found["steps"] :].max() and found["height"] < 1e-6
    steps_of_one_size = quickest(ravine, OPTIMIZERS["lion"], experiment.LANDSCAPE_RATES, 600)
    assert steps_of_one_size["steps"] is None and 1e-6 < steps_of_one_size["height"] < 1


def test_all_arms_start_from_the_same_network_and_pictures(args, shapes):
    first = {
        arm: experiment.train_and_measure(arm, 0.01, 5, *shapes, args).losses for arm in ("sgd", "adam", "muon", "sam")
    }
    assert len({losses[0] for losses in first.values()}) == 1
    assert len({losses[-1] for losses in first.values()}) == 4
    assert all(len(losses) == 4 for losses in first.values())
    assert len(experiment.train_and_measure("sam_half", 0.01, 5, *shapes, args).losses) == 2
    again = experiment.train_and_measure("adam", 0.01, 5, *shapes, args)
    assert again.losses == first["adam"] and again.step_seconds > 0


def test_decay_is_for_those_that_decouple_it(args, shapes):
    def change(arm):
        with_decay = experiment.train_and_measure(arm, 0.1, 5, *shapes, args).losses
        args.weight_decay = 0.0
        without = experiment.train_and_measure(arm, 0.1, 5, *shapes, args).losses
        args.weight_decay = 0.05
        return max(abs(a - b) for a, b in zip(with_decay, without, strict=True))

    assert change("adam") == change("sam") == 0 < min(change("adamw"), change("lion"), change("muon"))


def test_a_training_that_runs_away_counts_as_guessing(args, shapes):
    training = experiment.train_and_measure("sgd", 1e30, 5, *shapes, args)
    assert len(training.losses) == 4 and training.losses[-1] == math.log(10)
    assert 0 <= training.accuracy <= 0.2 and training.step_seconds > 0


def test_the_deadline_cuts_off_what_takes_longer():
    falling = [1.0 - 0.01 * step for step in range(100)]
    runs = {"sgd": [experiment.Training(0.8, falling, 0.1)] * 2, "sam": [experiment.Training(0.9, falling, 0.2)] * 2}
    rows, deadline = experiment.table({arm: {0.1: 0.5, 1.0: 0.6, 10.0: 0.5} for arm in runs}, runs, steps=100)
    assert deadline == pytest.approx(10)
    sgd, sam = rows
    assert sgd["deadline_loss"] == sgd["train_loss"] == sam["train_loss"] == pytest.approx(sum(falling[90:]) / 10)
    assert sam["deadline_loss"] == pytest.approx(sum(falling[40:50]) / 10)
    assert (sgd["train_seconds"], sam["train_seconds"]) == (pytest.approx(10), pytest.approx(20))
    assert sam["lr"] == 1.0 and sam["trials"] == 3 and sam["test_accuracy"] == 0.9 and sam["test_accuracy_std"] == 0


def test_a_small_run_writes_the_tables(tmp_path, capsys):
    flags = "--dry_run --optimizers sgd adamw sam sam_half --trials 2 --steps 4 --device cpu"
    experiment.main([*flags.split(), "--out_dir", str(tmp_path)])
    results = json.loads((tmp_path / "exp_optimization.json").read_text(encoding="utf-8"))
    final = results["final"]
    assert [row["optimizer"] for row in final["table"]] == ["sgd", "adamw", "sam", "sam_half"]
    assert [row["optimizer"] for row in final["landscapes"]] == ["sgd"]
    assert final["test_count"] == 50 and [row["seed"] for row in results["per_seed"]] == [1, 2]
    for row in final["table"]:
        mine = [entry for entry in final["rates"] if entry["optimizer"] == row["optimizer"]]
        assert len(mine) == row["trials"] >= 2
        assert row["validation_accuracy"] == max(entry["accuracy"] for entry in mine)
        each = [seed[f"{row['optimizer']}_test_accuracy"] for seed in results["per_seed"]]
        assert row["test_accuracy"] == pytest.approx(sum(each) / 2)
    assert "sam_half" in results["history"][1] and "sam_half" not in results["history"][-1]
    assert all(path.stat().st_size < 300_000 for path in tmp_path.glob("*.png"))
    assert len(list(tmp_path.glob("*.png"))) == 2 and "sam_half" in capsys.readouterr().out


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(UserError, match="there are 200 pictures"):
        experiment.main(["--dry_run", "--batch_size", "500", "--out_dir", str(tmp_path)])
