"""Chapter 2: linear models agree with each other, constructed networks with their proofs, data with its files.
第 2 章：线性模型彼此一致，构造的网络符合证明，数据与文件一致。
"""

import math

import pytest
import torch

from chapter_02_nn_basics_mlp import dataset, draw_data
from chapter_02_nn_basics_mlp import linear_models as lm
from chapter_02_nn_basics_mlp.constructive import breakpoints, count_linear_regions, interpolate, sawtooth
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from utils.errors import UserError


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def same(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# --- linear models ----------------------------------------------------------------------------------------------------


def regression(count=60, d=4):
    x = double(count, d) * torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64) + 1
    return x, x @ double(d) - 2 + 0.3 * double(count)


def two_classes():
    """Overlapping classes: no plane separates them."""
    x = double(200, 3) * torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64) + 0.5
    return x, (x @ double(3) + 1.5 * double(200) > 0).double()


def three_classes():
    """Overlapping too."""
    y = torch.arange(150) % 3
    return 0.7 * double(3, 2)[y] + double(150, 2), y


def test_three_ways_to_the_least_squares_solution():
    x, y = regression()
    expected = torch.linalg.lstsq(lm.with_bias(x), y[:, None]).solution[:, 0]
    same(lm.linear_normal_equations(x, y), expected, 1e-11)
    same(lm.linear_qr(x, y), expected, 1e-12)
    w, history = lm.linear_gradient_descent(x, y, steps=3000)
    same(w, expected, 1e-10)
    assert all(b <= a + 1e-15 for a, b in zip(history, history[1:], strict=False))
    same(lm.predict(x, w), x @ w[:-1] + w[-1], 1e-12)


def test_qr_keeps_digits_that_the_normal_equations_lose():
    t = torch.linspace(0, 1, 50, dtype=torch.float64)
    x = torch.stack([t**k for k in range(1, 10)], dim=1)  # condition number 4e6 with the ones; its square 1e13
    w = torch.ones(10, dtype=torch.float64)
    y = lm.with_bias(x) @ w
    assert (lm.linear_qr(x, y) - w).abs().max() < 1e-8
    assert (lm.linear_normal_equations(x, y) - w).abs().max() > 1e-6


def test_ridge_shrinks_the_weights_but_not_the_bias():
    x, y = regression()
    w = lm.ridge(x, y, penalty=5.0)
    centred, shifted = x - x.mean(dim=0), y - y.mean()  # centring takes the bias out of the problem
    alone = torch.linalg.solve(centred.T @ centred + 5 * torch.eye(4, dtype=torch.float64), centred.T @ shifted)
    same(w[:-1], alone, 1e-12)
    same(w[-1], y.mean() - x.mean(dim=0) @ alone, 1e-12)
    huge = lm.ridge(x, y, penalty=1e12)
    assert huge[:-1].abs().max() < 1e-8
    same(huge[-1], y.mean(), 1e-8)


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_newtons_logistic_optimum_is_descents(l2):
    x, y = two_classes()
    newton, history = lm.logistic_newton(x, y, l2=l2)
    descent, long_history = lm.logistic_gradient_descent(x, y, steps=5000, l2=l2)
    assert (newton - descent).abs().max() < 1e-6
    assert len(history) < 12 and history[-1] <= long_history[-1] + 1e-15
    assert all(b <= a + 1e-15 for a, b in zip(long_history, long_history[1:], strict=False))

    w = newton.clone().requires_grad_()  # the optimum by autograd and PyTorch's loss, not by this module's formulas
    logits = x @ w[:-1] + w[-1]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y) + l2 / 2 * (w[:-1] ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, w)
    assert gradient.norm() < 1e-10
    if l2 == 0:  # at the optimum the mean probability is the share of ones
        same(logits.sigmoid().mean().detach(), y.mean(), 1e-12)


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_newtons_softmax_optimum_is_descents(l2):
    x, y = three_classes()
    newton, history = lm.softmax_newton(x, y, n_classes=3, l2=l2)
    descent, _ = lm.softmax_gradient_descent(x, y, n_classes=3, steps=5000, l2=l2)
    assert (newton - descent).abs().max() < 1e-6
    assert len(history) < 12
    same(newton.sum(dim=1), torch.zeros(3, dtype=torch.float64), 1e-10)

    w = newton.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(x @ w[:-1] + w[-1], y) + l2 / 2 * (w[:-1] ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, w)
    assert gradient.norm() < 1e-10


def test_softmax_with_two_classes_is_logistic_regression():
    x, y = two_classes()
    logistic, _ = lm.logistic_newton(x, y)
    softmax, _ = lm.softmax_newton(x, y.long(), n_classes=2)
    same(softmax[:, 1] - softmax[:, 0], logistic, 1e-9)


def test_newton_survives_outliers_and_separable_classes():
    x = torch.tensor([[-50.0], [-1.0], [0.0], [1.0], [60.0], [0.5]], dtype=torch.float64)
    w, history = lm.logistic_newton(x, torch.tensor([0.0, 0, 0, 1, 1, 1], dtype=torch.float64))  # separable
    assert w.isfinite().all() and history[-1] < 1e-6
    w, history = lm.logistic_newton(x, torch.tensor([0.0, 1, 0, 1, 1, 0], dtype=torch.float64))
    assert all(b <= a + 1e-15 for a, b in zip(history, history[1:], strict=False))


# --- constructed networks ---------------------------------------------------------------------------------------------


def wave(x):
    return torch.sin(3 * x) + x**2


def test_interpolation_is_exact_at_the_knots_and_straight_between():
    knots = torch.rand(40, dtype=torch.float64).sort().values
    network = interpolate(wave, knots)
    assert (network(knots[:, None])[:, 0] - wave(knots)).abs().max() < 1e-12
    middles = (knots[1:] + knots[:-1]) / 2
    same(network(middles[:, None])[:, 0].detach(), (wave(knots[1:]) + wave(knots[:-1])) / 2, 1e-12)
    assert count_linear_regions(network, knots[0].item(), knots[-1].item()) == 39


def test_the_error_falls_with_the_square_of_the_width():
    x = torch.linspace(0, 2, 20001, dtype=torch.float64)
    counts = [17, 33, 65, 129, 257]
    errors = []
    for n in counts:
        network = interpolate(wave, torch.linspace(0, 2, n, dtype=torch.float64))
        errors.append((network(x[:, None])[:, 0] - wave(x)).abs().max().item())
        assert errors[-1] <= 11 / 8 * (2 / (n - 1)) ** 2  # |f''| = |2 - 9 sin 3x| is at most 11
    slope = math.log(errors[-1] / errors[0]) / math.log(counts[-1] / counts[0])
    assert slope == pytest.approx(-2, abs=0.1)


@pytest.mark.parametrize("depth", range(1, 13))
def test_each_layer_of_the_sawtooth_doubles_its_pieces(depth):
    network = sawtooth(depth)
    assert count_linear_regions(network, 0.0, 1.0) == 2**depth
    corners = torch.arange(2**depth + 1, dtype=torch.float64) / 2**depth
    expected = torch.arange(2**depth + 1) % 2  # up and down between 0 and 1, exactly
    assert torch.equal(network(corners[:, None])[:, 0], expected.double())
    assert torch.equal(breakpoints(network, 0.0, 1.0), corners)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_counting_by_breakpoints_agrees_with_counting_by_samples(activation):
    network = MLP(MLPConfig(d_in=1, d_hidden=12, n_hidden=3, activation=activation))
    exact = count_linear_regions(network, -3.0, 3.0)
    x = torch.linspace(-3, 3, 200_001, dtype=torch.float64)[:, None]
    y = network.double()(x)[:, 0]
    bends = y.diff(n=2).abs() > 1e-12  # a bend shows in one second difference, or in two beside each other
    sampled = 1 + ((~bends[:-1]) & bends[1:]).sum().item()
    assert exact == sampled > 5


def test_random_networks_stop_bending_because_the_signal_shrinks():
    """PyTorch's start divides the variance by 6 in each layer; undone, each layer adds about a piece a unit."""
    network = MLP(MLPConfig(d_in=1, d_hidden=16, n_hidden=12))
    shrinking = count_linear_regions(network, -3.0, 3.0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.shape == (16, 16):
                parameter.mul_(6**0.5)
    steady = count_linear_regions(network, -3.0, 3.0)
    assert shrinking < 12 * 16 / 3
    assert 12 * 16 / 2 < steady < 12 * 16 * 2


def test_a_switch_that_the_output_does_not_feel_makes_no_piece():
    network = sawtooth(1)
    network.head.weight.data[0, 1] = 0
    assert len(breakpoints(network, -1.0, 1.0)) == 4  # -1, 0, 1/2, 1
    assert count_linear_regions(network, -1.0, 1.0) == 2


def test_smooth_networks_have_no_pieces_to_count():
    with pytest.raises(ValueError, match="ReLU"):
        count_linear_regions(MLP(MLPConfig(activation="tanh")), 0.0, 1.0)


# --- data -------------------------------------------------------------------------------------------------------------


def test_drawn_points_lie_where_they_should():
    x, y = dataset.curve(500, noise=0.0)
    assert x.shape == y.shape == (500, 1) and 2.8 < x.abs().max() <= 3
    assert torch.equal(y, dataset.curve_target(x))
    x, y = dataset.surface(4000)
    assert x.shape == (4000, 2) and y.shape == (4000, 1)
    assert (y - dataset.surface_target(x)).std().item() == pytest.approx(0.05, rel=0.06)
    inside, outside = dataset.periodic(500)[0], dataset.periodic(500, outside=True)[0]
    assert inside.abs().max() <= 6 <= outside.abs().min() and 11.8 < outside.abs().max() <= 12
    assert (outside < 0).any() and (outside > 0).any()
    torch.testing.assert_close(dataset.periodic_target(inside + math.pi), dataset.periodic_target(inside))


def test_shipped_data_is_what_the_code_draws(tmp_path):
    draw_data.main(["--out_dir", str(tmp_path)])
    shipped = sorted(p.name for p in dataset.DATA.glob("*.csv"))
    assert shipped == sorted(p.name for p in tmp_path.glob("*.csv")) and len(shipped) == 7
    for name in shipped:
        torch.testing.assert_close(dataset.read_csv(tmp_path / name), dataset.read_csv(dataset.DATA / name))


def test_a_foreign_file_in_place_of_a_shipped_set_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "DATA", tmp_path)
    draw_data.main(["--out_dir", str(tmp_path), "--seed", "1"])  # other points of the right kind are none of ours
    x, y = dataset.load("curve_train")
    assert x.shape == y.shape == (400, 1)
    lines = (tmp_path / "curve_train.csv").read_text().splitlines()
    for changed, message in (
        (lines[:-1], "should hold 400 points"),
        ([*lines[:-1], "7.5,0.1"], "at most 3 from 0"),
        (["x1,x2,y", *(f"{line},0" for line in lines[1:])], "3 numbers where 2 should be"),
    ):
        (tmp_path / "curve_train.csv").write_text("\n".join(changed))
        with pytest.raises(UserError, match=message):
            dataset.load("curve_train")


@pytest.mark.parametrize("name", ["curve", "surface", "periodic"])
def test_no_test_point_is_a_training_point(name):
    (train_x, _), (test_x, _) = dataset.load(f"{name}_train"), dataset.load(f"{name}_test")
    drawn = {tuple(x) for x in train_x.tolist()}
    assert not any(tuple(x) in drawn for x in test_x.tolist())


def test_csv_files_may_have_headers_blanks_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("\ufeffx, y\r\n1, -2.5\r\n\r\n3e2,4\r\n", encoding="utf-8")
    assert dataset.read_csv(path).tolist() == [[1, -2.5], [300, 4]]
    path.write_text("1\n2", encoding="utf-8")
    assert dataset.read_csv(path, columns=1).tolist() == [[1], [2]]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"x,y\n1,2\n3,four\n", "line 3: 'four' is not a finite number"),
        (b"1,two\n", "line 1: 'two'"),
        (b"1,2\n3\n", "line 2: 1 numbers where 2 should be"),
        (b"x,y\n1,nan\n", "line 2: 'nan'"),
        (b"x,y\n1,1e39\n", "line 2: '1e39'"),
        (b"x,y\n1,\n", "line 2: ''"),
        (b"x,y\n", "no numbers"),
        (b"", "no numbers"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "is not a finite number|no numbers"),
    ],
)
def test_a_bad_csv_is_one_clear_line(content, message, tmp_path):
    path = tmp_path / "points.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        dataset.read_csv(path)
    assert "points.csv" in str(error.value) and "\n" not in str(error.value)


def test_a_csv_that_is_not_there_or_of_other_width_is_refused(tmp_path):
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            dataset.read_csv(path)
    with pytest.raises(UserError, match="line 2: 2 numbers where 3 should be"):
        dataset.read_csv(dataset.DATA / "curve_train.csv", columns=3)
