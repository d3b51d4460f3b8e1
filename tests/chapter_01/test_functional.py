"""Chapter 1's functional derivatives, layers, optimizers and checkpointing equal PyTorch's.
第 1 章的函数式求导、网络层、优化器与梯度检查点，逐一与 PyTorch 对照。
"""

import numpy as np
import pytest
import torch

from chapter_01_tensor_autograd import nn
from chapter_01_tensor_autograd.dataset import spirals, two_moons
from chapter_01_tensor_autograd.engine import InPlaceError, Tensor, grad, no_grad, ops
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


# ---- checkpointing, and gradients of some of its inputs -------------------------------------------------------------


def checkpointed_segment():
    x, w1, w2 = Tensor([0.5, 0.6], True), Tensor([1.0, 2.0], True), Tensor([3.0, 4.0], True)
    y = checkpoint(lambda x: (x * w1).sin() * w2, x, (w1, w2))
    a = x.data * w1.data
    right = {x: np.cos(a) * w1.data * w2.data, w1: np.cos(a) * x.data * w2.data, w2: np.sin(a)}
    return y, [x, w1, w2], right


@pytest.mark.parametrize("asked", [[2], [1], [0], [2, 1], [1, 2], [0, 2], [2, 0, 1], [1, 1]])
def test_each_input_of_a_checkpointed_segment_gets_its_own_gradient(asked):
    y, leaves, right = checkpointed_segment()
    y, some = y.sum(), [leaves[i] for i in asked]
    for _ in range(3):
        for leaf, g in zip(some, grad(y, some), strict=True):
            np.testing.assert_allclose(g.data, right[leaf], rtol=1e-12)
    for leaf in leaves:  # after that, another question
        np.testing.assert_allclose(grad(y, [leaf])[0].data, right[leaf], rtol=1e-12)


def test_gradients_of_a_checkpointed_segment_follow_the_vector_of_the_vjp():
    y, leaves, right = checkpointed_segment()
    v = Tensor([1.0, 1.0])  # one object, changed between the questions
    np.testing.assert_allclose(grad(y, [leaves[2]], v)[0].data, right[leaves[2]])
    v *= 2
    np.testing.assert_allclose(grad(y, [leaves[1]], v)[0].data, 2 * right[leaves[1]])
    rows = [grad(y, [leaves[1]], row)[0].data for row in np.eye(2)]
    np.testing.assert_allclose(rows, np.diag(right[leaves[1]]))


def test_the_jacobian_of_a_checkpointed_segment():
    w = Tensor([1.0, 2.0], True)

    def plain(x):
        return (x * w).sin() * w

    np.testing.assert_array_equal(
        jacobian(lambda x: checkpoint(plain, x, [w]), np.array([0.5, 0.6])), jacobian(plain, np.array([0.5, 0.6]))
    )


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_checkpointed_segment_notices_that_an_input_was_changed(which):
    y, leaves, _ = checkpointed_segment()
    with no_grad():
        leaves[which] += 1
    with pytest.raises(InPlaceError, match="checkpoint"):
        y.sum().backward()


# ---- integers, constants, nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [np.array([1, 2]), [1, 2], 3, np.array([True])])
@pytest.mark.parametrize(
    "differentiate",
    [
        lambda x: vjp(lambda x: x * x, x),
        lambda x: jvp(lambda x: x * x, [x], [x]),
        lambda x: jacobian(lambda x: x * x, x),
        lambda x: jacobian(lambda x: x * x, x, forward=True),
        lambda x: hvp(lambda x: (x * x).sum(), x, x),
        lambda x: numerical_jacobian(lambda x: x * x, x),
        lambda x: gradcheck(lambda x: x * x, x),
        lambda x: Tensor(x, requires_grad=True),
    ],
)
def test_a_derivative_by_integers_is_refused(differentiate, x):
    with pytest.raises(TypeError, match="only floating-point"):
        differentiate(x)


def test_a_vector_of_integers_is_made_floats():
    np.testing.assert_array_equal(jvp(lambda x: x * 2.5, [[1.0, 2.0]], [[1, 1]])[1].data, [2.5, 2.5])
    np.testing.assert_array_equal(vjp(lambda x: x * 2.5, [1.0, 2.0])[1]([1, 1])[0].data, [2.5, 2.5])


def test_integers_beside_what_is_differentiated_stay_integers():
    jacobian_by_logits = numerical_jacobian(ops.cross_entropy, np.zeros((2, 4)), np.array([1, 3]))
    np.testing.assert_allclose(
        jacobian_by_logits, jacobian(lambda z: ops.cross_entropy(z, [1, 3]), np.zeros((2, 4))), atol=1e-9
    )


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_derivatives_of_constants_and_of_no_numbers(shape):
    x = np.ones(shape)
    for f in (lambda x: Tensor(np.ones(3)), lambda x: x * 2):
        expected = np.zeros((3, *shape)) if f(x).shape == (3,) else 2 * np.eye(x.size).reshape(shape + shape)
        for found in (jacobian(f, x), jacobian(f, x, forward=True), numerical_jacobian(f, x)):
            np.testing.assert_allclose(found, expected, atol=1e-8)
        assert gradcheck(f, x) < 1e-7


# ---- optimizers -----------------------------------------------------------------------------------------------------


OPTIMIZERS = {
    "sgd": (lambda p: nn.SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "adam": (lambda p: nn.Adam(p, 0.1, weight_decay=0.1), lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_without_a_gradient_waits_as_in_pytorch(name):
    ours, theirs = [Tensor(np.ones(2), True) for _ in range(2)], [torch.ones(2, dtype=torch.float64) for _ in range(2)]
    optimizer, twin = OPTIMIZERS[name][0](ours), OPTIMIZERS[name][1]([t.requires_grad_() for t in theirs])
    for used in ([0], [0, 1], [1]):
        for p, t in zip(ours, theirs, strict=True):
            p.grad = t.grad = None
        sum((ours[i] ** 3).sum() for i in used).backward()
        sum((theirs[i] ** 3).sum() for i in used).backward()
        optimizer.step()
        twin.step()
        for p, t in zip(ours, theirs, strict=True):
            close(p.data, t.detach())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loaded_state_is_a_copy(name):
    def step(optimizer, value):
        for p in optimizer.parameters:
            p.grad = Tensor(np.full(p.shape, value))
        optimizer.step()

    def buffers(optimizer):
        arrays = [value for value in optimizer.state_dict().values() if isinstance(value[0], np.ndarray)]
        return [a.copy() for group in arrays for a in group]

    first, second = (OPTIMIZERS[name][0]([Tensor(np.ones(2), True)]) for _ in range(2))
    step(first, 1.0)
    state = first.state_dict()
    second.load_state_dict(state)
    saved = buffers(second)
    step(first, 5.0)
    for a, b in zip(saved, buffers(second), strict=True):
        np.testing.assert_array_equal(a, b)
    step(second, 5.0)
    for a, b in zip(buffers(first), buffers(second), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="expected"):
        OPTIMIZERS[name][0]([Tensor(np.ones(3), True)]).load_state_dict(state)


def test_loaded_weights_are_a_copy():
    layer, other = (nn.Linear(2, 2, np.random.default_rng(seed)) for seed in range(2))
    other.load_state_dict(layer.state_dict())
    with no_grad():
        layer.weight += 1
    assert (layer.weight.data != other.weight.data).all()
