"""Chapter 2: activations, losses, initialisers, the network and its hand-written gradients equal PyTorch's.
第 2 章：激活函数、损失、初始化、网络及手写梯度与 PyTorch 一致。
"""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chapter_02_nn_basics_mlp import initialization, linear_models, losses, manual_backprop, measures
from chapter_02_nn_basics_mlp.activations import ACTIVATIONS, ELU, GELU, LeakyReLU, ReLU, Sigmoid, Snake, Tanh
from chapter_02_nn_basics_mlp.initialization import INITIALIZERS
from chapter_02_nn_basics_mlp.network import MLP, Linear, MLPConfig, build

EXTREMES = [-1000.0, -100.0, -30.0, -1e-4, 0.0, 1e-4, 30.0, 100.0, 1000.0]
REFERENCES = {
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(),
    "elu": nn.ELU(),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "softplus": nn.Softplus(threshold=40),  # from the threshold on PyTorch returns x, 2e-9 short at its usual 20
    "snake": lambda x: x + x.sin() ** 2,
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def same(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def value_and_gradient(function, x):
    x = x.detach().clone().requires_grad_()
    y = function(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), gradient


# --- activations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-6)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_and_its_derivative_equal_pytorchs(name, dtype, tolerance):
    x = torch.cat([torch.tensor(EXTREMES, dtype=dtype), 3 * torch.randn(1000, dtype=dtype)])
    activation = ACTIVATIONS[name]().to(dtype)
    value, gradient = value_and_gradient(activation, x)
    expected_value, expected_gradient = value_and_gradient(REFERENCES[name], x)
    same(value, expected_value, tolerance)
    same(gradient, expected_gradient, tolerance)
    same(activation.derivative(x).detach(), expected_gradient, tolerance)


@pytest.mark.parametrize("activation", [LeakyReLU(0.3), ELU(2.5)], ids=["leaky_relu", "elu"])
def test_parameters_of_activations_mean_what_pytorchs_mean(activation):
    reference = nn.LeakyReLU(0.3) if isinstance(activation, LeakyReLU) else nn.ELU(2.5)
    x = double(100)
    for mine, theirs in zip(value_and_gradient(activation, x), value_and_gradient(reference, x), strict=True):
        same(mine, theirs)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_can_be_differentiated_twice_and_vectorised(name):
    activation = ACTIVATIONS[name]().double()
    x = double(5).requires_grad_()
    assert torch.autograd.gradcheck(activation, x) and torch.autograd.gradgradcheck(activation, x)
    per_element = torch.func.vmap(torch.func.grad(activation))(x.detach())
    same(per_element, activation.derivative(x).detach())


def test_snake_learns_its_frequency_only_if_told_to():
    assert Snake(learnable=True).a.requires_grad and not Snake(learnable=False).a.requires_grad
    snake, x = Snake(1.7).double(), double(50)
    (gradient,) = torch.autograd.grad(snake(x).sum(), snake.a)
    a = snake.a.detach()
    same(gradient, (x * (2 * a * x).sin() / a - (a * x).sin() ** 2 / a**2).sum())


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (7, 3)])
@pytest.mark.parametrize(
    "mine, theirs",
    [
        (losses.mse, F.mse_loss),
        (losses.mae, F.l1_loss),
        (losses.huber, F.huber_loss),
        (lambda p, t: losses.huber(p, t, 0.3), lambda p, t: F.huber_loss(p, t, delta=0.3)),
    ],
    ids=["mse", "mae", "huber", "huber 0.3"],
)
def test_a_regression_loss_equals_pytorchs(mine, theirs, shape):
    prediction, target = 2 * double(*shape), double(*shape)
    prediction[0] = target[0]  # where the absolute value has its kink
    for a, b in zip(
        value_and_gradient(lambda p: mine(p, target), prediction),
        value_and_gradient(lambda p: theirs(p, target), prediction),
        strict=True,
    ):
        same(a, b)


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-6)], ids=["float64", "float32"]
)
def test_binary_cross_entropy_equals_pytorchs_at_any_logit(dtype, tolerance):
    logits = torch.tensor(EXTREMES, dtype=dtype)
    for target in (0.0, 0.25, 1.0):
        t = torch.full_like(logits, target)
        mine = value_and_gradient(lambda z, t=t: losses.binary_cross_entropy_with_logits(z, t), logits)
        theirs = value_and_gradient(lambda z, t=t: F.binary_cross_entropy_with_logits(z, t), logits)
        for a, b in zip(mine, theirs, strict=True):
            same(a, b, tolerance)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("batch, classes", [(1, 2), (7, 5), (3, 1)])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_equals_pytorchs(batch, classes, label_smoothing, scale):
    logits, target = scale * double(batch, classes), torch.randint(classes, (batch,))
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        mine = value_and_gradient(lambda z: losses.cross_entropy(z, target, label_smoothing), logits.to(dtype))
        theirs = value_and_gradient(
            lambda z: F.cross_entropy(z, target, label_smoothing=label_smoothing), logits.to(dtype)
        )
        for a, b in zip(mine, theirs, strict=True):
            same(a, b, tolerance)


N_TARGETS = {"(N, 1)": (6, 1), "(1, N)": (1, 6), "(1,)": (1,), "one-hot": (6, 4)}


@pytest.mark.parametrize("shape", N_TARGETS.values(), ids=N_TARGETS)
def test_labels_that_would_broadcast_are_refused_with_both_shapes(shape):
    logits, labels = double(6, 4), torch.zeros(shape, dtype=torch.int64)
    for function in (
        losses.cross_entropy,
        lambda z, y: losses.cross_entropy(z, y, label_smoothing=0.1),
        manual_backprop.cross_entropy_loss,
        measures.accuracy,
    ):
        with pytest.raises(ValueError, match=re.escape(f"{(6, 4)}")) as error:
            function(logits, labels)
        assert str(tuple(shape)) in str(error.value)


@pytest.mark.parametrize("labels", [[0, 1, 4], [-1, 0, 1]])
def test_labels_out_of_range_are_refused(labels):
    with pytest.raises(ValueError, match="4 classes"):
        losses.cross_entropy(double(3, 4), torch.tensor(labels))
    with pytest.raises(ValueError, match="whole numbers"):
        losses.cross_entropy(double(3, 4), torch.zeros(3))


@pytest.mark.parametrize("shape", N_TARGETS.values(), ids=N_TARGETS)
def test_targets_that_would_broadcast_are_refused_with_both_shapes(shape):
    x, prediction, target = double(6, 2), double(6), torch.zeros(shape, dtype=torch.float64)
    for function in (
        losses.mse,
        losses.mae,
        losses.huber,
        losses.binary_cross_entropy_with_logits,
        manual_backprop.mse_loss,
        measures.rmse,
        lambda _, y: linear_models.linear_normal_equations(x, y),
        lambda _, y: linear_models.linear_qr(x, y),
        lambda _, y: linear_models.ridge(x, y, penalty=1.0),
        lambda _, y: linear_models.linear_gradient_descent(x, y, steps=1),
        lambda _, y: linear_models.logistic_gradient_descent(x, y, steps=1),
        lambda _, y: linear_models.logistic_newton(x, y),
    ):
        with pytest.raises(ValueError, match=re.escape("(6,)")) as error:
            function(prediction, target)
        assert str(tuple(shape)) in str(error.value)


# --- initialisers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(300, 500), (64, 32, 3, 5)], ids=["linear", "convolution"])
def test_initialisers_have_the_moments_of_theory(shape):
    fan_in, fan_out = initialization.fans(torch.empty(shape))
    assert (fan_in, fan_out) == nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    cases = [
        (initialization.xavier_normal_, {"gain": 1.5}, 1.5**2 * 2 / (fan_in + fan_out)),
        (initialization.xavier_uniform_, {"gain": 1.5}, 1.5**2 * 2 / (fan_in + fan_out)),
        (initialization.kaiming_normal_, {}, 2 / fan_in),
        (initialization.kaiming_normal_, {"mode": "fan_out"}, 2 / fan_out),
        (initialization.kaiming_uniform_, {"gain": 1.0}, 1 / fan_in),
    ]
    for initialize_, arguments, variance in cases:
        weight = torch.empty(shape, dtype=torch.float64)
        assert initialize_(weight, **arguments) is weight
        uniform = "uniform" in initialize_.__name__
        n, kurtosis = weight.numel(), 1.8 if uniform else 3.0
        assert abs(weight.mean()) < 5 * math.sqrt(variance / n)  # five standard errors of each moment
        assert abs(weight.var() / variance - 1) < 5 * math.sqrt((kurtosis - 1) / n)
        assert abs((weight**4).mean() / variance**2 - kurtosis) < 0.15
        assert not uniform or 0.999 < weight.abs().max() / math.sqrt(3 * variance) <= 1


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("shape", [(40, 40), (17, 60), (60, 17), (8, 3, 3, 3), (1, 1)])
def test_orthogonal_rows_or_columns(shape, dtype, tolerance):
    weight = initialization.orthogonal_(torch.empty(shape, dtype=dtype), gain=2.0).flatten(1) / 2
    gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=dtype), rtol=0, atol=tolerance)


def test_orthogonal_matrices_favour_no_sign():
    corners = torch.stack([initialization.orthogonal_(torch.empty(3, 3))[0, 0] for _ in range(2000)])
    assert abs(corners.mean()) < 5 * math.sqrt(
        1 / 3 / 2000
    )  # an entry has variance 1/3; without the signs the mean is < 0


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_lsuv_gives_every_layer_unit_variance_on_the_batch(activation):
    model = MLP(MLPConfig(d_in=9, d_hidden=40, n_hidden=6, d_out=5, activation=activation)).double()
    x = 3 + 10 * double(64, 9)
    initialization.lsuv_(model, x)
    for layer in model.hidden:
        same(layer.linear(x).var(), torch.tensor(1.0, dtype=torch.float64))
        x = layer(x)
    same(model.head(x).var(), torch.tensor(1.0, dtype=torch.float64))


def test_gains_hold_the_variance_through_thirty_layers():
    assert initialization.calculate_gain(ReLU()) == pytest.approx(math.sqrt(2), abs=1e-7)
    assert initialization.calculate_gain(lambda z: z) == pytest.approx(1, abs=1e-9)
    for activation in (ReLU(), Tanh(), GELU(), Sigmoid()):
        gain = initialization.calculate_gain(activation)
        assert initialization.predicted_variances(activation, gain, depth=30) == pytest.approx([1] * 30, abs=1e-4)
    halved = initialization.predicted_variances(ReLU(), gain=1.0, depth=10)
    assert halved == pytest.approx([0.5**i for i in range(10)], rel=1e-6)  # Xavier's gain loses half a layer


def test_predicted_variances_are_those_of_a_wide_network():
    width, gain, depth = 2000, 1.0, 6
    predicted = initialization.predicted_variances(Tanh(), gain, depth)
    z = torch.randn(20, width)
    for variance in predicted:
        assert z.var().item() == pytest.approx(variance, rel=0.1)
        z = torch.tanh(z) @ initialization.kaiming_normal_(torch.empty(width, width), gain).T


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 3), (5, 3), (2, 4, 3)])
def test_linear_equals_pytorchs(shape, bias):
    mine, theirs, x = Linear(3, 7, bias).double(), nn.Linear(3, 7, bias).double(), double(*shape)
    mine.load_state_dict(theirs.state_dict())
    for a, b in zip(value_and_gradient(mine, x), value_and_gradient(theirs, x), strict=True):
        same(a, b)
    (mine(x) ** 2).sum().backward()
    (theirs(x) ** 2).sum().backward()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        same(a.grad, b.grad)


def test_linear_starts_where_pytorchs_starts():
    torch.manual_seed(3)
    mine = Linear(30, 20)
    torch.manual_seed(3)
    theirs = nn.Linear(30, 20)
    torch.testing.assert_close(mine.weight, theirs.weight)
    torch.testing.assert_close(mine.bias, theirs.bias)


@pytest.mark.parametrize("initialization", ["pytorch", *INITIALIZERS])
@pytest.mark.parametrize("n_hidden", [0, 1, 3])
def test_the_network_equals_its_formula(n_hidden, initialization):
    config = MLPConfig(d_in=3, d_hidden=8, n_hidden=n_hidden, d_out=2, activation="tanh", initialization=initialization)
    model = build(vars(config)).double()
    x = double(5, 3)
    a = x
    for layer in model.hidden:
        a = torch.tanh(F.linear(a, layer.linear.weight, layer.linear.bias))
    same(model.features(x), a)
    same(model(x), F.linear(a, model.head.weight, model.head.bias))


def test_batch_norm_and_dropout_are_there_when_asked_for():
    model = MLP(MLPConfig(d_in=3, d_hidden=500, n_hidden=1, batch_norm=True, dropout=0.4))
    features = model.features(torch.randn(50, 3))
    assert (features == 0).float().mean() == pytest.approx(1 - 0.5 * 0.6, abs=0.02)  # ReLU's half, dropout's 0.4
    model.eval()
    assert torch.equal(model(torch.ones(2, 3)), model(torch.ones(2, 3)))


def test_a_small_network_learns_xor():
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.tensor([0, 1, 1, 0])
    model = MLP(MLPConfig(d_in=2, d_hidden=8, n_hidden=1, d_out=2, activation="tanh"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        losses.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert losses.cross_entropy(model(x), y) < 0.02


# --- backpropagation by hand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n_hidden, batch", [(0, 4), (1, 1), (2, 7), (5, 3)])
@pytest.mark.parametrize("head", ["cross_entropy", "mse"])
def test_gradients_by_hand_equal_autograd(head, n_hidden, batch, activation):
    config = MLPConfig(d_in=3, d_hidden=11, n_hidden=n_hidden, d_out=4, activation=activation)
    model = MLP(config).double()
    x = double(batch, 3)
    if head == "mse":
        target, loss, by_hand = double(batch, 4), F.mse_loss, manual_backprop.mse_loss
    else:
        target, loss, by_hand = torch.randint(4, (batch,)), F.cross_entropy, manual_backprop.cross_entropy_loss
    expected = loss(model(x), target)
    expected.backward()

    layers = [(layer.weight, layer.bias) for layer in [*(hidden.linear for hidden in model.hidden), model.head]]
    value, gradients = manual_backprop.loss_and_gradients(
        layers, x, target, ACTIVATIONS[activation]().double(), by_hand
    )
    same(value, expected.detach())
    for (weight, bias), (d_weight, d_bias) in zip(layers, gradients, strict=True):
        torch.testing.assert_close(d_weight, weight.grad, rtol=0, atol=1e-12)
        torch.testing.assert_close(d_bias, bias.grad, rtol=0, atol=1e-12)
