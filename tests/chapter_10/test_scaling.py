"""Laws come back from data that they made, one learning rate fits every width, and trainings say what they cost.
规律能从它生成的数据中恢复，一个学习率适用于所有宽度，训练报告的运算量与实际相符。
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from chapter_03_optimization_regularization.training import make_optimizers
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.pretraining.small_training import (
    Setting,
    Source,
    Trainings,
    batches,
    load_stream,
    step_operations,
    train,
    windows,
)
from chapter_10_llm_modern_components.scaling import (
    Law,
    activations,
    bootstrap_laws,
    effective_tokens,
    fit_law,
    fit_parabola,
    fit_repetition,
    initialize_mup_,
    interval,
    muon_operations,
    mup_factors,
    mup_optimizers,
    power_law,
    r_squared,
    training_operations,
)
from utils.errors import UserError
from utils.seed import set_seed

TRUE = Law(E=1.2, A=40.0, B=300.0, alpha=0.35, beta=0.4)
N, D = (axis.flatten() for axis in np.meshgrid(np.geomspace(4e4, 2e6, 5), np.geomspace(3e5, 2e7, 5)))


def close(law, **tolerances):
    return all(getattr(law, name) == pytest.approx(getattr(TRUE, name), rel=rel) for name, rel in tolerances.items())


def test_a_law_is_recovered_to_many_digits():
    assert close(fit_law(N, D, TRUE(N, D)), E=1e-3, A=1e-2, B=1e-2, alpha=2e-3, beta=2e-3)


def test_a_failed_training_hardly_bends_the_law():
    loss = TRUE(N, D)
    loss[12] *= 1.3
    law = fit_law(N, D, loss)
    others = np.arange(len(loss)) != 12
    assert np.abs(law(N, D) / TRUE(N, D) - 1)[others].max() < 2e-3
    squares = fit_law(N, D, loss, delta=10.0)  # so large a delta makes it least squares
    assert np.abs(squares(N, D) / TRUE(N, D) - 1)[others].max() > 4e-3


def test_intervals_hold_the_truth():
    noisy = TRUE(N, D) * np.exp(np.random.default_rng(0).normal(0, 2e-3, len(N)))
    laws = bootstrap_laws(N, D, noisy, rounds=20, rng=np.random.default_rng(1))
    low, high = interval([law(3e6, 6e7) for law in laws], share=0.98)
    assert low <= TRUE(3e6, 6e7) <= high
    assert 0 < high - low < 0.05


def test_too_few_trainings_are_refused():
    with pytest.raises(ValueError, match="five constants"):
        fit_law(N[:4], D[:4], TRUE(N, D)[:4])


def test_the_best_size_is_the_best():
    n, d = TRUE.compute_optimal(1e13)
    assert 6 * n * d == pytest.approx(1e13)
    for factor in (0.9, 1.1):
        assert TRUE(n * factor, d / factor) > TRUE(n, d)


@pytest.mark.parametrize("changes", [{"A": 0.0, "alpha": 0.0}, {"B": 1e-300, "beta": 1e-9, "alpha": 1e-3}])
def test_a_law_that_hardly_falls_with_one_of_the_two_has_no_best_size(changes):
    with pytest.raises(ValueError, match="no best size"):
        TRUE._replace(**changes).compute_optimal(1e13)


def test_a_parabola_finds_its_bottom():
    n = np.geomspace(1e4, 1e6, 5)
    valley = fit_parabola(n, 2 + 0.1 * np.log(n / 8e4) ** 2)
    assert valley.best == pytest.approx(8e4) and valley.lowest == pytest.approx(2) and valley(8e4) == valley.lowest
    with pytest.raises(ValueError, match="no valley"):
        fit_parabola(n, np.log(n))
    with pytest.raises(ValueError, match="three sizes"):
        fit_parabola(n[:2], n[:2])


def test_a_power_law():
    x = np.geomspace(1, 1000, 4)
    assert power_law(x, 3 * x**0.5) == pytest.approx((3, 0.5))


def test_repeated_tokens_are_worth_less_and_less():
    assert effective_tokens(100, 100, 15) == effective_tokens(200, 100, 15) == 100  # of 200, half is never read
    worth = [effective_tokens(100, 100 * passes, 15.0) for passes in range(1, 400)]
    gains = np.diff(worth)
    assert (np.diff(gains) < 0).all() and 90 < gains[0] < 100
    assert worth[-1] == pytest.approx(100 + 100 * 15)
    passes = np.array([1, 2, 4, 16, 64])
    loss = TRUE(2e5, effective_tokens(4e6 / passes, 4e6, 12.0))
    assert fit_repetition(TRUE, [2e5] * 5, 4e6 / passes, [4e6] * 5, loss) == pytest.approx(12, rel=5e-3)


def test_r_squared():
    assert r_squared([1, 2, 3], [1, 2, 3]) == 1 and r_squared([2, 2, 2], [1, 2, 3]) == 0


@pytest.mark.parametrize("changes", [{}, {"n_kv_heads": 1, "tied": False}, {"positions": "learned", "bias": True}])
def test_operations_are_those_that_pytorch_counts(changes):
    config = ModelConfig(50, d_model=32, n_layers=2, n_heads=4, d_ff=48, max_length=16, **changes)
    model = LanguageModel(config)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 16, dtype=torch.long)).sum().backward()
    counted = sum(n for name, n in counter.get_flop_counts()["Global"].items() if "attention" not in str(name))
    attention = 12 * config.n_layers * config.d_model * 16 // 2  # kernels are free to count hidden scores: left out
    assert training_operations(model, 16) - attention == counted / 16


def test_what_muon_adds_is_what_pytorch_counts():
    sizes = {"d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 48, "max_length": 16}
    model = LanguageModel(ModelConfig(50, **sizes, qk_norm=True))
    model(torch.zeros(1, 16, dtype=torch.long)).sum().backward()
    with FlopCounterMode(display=False) as counter:
        make_optimizers(model, "muon", 1e-3, 0.0)[0].step()
    assert counter.get_total_flops() == muon_operations(model)


# --- one rate for every width -----------------------------------------------------------------------------------------

WIDTHS = (32, 64, 128, 256)
IDS = torch.randint(64, (4, 17), generator=torch.Generator().manual_seed(0))


def change_in_one_step(width: int, base_width: int | None, optimizer: str) -> tuple[list[float], list[float]]:
    """Root mean square of what each block and the head give at the start, and of how a step changes it."""
    set_seed(width)
    model = LanguageModel(ModelConfig(64, width, 2, width // 16, d_ff=8 * width // 3 // 8 * 8, max_length=16))
    if base_width:
        initialize_mup_(model, base_width)
    optimizers = mup_optimizers(model, optimizer, 4e-3, base_width or width)
    before = activations(model, IDS[:, :-1])
    F.cross_entropy(model(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten()).backward()
    for some in optimizers:
        some.step()
    after = activations(model, IDS[:, :-1])
    rms = [x.square().mean().sqrt().item() for x in before]
    return rms, [(b - a).square().mean().sqrt().item() for a, b in zip(before, after, strict=True)]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_changes_activations_alike_at_every_width(optimizer):
    changes = np.array([change_in_one_step(width, 32, optimizer)[1] for width in WIDTHS])
    assert (changes.max(axis=0) / changes.min(axis=0) < 2.0).all(), changes


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_in_the_ordinary_parametrisation_the_change_grows(optimizer):
    changes = np.array([change_in_one_step(width, None, optimizer)[1] for width in WIDTHS])
    assert (changes[-1, :2] > 3 * changes[0, :2]).all() and (np.diff(changes[:, 0]) > 0).all(), changes


def test_at_the_base_width_both_parametrisations_are_the_same():
    assert change_in_one_step(32, 32, "adamw") == change_in_one_step(32, None, "adamw")


def test_factors_by_kind_of_tensor():
    config = {"n_tokens": 64, "d_model": 64, "n_layers": 1, "n_heads": 4, "d_ff": 64, "norm": "layer", "bias": True}
    model = LanguageModel(ModelConfig(**config, positions="learned", tied=False))
    factors = mup_factors(model, 16)
    assert factors["embedding.weight"] == factors["positions.weight"] == factors["head.weight"] == 1
    assert factors["blocks.0.attention.qkv_proj.weight"] == factors["norm.weight"] == factors["norm.bias"] == 1 / 4
    assert factors["blocks.0.norm1.weight"] == factors["blocks.0.attention.qkv_proj.bias"] == 1
    assert mup_factors(model, 16, "muon")["blocks.0.attention.qkv_proj.weight"] == 1 / 2


# --- small trainings --------------------------------------------------------------------------------------------------

SOURCE = Source("toy", Path(), 256, 16, torch.device("cpu"), "off")
TINY = {"n_tokens": 256, "d_model": 16, "n_layers": 1, "n_heads": 1, "d_ff": 40, "max_length": 16}


def test_a_pass_has_each_window_once():
    data = windows(torch.arange(161), 16)
    assert data.shape == (10, 17) and (data[1:, 0] == data[:-1, -1]).all()
    stream = batches(data, 5, seed=0)
    first, second = (torch.cat([next(stream), next(stream)]) for _ in range(2))
    assert sorted(first[:, 0].tolist()) == sorted(second[:, 0].tolist()) == data[:, 0].tolist()
    assert not torch.equal(first, second)
    with pytest.raises(UserError, match="too few"):
        next(batches(data, 11, seed=0))


def test_what_chooses_is_neither_learned_nor_reported():
    lines = [set(bytes(part.tolist()).split(b"\n")) - {b""} for part in load_stream("toy", Path(), 256)[:3]]
    assert all(lines) and not lines[0] & lines[1] and not lines[0] & lines[2] and not lines[1] & lines[2]
    setting = Setting(TINY, 2e-2, 16 * 8, 8, seed=0)
    assert train(setting, SOURCE)["loss"] != train(setting._replace(split="validation"), SOURCE)["loss"]


def test_a_small_training_says_what_it_costs():
    setting = Setting(TINY, 2e-2, 16 * 8 * 3, 8, seed=0)
    model = LanguageModel(ModelConfig(**TINY))
    work = training_operations(model, 16) * 16 * 8
    assert train(setting, SOURCE)["operations"] == 3 * work
    assert step_operations(setting._replace(optimizer="muon"), 16) == work + muon_operations(model)


def test_a_small_training_learns_and_is_repeated_exactly():
    setting = Setting(TINY, 2e-2, 16 * 8 * 60, 8, seed=0)
    row, again = (train(setting, SOURCE) for _ in range(2))
    assert row["loss"] == again["loss"] and row["steps"] == 60
    assert row["bits_per_byte"] == pytest.approx(row["loss"] / np.log(2))
    assert row["loss"] < 3.2 < train(setting._replace(n_tokens=16 * 8), SOURCE)["loss"]


def test_trainings_are_resumed_and_not_repeated(tmp_path, monkeypatch):
    settings = [Setting(TINY, lr, 16 * 4 * 2, 4, seed=0) for lr in (1e-3, 2e-3, 1e-3)]
    rows = Trainings(SOURCE, tmp_path / "state.pth", {}, 1, resume=False)(settings)
    assert rows[0] == rows[2] != rows[1]
    again = Trainings(
        SOURCE, tmp_path / "state.pth", {"processes": 2}, 2, resume=True
    )  # as many at a time as one likes
    monkeypatch.setattr(Trainings, "run", lambda self, missing: iter(missing))  # a training would be no pair
    assert again(settings) == rows


def test_two_processes_give_the_same_rows(tmp_path):
    settings = [Setting(TINY, lr, 16 * 4 * 2, 4, seed=0) for lr in (1e-3, 2e-3)]
    alone, together = (Trainings(SOURCE, tmp_path / f"{n}.pth", {}, n, resume=False)(settings) for n in (1, 2))
    for a, b in zip(alone, together, strict=True):
        assert a["loss"] == b["loss"] and a["setting"] == b["setting"]
