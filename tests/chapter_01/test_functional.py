"""Chapter 1's functional derivatives, layers, optimizers and checkpointing equal PyTorch's.
第 1 章的函数式求导、网络层、优化器与梯度检查点，逐一与 PyTorch 对照。
"""

import numpy as np
import pytest
import torch

from chapter_01_tensor_autograd import nn
from chapter_01_tensor_autograd.dataset import spirals, two_moons
from chapter_01_tensor_autograd.engine import Tensor, grad, ops
from chapter_01_tensor_autograd.engine.checkpointing import checkpoint, checkpoint_sequential
from chapter_01_tensor_autograd.engine.functional_ad import gradcheck, hvp, jacobian, jvp, numerical_jacobian, vjp

RNG = np.random.default_rng(0)
X, Y, V, W = (RNG.standard_normal(shape) for shape in [(3, 4), (4, 2), (3, 4), (4, 2)])


def mix(x, y):
    """A bit of everything, with a value used twice. Works on our tensors and on PyTorch's."""
    h = (x @ y).tanh()
    return h * h.exp() + (x * x).sum() * h.sigmoid()


def torch_of(*arrays):
    return tuple(map(torch.tensor, arrays))


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-11, atol=1e-11)


def test_vjp_and_jvp_equal_pytorchs():
    output, pullback = vjp(mix, X, Y)
    u = RNG.standard_normal(output.shape)
    for ours, theirs in zip(pullback(u), torch.func.vjp(mix, *torch_of(X, Y))[1](torch.tensor(u)), strict=True):
        close(ours.data, theirs)
    output, tangent = jvp(mix, [X, Y], [V, W])
    expected, expected_tangent = torch.func.jvp(mix, torch_of(X, Y), torch_of(V, W))
    close(output.data, expected)
    close(tangent.data, expected_tangent)


def test_vjp_and_jvp_are_each_others_transpose():
    output, tangent = jvp(mix, [X, Y], [V, W])
    u = RNG.standard_normal(output.shape)
    gx, gy = vjp(mix, X, Y)[1](u)
    np.testing.assert_allclose((u * tangent.data).sum(), (gx.data * V).sum() + (gy.data * W).sum(), rtol=1e-12)


def test_the_jvp_of_what_does_not_depend_on_its_input_is_zero():
    assert jvp(lambda x: Tensor(3.0), [X], [V])[1].item() == 0
    assert jvp(lambda x: Tensor(3.0, requires_grad=True) * 2, [X], [V])[1].item() == 0


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("f", [lambda x: x.softmax(-1), lambda x: x.T @ x, lambda x: x.exp().sum()])
def test_jacobians_equal_pytorchs(f, forward):
    close(jacobian(f, X, forward), torch.func.jacrev(f)(torch.tensor(X)))


def test_a_hessian_vector_product_equals_pytorchs():
    def f(x):
        return (x.T @ x.sin()).tanh().sum() + (x**3).sum()

    close(hvp(f, X, V).data, torch.autograd.functional.hvp(f, *torch_of(X, V))[1])


def test_gradcheck_passes_what_is_right_and_catches_what_is_wrong():
    assert gradcheck(mix, X, Y) < 1e-7

    def wrong(x):
        from chapter_01_tensor_autograd.engine import record

        return record("cube", x.data**3, (x, lambda g, _: g * x * x * 3.001))

    with pytest.raises(ArithmeticError, match="the VJP says .* central differences say"):
        gradcheck(wrong, X)


def test_numerical_jacobians_are_good_to_eight_digits():
    exact = jacobian(lambda x: x.softmax(-1), X)
    assert np.abs(numerical_jacobian(lambda x: x.softmax(-1), X, eps=1e-5) - exact).max() < 1e-9


def our_network(depth=2, width=6):
    rng = np.random.default_rng(1)
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width, rng, np.float64), nn.Tanh())]
    return nn.Sequential(nn.Linear(4, width, rng, np.float64), nn.ReLU(), *layers, nn.Linear(width, 3, rng, np.float64))


def same_network_in_torch(ours):
    kinds = {nn.ReLU: torch.nn.ReLU, nn.Tanh: torch.nn.Tanh}
    layers = []
    for layer in ours.layers:
        if isinstance(layer, nn.Linear):
            layers.append(torch.nn.Linear(*layer.weight.shape, dtype=torch.float64))
            layers[-1].weight.data = torch.tensor(layer.weight.data.T.copy())
            layers[-1].bias.data = torch.tensor(layer.bias.data)
        else:
            layers.append(kinds[type(layer)]())
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (lambda p: nn.SGD(p, 0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        (lambda p: nn.SGD(p, 0.1, momentum=0.0), lambda p: torch.optim.SGD(p, 0.1)),
        (lambda p: nn.Adam(p, 0.01, weight_decay=0.1), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
    ],
)
def test_fifty_training_steps_equal_pytorchs(ours, theirs):
    network = our_network()
    twin = same_network_in_torch(network)
    optimizer, twin_optimizer = ours(network.parameters()), theirs(twin.parameters())
    labels = np.array([0, 2, 1])
    for _ in range(50):
        loss = ops.cross_entropy(network(Tensor(X)), labels)
        network.zero_grad()
        loss.backward()
        optimizer.step()
        twin_loss = torch.nn.functional.cross_entropy(twin(torch.tensor(X)), torch.tensor(labels))
        twin_optimizer.zero_grad()
        twin_loss.backward()
        twin_optimizer.step()
        np.testing.assert_allclose(loss.item(), twin_loss.item(), rtol=1e-10)
    for p, q in zip(network.parameters(), twin.parameters(), strict=True):
        close(p.data, q.detach().T if q.ndim == 2 else q.detach())


def test_a_module_names_saves_and_strictly_loads_its_parameters():
    network, other = our_network(1), our_network(1)
    names = [f"layers.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")]
    assert list(network.state_dict()) == names
    for p in network.parameters():
        p.data = p.data + 1
    other.load_state_dict({name: torch.tensor(array) for name, array in network.state_dict().items()})
    np.testing.assert_array_equal(other(Tensor(X)).data, network(Tensor(X)).data)
    with pytest.raises(ValueError, match="expected the parameters"):
        other.load_state_dict({})
    with pytest.raises(ValueError, match="has shape"):
        other.load_state_dict({name: np.zeros(3) for name in names})


def test_a_shared_layer_counts_once():
    layer = nn.Linear(4, 4, np.random.default_rng(0))
    assert len(nn.Sequential(layer, nn.ReLU(), layer).parameters()) == 2


@pytest.mark.parametrize("segment", [None, 1, 3, 100])
@pytest.mark.parametrize("x_needs_grad", [True, False])
def test_checkpointing_changes_no_bit_of_any_gradient(segment, x_needs_grad):
    network = our_network(depth=5)
    x = Tensor(X, requires_grad=x_needs_grad)
    plain = grad((network(x) ** 2).sum(), network.parameters())
    again = grad((checkpoint_sequential(network.layers, x, segment) ** 2).sum(), network.parameters())
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_checkpointing_runs_the_function_once_more_and_only_once():
    calls = []
    layer = nn.Linear(4, 4, np.random.default_rng(0), np.float64)

    def function(x):
        calls.append(x)
        return layer(x).tanh()

    x = Tensor(X, requires_grad=True)
    y = checkpoint(function, x, layer.parameters()).sum()
    assert len(calls) == 1
    y.backward()
    assert len(calls) == 2 and x.grad is not None and layer.bias.grad is not None
    with pytest.raises(NotImplementedError, match="twice"):
        grad(checkpoint(function, x, layer.parameters()).sum(), [x], create_graph=True)


def test_two_moons_lie_on_their_circles_when_there_is_no_noise():
    points, labels = two_moons(200, 0.0, np.random.default_rng(0))
    centre = np.where(labels[:, None] == 0, [-0.5, -0.25], [0.5, 0.25])
    np.testing.assert_allclose(np.linalg.norm(points - centre, axis=1), 1, atol=1e-6)
    assert np.bincount(labels).tolist() == [100, 100]


def test_spirals_lie_on_their_arms_when_there_is_no_noise():
    points, labels = spirals(300, 0.0, np.random.default_rng(0))
    radius, angle = np.linalg.norm(points, axis=1), np.arctan2(points[:, 1], points[:, 0])
    np.testing.assert_allclose(np.cos(angle - 2 * np.pi * (radius + labels / 3)), 1, atol=1e-6)
