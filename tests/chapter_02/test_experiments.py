"""Chapter 2's experiments with linear models and with approximation measure what they say they measure.
第 2 章关于线性模型与逼近能力的实验，测的正是它们声称的东西。
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chapter_02_nn_basics_mlp import linear_demo, universal_approximation
from chapter_02_nn_basics_mlp import linear_models as lm
from chapter_02_nn_basics_mlp.constructive import count_linear_regions, squaring
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from tests.conftest import ROOT
from utils.errors import UserError

RESULTS = ROOT / "chapter_02_nn_basics_mlp" / "results"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


# --- linear_demo ------------------------------------------------------------------------------------------------------


def test_three_solvers_find_one_rent():
    final = linear_demo.rents(steps=400)
    assert final["rent_normal_minus_qr"] < 1e-9 and final["rent_descent_minus_qr"] < 1e-9
    assert final["rent_descent_steps"] < 400
    assert final["rent"]["qr"] == pytest.approx([12, -2, -25, 300], rel=0.1)
    assert abs(final["rent"]["descent_unscaled"][-1]) < 5  # the bias has hardly moved from 0


def test_each_closed_form_loses_the_digits_that_its_condition_number_says(tmp_path):
    final = linear_demo.polynomials(tmp_path / "linear.png")
    for row in final["polynomial"][:11]:
        assert row["qr_error"] < 1e-14 + 2.2e-16 * row["condition"]
        assert row["normal_error"] < 1e-14 + 2.2e-16 * row["condition"] ** 2
    assert final["polynomial"][11]["normal_error"] > 1e6 * final["polynomial"][11]["qr_error"]
    assert final["ridge_error_chosen"] < min(final["ridge_error_none"], final["ridge_error_strongest"])


def test_newton_needs_few_steps_where_descent_needs_thousands(tmp_path):
    final = linear_demo.two_classes(1000, tmp_path / "logistic.png")
    assert final["logistic_newton_steps"] < 10 < final["logistic_descent_scaled_steps"] < 1000
    assert final["logistic_descent_steps"] is None  # a thousand steps are not enough
    gaps = final["logistic_newton_gaps"]
    assert gaps[5] < 20 * gaps[4] ** 2  # near the end each step squares the distance
    final = linear_demo.three_classes(4000, tmp_path / "softmax.png")
    assert final["softmax_difference"] < 1e-6
    assert final["clusters_accuracy"] > 0.9 and final["spirals_accuracy"] == pytest.approx(1 / 3, abs=0.05)


def test_standardised_columns_remember_what_they_were():
    x = torch.randn(50, 3, dtype=torch.float64) * torch.tensor([1.0, 100, 0.01]) + 7
    z, mean, std = linear_demo.standardise(x)
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(z.std(dim=0), torch.ones(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(z * std + mean, x)


def test_steps_until_counts_steps():
    assert linear_demo.steps_until([3.0, 2.0, 1.0, 0.5], threshold=1.0) == 2
    assert linear_demo.steps_until([3.0, 2.0], threshold=1.0) is None


def test_batch_descent_ends_where_newton_does(tmp_path, monkeypatch):
    y = torch.arange(200) % 3
    x = torch.randn(200, 784)
    x[:, 2:] = 0  # pictures of which two pixels matter
    x[:, :2] += torch.tensor([[-1.0, 0], [1, 0], [0, 1]])[y]
    monkeypatch.setattr(linear_demo, "pictures", lambda *a, **k: ((x, y), (x, y), ["a", "b", "c"]))
    args = SimpleNamespace(dataset="", split="test", data_root=tmp_path, out_dir=tmp_path, device=torch.device("cpu"))
    args.epochs, args.batch_size, args.lr, args.l2 = 400, 200, 0.5, 1e-3
    final, history = linear_demo.learn(linear_demo.pictures("shapes", "test", None, 2000), args)
    _, best = lm.softmax_newton(x[:, :2].double(), y, n_classes=3, l2=1e-3)
    assert history[-1]["train_loss"] == pytest.approx(best[-1], abs=2e-3)  # the loss of the history has no penalty
    assert final["softmax_test_count"] == 200 and final["softmax_test_accuracy"] == final["softmax_train_accuracy"]
    assert (tmp_path / "templates.png").stat().st_size < 300_000


def test_fashion_mnist_that_cannot_be_had_is_a_users_mistake(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("utils.file_io_util.urlopen", no_network)
    with pytest.raises(UserError, match="no network"):
        linear_demo.main(["--steps", "5", "--data_root", str(tmp_path / "none"), "--out_dir", str(tmp_path)])


# --- universal_approximation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", range(1, 13))
def test_each_layer_divides_the_error_of_the_square_by_four(depth):
    network = squaring(depth)
    x = torch.linspace(0, 1, 2**13 + 1, dtype=torch.float64)[:, None]  # has the middle of every piece
    assert universal_approximation.distance(network, x, x**2) == pytest.approx(4.0 ** -(depth + 1), rel=1e-6)
    assert count_linear_regions(network, 0.0, 1.0) == 2**depth
    assert sum(p.numel() for p in network.parameters()) == 12 * depth - 2


def test_equal_parameters_are_counted_right():
    for row in universal_approximation.square_table(6):
        wide = MLP(MLPConfig(d_hidden=row["units"], n_hidden=1))
        assert row["parameters"] - 3 < sum(p.numel() for p in wide.parameters()) <= row["parameters"]
        assert row["wide"] == pytest.approx(1 / (4 * row["units"] ** 2), rel=1e-6)


def test_a_slope_is_a_power():
    assert universal_approximation.slope([4, 8, 32], [3 * n**-1.5 for n in (4, 8, 32)]) == pytest.approx(-1.5, abs=1e-9)


def test_the_learning_rate_that_fits_best_is_taken():
    x = torch.linspace(-1, 1, 21)[:, None]
    args = SimpleNamespace(
        lr=[1e-6, 3e-2], runs=2, seed=0, steps=200, device=torch.device("cpu"), initialization="pytorch"
    )
    bar = SimpleNamespace(update=lambda: None)
    lr, networks = universal_approximation.train_seeds(MLPConfig(d_hidden=16, n_hidden=1), x, x**2, args, bar)
    assert lr == 3e-2 and len(networks) == 2
    assert all(universal_approximation.distance(n, x.double(), x.double() ** 2, square=True) < 0.05 for n in networks)
    assert not torch.equal(*(n.head.weight for n in networks))


def test_a_small_run_writes_the_table(tmp_path):
    flags = "--widths 16 32 64 --depths 1 3 --parameters 100 --max_depth 5 --steps 5 --runs 2 --lr 0.01 --device cpu"
    universal_approximation.main([*flags.split(), "--out_dir", str(tmp_path)])
    results = read(tmp_path / "universal_approximation.json")
    final = results["final"]
    assert final["constructive_slope"] == pytest.approx(-2, abs=0.1)
    assert final["sawtooth_regions"] == [2, 4, 8, 16, 32] and final["sawtooth_doubles"] is True
    assert all(95 < row["parameters"] < 110 for row in final["depth_table"])
    for row in final["depth_table"]:
        network = MLP(MLPConfig(d_in=2, d_hidden=row["width"], n_hidden=row["depth"]))
        assert sum(p.numel() for p in network.parameters()) == row["parameters"]
    slopes = [row["trained_slope"] for row in results["per_seed"]]
    assert len(slopes) == 2 and final["trained_slope"] == pytest.approx(np.mean(slopes))
    assert all(path.stat().st_size < 300_000 for path in tmp_path.glob("*.png"))


# --- what ships -------------------------------------------------------------------------------------------------------


def test_the_shipped_figures_hold():
    final = read(RESULTS / "universal_approximation.json")["final"]
    assert final["constructive_slope"] == pytest.approx(-2, abs=0.1)
    assert final["sawtooth_regions"] == [2**depth for depth in range(1, 13)]
    assert final["trained_slope"] > -1.5 and final["polished_slope"] == pytest.approx(-2, abs=0.1)
    final = read(RESULTS / "linear_demo.json")["final"]
    assert final["logistic_difference"] < 1e-6 and final["softmax_difference"] < 1e-6
    assert final["softmax_test_accuracy"] > 0.84 and final["softmax_test_count"] == 10_000
