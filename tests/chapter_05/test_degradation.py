"""Chapter 5's networks of 6n + 2 layers, and the experiment that trains them: fair, resumable, and adding up.
第 5 章：6n + 2 层的网络，以及训练它们的实验：公平、可恢复、数字对得上。
"""

import copy
import json
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from chapter_03_optimization_regularization.training import probabilities, score
from chapter_04_cnn_classic.dataset import load, to_input
from chapter_05_resnet_modern_cnn.src import degradation
from chapter_05_resnet_modern_cnn.src.networks.cifar_resnet import KINDS, CifarConfig, PaddedShortcut, build
from chapter_05_resnet_modern_cnn.src.probes.signals import geometric_mean, norms_by_layer
from utils.checkpoint import load_model
from utils.errors import UserError
from utils.model_summary import model_summary
from utils.seed import set_seed

CPU = torch.device("cpu")
PAPER = {20: 0.27e6, 32: 0.46e6, 44: 0.66e6, 56: 0.85e6}  # parameters, as printed in He et al. 2016a, table 6
SHORT = ["--dry_run", "--depths", "8", "--runs", "1", "--lr", "0.1", "--epochs", "3"]


@pytest.fixture(autouse=True)
def _seed():
    set_seed(0)


def make(kind="plain", seed=0, **config):
    set_seed(seed)
    return build(KINDS[kind] | {"width": 4, "n_classes": 3} | config)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


# --- the networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", PAPER)
def test_networks_have_the_papers_layers_and_parameters(depth):
    counts = set()
    for kind in KINDS:
        with torch.device("meta"):
            model = build(KINDS[kind] | {"depth": depth})
        layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert len(layers) == depth and all(m.kernel_size == (3, 3) for m in layers[:-1])
        counts.add(sum(p.numel() for p in model.parameters()))
    assert len(counts) == 1 and counts.pop() == pytest.approx(PAPER[depth], abs=5000)


def test_a_stride_of_2_makes_a_quarter_of_the_work():
    wide, narrow = (model_summary(build({"depth": 20, "stem": s}), torch.zeros(1, 3, 32, 32)) for s in ("32", "96"))
    head = 64 * 10
    assert wide.macs == 40_551_040 and wide.macs - head == 4 * (narrow.macs - head)
    assert wide.parameters == narrow.parameters


@pytest.mark.parametrize("depth", [8, 20])
def test_one_seed_makes_one_start_for_all_kinds(depth):
    models = [make(kind, depth=depth) for kind in KINDS]
    weights = [[m.weight for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))] for model in models]
    for same in zip(*weights, strict=True):
        assert torch.equal(same[0], same[1]) and torch.equal(same[0], same[2]) and same[0].any()
    assert list(models[0].state_dict()) == list(models[1].state_dict())
    assert not torch.equal(make(depth=depth, seed=1).conv1.weight, models[0].conv1.weight)


@pytest.mark.parametrize("side", [1, 4, 5])
def test_a_padded_shortcut_reads_what_a_stride_of_2_reads(side):
    x = torch.randn(2, 3, side, side)
    y = PaddedShortcut(3, 5, 2)(x)
    copying = nn.Conv2d(3, 5, 1, 2, bias=False)
    copying.weight.data = torch.eye(5, 3)[:, :, None, None]
    assert torch.equal(y, copying(x)) and not y[:, 3:].any()


def test_without_branches_only_the_shortcuts_are_left():
    model = make("residual_v2", depth=14)
    for name, parameter in model.named_parameters():
        if name.startswith("layer") and name.endswith("conv2.weight"):
            parameter.data.zero_()
    maps = expected = model.conv1(torch.randn(2, 3, 12, 12))
    for stage in (model.layer2, model.layer3):  # v2's shortcuts start after a norm and a ReLU where the shape changes
        half = stage[0].bn1(expected).relu()[:, :, ::2, ::2]
        expected = torch.cat([half, torch.zeros_like(half)], dim=1)
    assert torch.equal(model.layer3(model.layer2(model.layer1(maps))), expected) and expected.any()


def test_a_residual_network_is_the_plain_one_and_additions():
    plain, residual = make("plain", depth=14), make("residual", depth=14)
    for module in residual.modules():
        if hasattr(module, "residual"):
            module.residual = False
    x = torch.randn(4, 3, 16, 16)
    assert torch.equal(residual(x), plain(x))
    assert not torch.equal(make("residual", depth=14)(x), plain(x))


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_of_the_promised_size(kind):
    for stem, side in (("32", 8), ("96", 4)):
        model, x = make(kind, stem=stem), torch.randn(2, 3, 32, 32)
        assert model.features(x).shape == (2, 16, side, side) and model.features(x).min() == 0
        assert model(x).shape == (2, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind):
    model, y = make(kind, depth=14), torch.arange(6) % 3
    nn.functional.cross_entropy(model(torch.randn(6, 3, 16, 16)), y).backward()
    assert all(p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_depths_between_are_refused(depth):
    with pytest.raises(ValueError, match="6n \\+ 2"):
        build({"depth": depth})


# --- gradients --------------------------------------------------------------------------------------------------------


def test_norms_by_layer_are_those_of_the_formula():
    x, y = torch.randn(5, 4), torch.arange(5) % 3
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    hidden = model[0](x).relu()
    error = (model[2](hidden).softmax(dim=1) - nn.functional.one_hot(y, 3)) / 5  # (5, 3)
    last, first = error.T @ hidden, ((error @ model[2].weight) * (hidden > 0)).T @ x
    loss, gradients, weights = norms_by_layer(model, x, y)
    assert loss == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-5)
    assert gradients == pytest.approx([first.norm().item(), last.norm().item()], rel=1e-5)
    assert weights == pytest.approx([model[0].weight.norm().item(), model[2].weight.norm().item()], rel=1e-6)


def test_measuring_leaves_no_trace():
    model = make("residual", depth=8).eval()
    before = copy.deepcopy(model.state_dict())
    _, gradients, weights = norms_by_layer(model, torch.randn(4, 3, 16, 16), torch.arange(4) % 3)
    assert len(gradients) == len(weights) == 8 and not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_gradients_explode_in_a_deep_plain_network_and_not_in_residual_ones():
    x, y = torch.randn(32, 3, 16, 16), torch.arange(32) % 3
    ratios = {}
    for kind in KINDS:
        gradients = geometric_mean([norms_by_layer(make(kind, seed, depth=56, width=8), x, y)[1] for seed in range(2)])
        ratios[kind] = gradients[0] / gradients[-2]
    assert ratios["plain"] > 100 > 5 * ratios["residual"] and ratios["plain"] > 5 * ratios["residual_v2"]


def test_a_typical_curve_is_the_geometric_mean():
    assert geometric_mean([[1.0, 2.0], [4.0, 1.0]]) == [2.0, 1.414]
    assert geometric_mean([[0.0]]) == [1e-30]


# --- the experiment ---------------------------------------------------------------------------------------------------


def test_the_plan():
    ends = [("plain", 20), ("residual", 20), ("plain", 56), ("residual", 56), ("residual_v2", 56)]
    planned = degradation.plan([20, 32, 56], runs=2, seed=5)
    assert [network[:2] for network in planned if network[2] == 6] == ends
    between = [("plain", 32), ("residual", 32)]
    assert [network[:2] for network in planned if network[2] == 5] == [*ends[:2], *between, *ends[2:]]
    assert len(degradation.plan([20], runs=3, seed=0)) == 9


def test_every_kind_gets_its_own_best_of_the_same_rates():
    peaks, asked = {"plain": 0.01, "residual": 0.1, "residual_v2": 0.1}, []

    def trainings(kind, depth, seed, lr, trial):
        assert trial and depth == 56 and seed == 4
        asked.append((kind, lr))
        return {"train_accuracy": -abs(lr - peaks[kind])}

    args = SimpleNamespace(lr=[0.03, 0.1, 0.3], depths=[20, 56], seed=4)
    rates, trials = degradation.choose_rates(trainings, args)
    assert rates == pytest.approx({"plain": 0.03 / 10**0.5, "residual": 0.1, "residual_v2": 0.1})
    assert len(trials) == len(asked) == 3 * 5, "plain's best was at the edge twice: all got two more"
    args.lr = [0.2]
    assert degradation.choose_rates(trainings, args) == (dict.fromkeys(KINDS, 0.2), []) and len(asked) == 15


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("degradation")
    degradation.main(["--dry_run", "--device", "cpu", "--out_dir", str(folder)])
    return folder, read(folder / "degradation.json")


def test_the_results_add_up(outcome):
    folder, results = outcome
    final, rows = results["final"], results["per_seed"]
    assert [(r["kind"], r["depth"], r["seed"]) for r in rows] == degradation.plan([8, 14], 2, 0)
    names = ["plain_8", "residual_8", "plain_14", "residual_14", "residual_v2_14"]
    assert list(final["networks"]) == list(final["norms"]) == names
    losses = {}
    for name, network in final["networks"].items():
        mine = [r for r in rows if f"{r['kind']}_{r['depth']}" == name]
        losses[name] = [r["train_loss"] for r in mine]
        assert network["runs"] == len(mine) == 2
        assert network["train_loss"] == pytest.approx(mean(losses[name]))
        assert network["test_accuracy"] == pytest.approx(mean(r["test_accuracy"] for r in mine))
        assert {r["lr"] for r in mine} == {network["lr"]}
        assert network["lr"] in [pytest.approx(t["lr"], rel=0.01) for t in final["trials"]]
        for moment in ("start", "epoch_1", "end"):
            norms = final["norms"][name][moment]
            assert len(norms["gradient"]) == len(norms["weight"]) == network["depth"]
        assert final["norms"][name]["start"] != final["norms"][name]["end"]
    deep, shallow, residual = losses["plain_14"], losses["plain_8"], losses["residual_14"]
    assert final["deep_plain_minus_shallow_plain"] == pytest.approx(mean(deep) - mean(shallow))
    assert final["deep_plain_minus_deep_residual_least"] == min(a - b for a in deep for b in residual)
    by_kind = [[t["lr"] for t in final["trials"] if t["kind"] == kind] for kind in KINDS]
    assert by_kind[0] == by_kind[1] == by_kind[2] and len(by_kind[0]) >= 2
    epochs = [h["epoch"] for h in results["history"] if (h["kind"], h["depth"], h["seed"]) == ("plain", 14, 1)]
    assert epochs == [0, 1, 2]
    for figure in ("degradation.png", "gradient_norms.png"):
        assert (folder / figure).stat().st_size > 10_000


def test_stored_weights_reach_the_recorded_accuracy(outcome):
    folder, results = outcome
    _, (images, labels), _ = load("shapes", "test", None, results["flags"]["train_size"])
    for row in results["per_seed"][:3]:
        path = folder / "networks" / f"{row['kind']}_{row['depth']}_seed{row['seed']}.pth"
        model, about = load_model(path, build, CPU)
        accuracy, loss = score(probabilities(model, images, to_input=to_input), labels)
        assert accuracy == row["test_accuracy"] == about["test_accuracy"]
        assert loss == pytest.approx(row["test_loss"], rel=1e-5)
        assert model.config == CifarConfig(row["depth"], width=4, stem="96", **KINDS[row["kind"]])


def test_what_is_finished_is_not_trained_again(outcome, tmp_path, monkeypatch):
    folder, results = outcome
    monkeypatch.setattr(degradation.Trainings, "train", None)
    degradation.main(["--dry_run", "--device", "cpu", "--out_dir", str(folder), "--resume"])
    assert read(folder / "degradation.json") == results
    with pytest.raises(TypeError):  # a third seed is new
        degradation.main(["--dry_run", "--device", "cpu", "--out_dir", str(folder), "--resume", "--runs", "3"])
    with pytest.raises(UserError, match="--width 4: repeat that"):
        degradation.main(["--dry_run", "--device", "cpu", "--out_dir", str(folder), "--resume", "--width", "8"])


class Killed(Exception):
    pass


def test_an_interrupted_training_resumes_to_the_last_bit(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    degradation.main([*SHORT, "--out_dir", str(whole)])
    save, saves = degradation.save_state, []

    def save_and_die(*args):
        save(*args)
        saves.append(args)
        if len(saves) == 5:  # in the middle of the second network
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(degradation, "save_state", save_and_die)
        degradation.main([*SHORT, "--out_dir", str(killed)])
    assert [path.name for path in (killed / "networks").glob("*.state")] == ["residual_8_seed0.state"]
    with pytest.raises(UserError, match="--lr 0.1"):
        degradation.main([*SHORT, "--out_dir", str(killed), "--resume", "--lr", "0.2"])
    degradation.main([*SHORT, "--out_dir", str(killed), "--resume"])
    assert not list((killed / "networks").glob("*.state"))
    first, second = (untimed(read(folder / "degradation.json")) for folder in (whole, killed))
    assert first == second
    for path in (whole / "networks").glob("*.pth"):
        a, b = (load_model(folder / "networks" / path.name, build, CPU)[0].state_dict() for folder in (whole, killed))
        assert all(torch.equal(a[key], b[key]) for key in a)


def untimed(value):
    """A results file without its times."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if not k.startswith("train_seconds")}
    return [untimed(item) for item in value] if isinstance(value, list) else value


def test_a_trial_that_diverges_loses_and_a_training_stops(tmp_path):
    args = [*SHORT, "--epochs", "1", "--out_dir", str(tmp_path)]
    with pytest.raises(UserError, match="lower --lr"):
        degradation.main([*args, "--lr", "1e38"])
    degradation.main([*args, "--lr", "0.1", "1e38"])
    final = read(tmp_path / "degradation.json")["final"]
    assert all(network["lr"] < 1 for network in final["networks"].values())


def test_mistakes_end_in_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="--depths 21"):
        degradation.main(["--dry_run", "--depths", "20", "21", "--out_dir", str(tmp_path)])
    with pytest.raises(UserError, match="there are 40 pictures"):
        degradation.main(["--dry_run", "--batch_size", "41", "--out_dir", str(tmp_path)])


def test_degradation_as_it_was_measured():
    path = Path(degradation.__file__).resolve().parents[1] / "results" / "degradation.json"
    results = read(path)
    final, networks = results["final"], results["final"]["networks"]
    assert results["flags"]["depths"] == [20, 32, 44, 56] and networks["plain_56"]["runs"] == 3
    gap = networks["plain_56"]["train_loss"] - networks["residual_56"]["train_loss"]
    assert gap > max(networks[name]["train_loss_std"] for name in ("plain_56", "residual_56"))
    assert final["deep_plain_minus_deep_residual_least"] > 0 and final["deep_plain_minus_shallow_plain"] > 0
