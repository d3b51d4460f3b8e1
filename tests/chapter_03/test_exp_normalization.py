"""The norms' experiment: PyTorch's kernels equal our norms, grids grow fairly, signals are what they are called.
归一化实验：PyTorch 的内核与我们的归一化层一致，网格对各方公平地扩展，信号按定义测量。
"""

import argparse
import json
import math

import pytest
import torch
from torch.nn import functional as F

from chapter_03_optimization_regularization import exp_normalization as experiment
from chapter_03_optimization_regularization.dataset import load
from chapter_03_optimization_regularization.experiments.plain_net import (
    PlainNet,
    differences,
    measure_signals,
    relative,
)
from chapter_03_optimization_regularization.model import KERNELS
from chapter_03_optimization_regularization.normalization import NORMS, make_norm
from utils.errors import UserError


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def trials():
    device = torch.device("cpu")
    args = argparse.Namespace(device=device, width=8, pictures=64, amp="off", runs=1, depths=[2], lr=[1e-2])
    args.batch_sizes = [8]
    train_set, validation, _ = load("shapes", "validation", None, count=80)
    found = experiment.Trials(train_set, validation, args)
    yield found
    found.bar.close()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [1, 5, 12, 32])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_our_norm(name, channels, training):
    theirs, ours = KERNELS[name](channels).double(), make_norm(name, channels).double()
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_()
    assert list(theirs.state_dict()) == list(ours.state_dict())
    shapes = {key: value.shape for key, value in ours.state_dict().items()}  # LayerNorm's weights are (C, 1, 1)
    ours.load_state_dict({key: value.view(shapes[key]) for key, value in theirs.state_dict().items()})
    results = []
    for norm in (theirs, ours):
        torch.manual_seed(1)
        norm.train()(3 * torch.randn(3, channels, 4, 5, dtype=torch.float64) + 1)  # for BatchNorm's running statistics
        norm.train(training)
        x = torch.randn(3, channels, 4, 5, dtype=torch.float64, requires_grad=True)
        y = norm(x)
        y.backward(torch.randn_like(y))
        results.append([y, x.grad, *(p.grad for p in norm.parameters()), *norm.buffers()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b.view_as(a), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_the_network_is_its_layers(norm):
    model, x = PlainNet(norm, depth=3, width=8), torch.randn(2, 1, 28, 28)
    states = model.eval().states(x)
    assert [tuple(state.shape) for state in states] == 3 * [(2, 8, 4, 4)]
    torch.testing.assert_close(model(x), model.head(states[-1].mean(dim=(2, 3))))
    assert torch.equal(model.layers[2](states[1]), states[2]), "a later layer has changed what an earlier one put out"


def test_every_pixel_is_seen():
    x = torch.rand(1, 1, 28, 28, requires_grad=True)
    PlainNet("none", depth=1, width=8).states(x)[0].sum().backward()
    assert (x.grad != 0).all()


def test_differences_are_one_minus_the_cosine_of_all_pairs():
    state = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    cosines = [F.cosine_similarity(state[i].flatten(), state[j].flatten(), dim=0).item() for i, j in pairs]
    crossed = torch.eye(2).view(2, 2, 1, 1)
    alike = torch.ones(2, 2, 1, 1) * torch.tensor([1.0, 5.0]).view(2, 1, 1, 1)
    found = differences([state, crossed, alike])
    torch.testing.assert_close(found, torch.tensor([1 - sum(cosines) / 6, 1, 0], dtype=torch.float64))


def test_gradients_are_measured_in_the_last_ones():
    found = relative((torch.full((2, 2), 3.0), torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5])))
    assert found.tolist() == [6, 2, 1]


def test_signals_before_training():
    x = torch.randn(32, 1, 28, 28)
    found = {norm: measure_signals(norm, 20, 16, x, seeds=2) for norm in ("none", "batch", "layer")}
    for norm in ("batch", "layer"):  # a standard normal's ReLU has mean square 1/2
        assert found[norm]["last_activation"] == pytest.approx(math.sqrt(0.5), rel=0.1)
    assert 1.1 < found["batch"]["gradient_growth"] < 1.25 and found["layer"]["gradient_growth"] < 1.1
    # Zeros around the picture: the slowest wave on 4 cells keeps (1 + 2 cos(pi / 5)) / 3 of its energy along each axis.
    assert found["none"]["gradient_growth"] == pytest.approx((1 + 2 * math.cos(math.pi / 5)) / 3, rel=0.05)
    assert found["none"]["last_difference"] < found["layer"]["last_difference"] < 0.2
    assert found["batch"]["last_difference"] > 0.4
    for row in found.values():
        assert row["gradient"][-1] == 1 and len(row["activation"]) == 20
        assert row["first_gradient"] == pytest.approx(row["gradient_growth"] ** 19, rel=1e-9)


def test_rates_go_with_the_root_of_the_batch_size():
    args = argparse.Namespace(batch_size=64)
    assert experiment.scaled(0.01, 4, args) == 0.0025 and experiment.scaled(0.01, 256, args) == 0.02


def test_a_training_is_done_once_and_can_be_repeated(trials):
    run = trials("batch", 2, 1e-2, 8, 0)
    assert trials("batch", 2, 1e-2, 8, 0) is run and len(run.losses) == 64 // 8
    trials("batch", 2, 1e-2, 8, 1)
    trials.done.clear()
    assert trials("batch", 2, 1e-2, 8, 0).losses == run.losses


def test_downsampling_averages_and_leaves_out_what_is_not_finite():
    assert experiment.downsampled([1.0, 3.0, 5.0, 7.0], points=2) == [2, 6]
    assert experiment.downsampled([1.0, 3.0, math.nan], points=64) == [1, 3]


def test_the_results_add_up(tmp_path):
    experiment.main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path)])
    results = json.loads((tmp_path / "exp_normalization.json").read_text(encoding="utf-8"))
    final, rows = results["final"], results["per_seed"]
    for table in ("lr_table", "depth_table", "batch_table", "signals"):
        assert [row["norm"] for row in final[table]] == list(NORMS)
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
        assert row["gap"] == pytest.approx(row["group"] - row["batch"])
    assert final["batch2_gap"] == pytest.approx(final["batch2_group"] - final["batch2_batch"])
    assert final["batch2_gap"] == pytest.approx((rows[0]["gap"] + rows[1]["gap"]) / 2)
    shared = zip(final["lr_table"], final["batch_table"], strict=True)
    for by_rate, by_size in shared:  # the base setting lies on both axes
        assert by_size["accuracies"][-1] == max(trial["accuracy"] for trial in by_rate["trials"])
    for name in ("sweeps", "signals", "batch2"):
        assert (tmp_path / f"exp_normalization_{name}.png").stat().st_size > 10_000


def test_a_batch_larger_than_the_training_is_refused(tmp_path):
    with pytest.raises(UserError, match="--pictures"):
        experiment.main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path), "--batch_sizes", "2", "128"])
