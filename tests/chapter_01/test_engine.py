"""Chapter 1's engine equals PyTorch, operation by operation, and keeps its promises about graphs.
第 1 章的自动微分引擎逐个运算与 PyTorch 对照，并验证它对计算图的各项承诺。
"""

import gc
import weakref

import numpy as np
import pytest
import torch

from chapter_01_tensor_autograd.engine import InPlaceError, Tensor, ancestors, grad, no_grad, ops
from chapter_01_tensor_autograd.engine.ops import OPERATIONS, ShapeError

F = torch.nn.functional
LABELS = np.array([2, 0, 3, 3, 1])
IDS = np.array([[0, 2, 2], [4, 0, 1]])
MASK = np.array([[True, False, True, False]])


def normal(*shape):
    return lambda rng: rng.standard_normal(shape)


def positive(*shape):
    return lambda rng: rng.random(shape) + 0.5


def whole(*shape):
    """Whole numbers, so that comparisons meet ties and zeros."""
    return lambda rng: rng.integers(-2, 3, shape).astype(float)


# (operation, ours, PyTorch's, inputs). Where PyTorch has the same name and arguments, one function serves both.
CASES = [
    ("add", lambda x, y: x + y, None, [normal(3, 4), normal(3, 4)]),
    ("add", lambda x, y: x + y, None, [normal(2, 1, 4), normal(3, 1)]),
    ("add", lambda x: 2.5 + x, None, [normal()]),
    ("sub", lambda x, y: x - y, None, [normal(1), normal(5, 3)]),
    ("sub", lambda x: 1 - x, None, [normal(2, 3)]),
    ("mul", lambda x, y: x * y, None, [normal(4, 1, 3), normal(2, 1)]),
    ("mul", lambda x: x * x, None, [normal(7)]),
    ("div", lambda x, y: x / y, None, [normal(2, 3), positive(3)]),
    ("div", lambda x: 3 / x, None, [positive(1, 1)]),
    ("power", lambda x: x**3, None, [normal(3, 5)]),
    ("power", lambda x: x**2, None, [whole(9)]),
    ("power", lambda x: x**-1.5, None, [positive(4)]),
    ("power", lambda x, y: x**y, None, [positive(3, 1), normal(2)]),
    ("power", lambda y: 2.0**y, None, [normal(3)]),
    ("maximum", ops.maximum, torch.maximum, [whole(4, 5), whole(5)]),
    ("minimum", ops.minimum, torch.minimum, [whole(4, 1), whole(4, 5)]),
    (
        "where",
        lambda x, y: ops.where(MASK, x, y),
        lambda x, y: torch.where(torch.tensor(MASK), x, y),
        [normal(3, 4), normal(4)],
    ),
    ("neg", lambda x: -x, None, [normal(2, 2)]),
    ("exp", lambda x: x.exp(), None, [normal(3, 1, 2)]),
    ("log", lambda x: x.log(), None, [positive(3, 4)]),
    ("sqrt", lambda x: x.sqrt(), None, [positive(6)]),
    ("sin", lambda x: x.sin(), None, [normal(6)]),
    ("cos", lambda x: x.cos(), None, [normal(2, 3)]),
    ("abs", lambda x: x.abs(), None, [whole(3, 4)]),
    ("tanh", lambda x: x.tanh(), None, [normal(3, 4)]),
    ("sigmoid", lambda x: x.sigmoid(), None, [lambda rng: np.array([-800.0, -30, -1, 0, 1, 30, 800])]),
    ("relu", lambda x: x.relu(), None, [whole(5, 5)]),
    ("erf", lambda x: x.erf(), None, [normal(3, 3)]),
    ("gelu", ops.gelu, F.gelu, [normal(4, 3)]),
    ("clip", lambda x: x.clip(-1.0, 1.0), None, [normal(4, 4)]),  # at a limit itself, PyTorch's versions differ
    ("clip", lambda x: x.clip(0.5), None, [normal(4, 4)]),
    ("sum", lambda x: x.sum(), None, [normal(2, 3)]),
    ("sum", lambda x: ops.sum(x, axis=(0, -1)), lambda x: x.sum(dim=(0, -1)), [normal(2, 3, 4)]),
    ("sum", lambda x: ops.sum(x, axis=1, keepdims=True), lambda x: x.sum(dim=1, keepdim=True), [normal(2, 3, 4)]),
    ("sum", lambda x: x.sum(), None, [normal()]),
    ("mean", lambda x: x.mean(), None, [normal(3, 4)]),
    ("mean", lambda x: ops.mean(x, axis=-1), lambda x: x.mean(dim=-1), [normal(1, 5)]),
    ("max", lambda x: ops.max(x, axis=1), lambda x: x.amax(dim=1), [whole(4, 6)]),
    ("max", lambda x: ops.max(x), lambda x: x.amax(dim=(0, 1)), [whole(4, 6)]),
    (
        "min",
        lambda x: ops.min(x, axis=(0, 2), keepdims=True),
        lambda x: x.amin(dim=(0, 2), keepdim=True),
        [whole(3, 4, 2)],
    ),
    ("logsumexp", lambda x: ops.logsumexp(x, axis=-1), lambda x: x.logsumexp(-1), [normal(3, 4)]),
    (
        "logsumexp",
        lambda x: ops.logsumexp(1000 * x, axis=(0, 1)),
        lambda x: (1000 * x).logsumexp((0, 1)),
        [normal(3, 4)],
    ),
    ("softmax", lambda x: x.softmax(-1), None, [normal(2, 3, 5)]),
    ("softmax", lambda x: (1000 * x).softmax(0), None, [normal(4, 1)]),
    ("log_softmax", lambda x: x.log_softmax(1), None, [normal(2, 3, 5)]),
    (
        "cross_entropy",
        lambda x: ops.cross_entropy(x, LABELS),
        lambda x: F.cross_entropy(x, torch.tensor(LABELS)),
        [normal(5, 4)],
    ),
    (
        "cross_entropy",
        lambda x: ops.cross_entropy(900 * x, LABELS[:1]),
        lambda x: F.cross_entropy(900 * x, torch.tensor(LABELS[:1])),
        [normal(1, 4)],
    ),
    ("expand", lambda x: x.expand((4, 2, 3)), None, [normal(2, 1)]),
    ("sum_to", lambda x: ops.sum_to(x, (3, 1)), lambda x: x.sum_to_size(3, 1), [normal(2, 3, 4)]),
    ("reshape", lambda x: x.reshape((4, -1)), None, [normal(2, 6)]),
    ("permute", lambda x: x.permute((2, 0, -2)), None, [normal(2, 3, 4)]),
    ("permute", lambda x: x.T, None, [normal(1, 3)]),
    ("getitem", lambda x: x[1], None, [normal(3, 4)]),
    ("getitem", lambda x: x[..., ::2, None], None, [normal(3, 5)]),
    ("getitem", lambda x: x[IDS], None, [normal(5, 2)]),
    ("getitem", lambda x: x[[0, 0, 1], [2, 2, 1]], None, [normal(3, 4)]),
    ("getitem", lambda x: x[:, MASK[0]], lambda x: x[:, torch.tensor(MASK[0])], [normal(3, 4)]),
    (
        "scatter_add",
        lambda x: ops.scatter_add(x, IDS[:1], (5, 3)),
        lambda x: torch.zeros(5, 3, dtype=x.dtype).index_put((torch.tensor(IDS[:1]),), x, True),
        [normal(1, 3, 3)],
    ),
    ("embedding", lambda w: ops.embedding(w, IDS), lambda w: F.embedding(torch.tensor(IDS), w), [normal(5, 3)]),
    (
        "concat",
        lambda x, y: ops.concat([x, y, x], axis=-1),
        lambda x, y: torch.cat([x, y, x], dim=-1),
        [normal(2, 3), normal(2, 1)],
    ),
    (
        "stack",
        lambda x, y: ops.stack([x, y], axis=1),
        lambda x, y: torch.stack([x, y], dim=1),
        [normal(2, 3), normal(2, 3)],
    ),
    (
        "stack",
        lambda x, y: ops.stack([x, y], axis=-1),
        lambda x, y: torch.stack([x, y], dim=-1),
        [normal(3), normal(3)],
    ),
    ("pad", lambda x: ops.pad(x, [(1, 0), (0, 2)], 7.0), lambda x: F.pad(x, (0, 2, 1, 0), value=7.0), [normal(2, 3)]),
    ("matmul", lambda x, y: x @ y, None, [normal(3, 4), normal(4, 2)]),
    ("matmul", lambda x, y: x @ y, None, [normal(5, 1, 3, 4), normal(2, 4, 1)]),
    ("matmul", lambda x, y: x @ y, None, [normal(4), normal(2, 4, 3)]),
    ("matmul", lambda x, y: x @ y, None, [normal(2, 3, 4), normal(4)]),
    ("matmul", lambda x, y: x @ y, None, [normal(4), normal(4)]),
    (
        "einsum",
        lambda x, y: ops.einsum("bij,bjk->bik", x, y),
        lambda x, y: torch.einsum("bij,bjk->bik", x, y),
        [normal(2, 3, 4), normal(2, 4, 5)],
    ),
    (
        "einsum",
        lambda x, y, z: ops.einsum("ij,j,kl->ki", x, y, z),
        lambda x, y, z: torch.einsum("ij,j,kl->ki", x, y, z),
        [normal(3, 4), normal(4), normal(2, 3)],
    ),
    ("einsum", lambda x: ops.einsum("ij->j", x), lambda x: torch.einsum("ij->j", x), [normal(3, 4)]),
]


def close(ours, theirs):
    scale = 1 + theirs.abs().max().item()
    assert tuple(ours.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(ours.data, theirs.numpy(force=True), rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("name, ours, theirs, shapes", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_an_operation_and_its_two_derivatives_equal_pytorchs(name, ours, theirs, shapes):
    rng = np.random.default_rng(0)
    arrays = [make(rng) for make in shapes]
    x = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    t = [torch.tensor(a, requires_grad=True) for a in arrays]

    y, u = ours(*x), (theirs or ours)(*t)
    close(y, u)

    v = rng.standard_normal(y.shape)
    first_x = grad(y, x, v, create_graph=True)
    first_t = torch.autograd.grad(u, t, torch.tensor(v), create_graph=True)
    for a, b in zip(first_x, first_t, strict=True):
        close(a, b)

    weights = [rng.standard_normal(a.shape) for a in arrays]
    total_x = sum((ops.sum(g * w) for g, w in zip(first_x, weights, strict=True)), Tensor(0.0))
    total_t = sum((g * torch.tensor(w)).sum() for g, w in zip(first_t, weights, strict=True))
    second_t = [torch.zeros_like(a) for a in t]
    if total_t.requires_grad:  # otherwise the operation is linear
        second_t = torch.autograd.grad(total_t, t, allow_unused=True, materialize_grads=True)
    second_x = grad(total_x, x) if total_x.requires_grad else [Tensor(np.zeros(a.shape)) for a in x]
    for a, b in zip(second_x, second_t, strict=True):
        close(a, b)


def test_every_operation_has_a_case_and_there_are_enough():
    assert {case[0] for case in CASES} == OPERATIONS.keys()
    assert len(OPERATIONS) >= 35


@pytest.mark.parametrize("name, ours, theirs, shapes", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_float32_stays_float32(name, ours, theirs, shapes):
    x = [Tensor(make(np.random.default_rng(0)).astype(np.float32), requires_grad=True) for make in shapes]
    y = ours(*x)
    assert y.dtype == np.float32
    assert all(g.dtype == np.float32 for g in grad(y, x, np.ones(y.shape)))


def test_a_gradient_of_a_gradient_of_a_gradient():
    x = Tensor(0.7, requires_grad=True)
    y, derivatives = x.sin() * x**4, []
    for _ in range(4):
        (y,) = grad(y, [x], create_graph=True)
        derivatives.append(y.item())
    t = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    u, expected = t.sin() * t**4, []
    for _ in range(4):
        (u,) = torch.autograd.grad(u, t, create_graph=True)
        expected.append(u.item())
    np.testing.assert_allclose(derivatives, expected, rtol=1e-12)


def test_gradients_accumulate_on_leaves_and_where_asked():
    x = Tensor([1.0, 2.0], requires_grad=True)
    h = x * 3
    h.retain_grad()
    for _ in range(2):
        (h * h).sum().backward()
    np.testing.assert_array_equal(x.grad.data, 2 * 18 * x.data)
    np.testing.assert_array_equal(h.grad.data, 2 * 6 * x.data)
    x.grad = None
    assert x.grad is None


def test_two_leaves_never_share_a_gradient_array():
    x, y = (Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    (x + y).sum().backward()
    x.grad *= 5
    np.testing.assert_array_equal(y.grad.data, [1, 1])


def test_a_hook_sees_and_may_replace_a_gradient():
    x = Tensor([1.0, 2.0], requires_grad=True)
    h, seen = x * 2, []
    h.register_hook(seen.append)
    h.register_hook(lambda g: g * 10)
    h.sum().backward()
    np.testing.assert_array_equal(seen[0].data, [1, 1])
    np.testing.assert_array_equal(x.grad.data, [20, 20])


def test_no_grad_and_detach_stop_the_recording():
    x = Tensor([1.0, 2.0], requires_grad=True)
    with no_grad():
        assert not (x * x).requires_grad
    assert not (x.detach() * 2).requires_grad
    (x * x.detach()).sum().backward()
    np.testing.assert_array_equal(x.grad.data, x.data)


def test_grad_leaves_grad_alone_and_gives_zeros_where_nothing_depends():
    x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor(3.0, requires_grad=True)
    gx, gy = grad((x * x).sum(), [x, y])
    assert x.grad is None and gy.item() == 0
    np.testing.assert_array_equal(gx.data, [2, 4])


def test_a_chain_of_100_000_operations():
    x = y = Tensor(1.0, requires_grad=True)
    for _ in range(100_000):
        y = y + 1e-5
    assert len(ancestors(y.node)) == 100_001
    y.backward()
    assert x.grad.item() == 1
    del y  # freeing the chain must not overflow the stack either


def test_a_graph_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        x = Tensor(np.ones(3), requires_grad=True)
        h = x.exp()
        y, saved = h.softmax(0).sum(), weakref.ref(h.data)
        del h
        y.backward()
        assert saved() is not None  # exp and softmax both need it
        del y
        assert saved() is None
    finally:
        gc.enable()


def test_values_that_no_vjp_needs_are_freed_at_once():
    x = Tensor(np.ones(3), requires_grad=True)
    h = x * 2
    kept, freed = weakref.ref(x.data), weakref.ref(h.data)
    y = h + 1
    del h
    assert freed() is None and kept() is not None
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [2, 2, 2])


@pytest.mark.parametrize("change", [lambda t: t.__iadd__(1), lambda t: t.__isub__(1), lambda t: t.__setitem__(0, 5.0)])
@pytest.mark.parametrize("make", [lambda x: (y := x.exp(), y), lambda x: (x * x, x), lambda x: (x[:1] * 2 * x, x)])
def test_a_graph_used_after_an_in_place_change_says_so(make, change):
    y, changed = make(Tensor([1.0, 2.0], requires_grad=True))
    with no_grad():
        change(changed)
    with pytest.raises(InPlaceError, match=f"`{y.node.op}`.*changed in place 1 time"):
        y.sum().backward()


@pytest.mark.parametrize("name, ours, theirs, shapes", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_no_in_place_change_ever_yields_a_wrong_gradient(name, ours, theirs, shapes):
    """After any input or the output was overwritten, backward gives what it would have given, or raises."""
    v = np.random.default_rng(1).standard_normal(ours(*make_inputs(shapes)).shape)
    right = grad(ours(*(x := make_inputs(shapes))), x, v)
    for changed in range(len(shapes) + 1):
        x = make_inputs(shapes)
        y = ours(*x)
        with no_grad():
            target = [*x, y][changed]
            target.data = target.data if target.data.flags.writeable else target.data.copy()
            target *= 0.37
            target += 0.11
        try:
            gradients = grad(y, x, v)
        except InPlaceError:
            continue
        for a, b in zip(gradients, right, strict=True):
            np.testing.assert_array_equal(a.data, b.data)


def make_inputs(shapes):
    rng = np.random.default_rng(0)
    return [Tensor(make(rng), requires_grad=True) for make in shapes]


def test_a_change_through_a_view_is_noticed():
    x = Tensor([[1.0, 2.0]], requires_grad=True)
    y = x.sin()
    with no_grad():
        row = x[0]
        row += 1
    with pytest.raises(InPlaceError, match="`sin`"):
        y.sum().backward()


def test_an_index_or_a_condition_may_change_after_its_use():
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    index, condition = Tensor([0, 1]), np.array([True, True, False])
    y = x[index].sum() + ops.where(condition, x, 0.0).sum()
    index[0], condition[0] = 2, False
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [2, 2, 0])


def test_a_division_in_place_changes_the_tensor_itself():
    w = kept = Tensor([2.0, 4.0], requires_grad=True)
    with no_grad():
        w /= 2
    assert w is kept and w.requires_grad
    np.testing.assert_array_equal(w.data, [1, 2])


def test_a_tensor_of_one_number_acts_as_that_number():
    assert float(Tensor(2.5)) == 2.5 and not Tensor(0.0)
    assert Tensor(Tensor(np.ones(2))).dtype == np.float64


def test_labels_out_of_range_and_half_an_einsum_are_refused():
    with pytest.raises(ValueError, match=r"0 \.\. 3, found -1"):
        ops.cross_entropy(Tensor(np.ones((2, 4))), [0, -1])
    with pytest.raises(ShapeError, match="after '->'"):
        ops.einsum("ij,jk", Tensor(np.ones((2, 2))), Tensor(np.ones((2, 2))))


def test_a_change_of_what_no_vjp_needs_is_fine():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x + 1
    with no_grad():
        x *= 3
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [1, 1])


def test_recording_an_in_place_change_is_refused():
    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(InPlaceError, match="x \\+ 1"):
        x += 1
    buffer = Tensor(np.zeros(2))
    with pytest.raises(InPlaceError):
        buffer[:] = x


def test_a_tensor_can_be_looped_over():
    x = Tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    rows = list(x)
    assert len(rows) == len(x) == 3
    (rows[0] * rows[2]).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [[4, 5], [0, 0], [0, 1]])


def test_a_shape_mismatch_names_the_operation_and_the_shapes():
    x, y = Tensor(np.ones((2, 3)), requires_grad=True), Tensor(np.ones((4, 5)))
    with pytest.raises(ShapeError, match=r"matmul cannot take shapes \(2, 3\) and \(4, 5\)"):
        x @ y
    with pytest.raises(ShapeError, match=r"add cannot take shapes \(2, 3\) and \(4, 5\)"):
        x + y
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        x.backward()
    with pytest.raises(RuntimeError, match="requires_grad=True"):
        y.backward()
    with pytest.raises(TypeError, match="int64"):
        Tensor(np.arange(3), requires_grad=True)
