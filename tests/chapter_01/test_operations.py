"""Chapter 1's operations equal PyTorch's, value and two derivatives, at the edges too.
第 1 章的运算与 PyTorch 逐一对照：数值、一阶与二阶导数，边界情形也不例外。
"""

import re

import numpy as np
import pytest
import torch

from chapter_01_tensor_autograd.engine import ShapeError, Tensor, grad, ops
from chapter_01_tensor_autograd.engine.ops import OPERATIONS
from tests.chapter_01.operation_cases import CASES, each_case
from tests.conftest import ROOT

F = torch.nn.functional


def close(ours, theirs):
    scale = 1 + theirs.abs().max().item()
    assert tuple(ours.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(ours.data, theirs.numpy(force=True), rtol=0, atol=1e-10 * scale)


@each_case
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


@each_case
def test_float32_stays_float32(name, ours, theirs, shapes):
    x = [Tensor(make(np.random.default_rng(0)).astype(np.float32), requires_grad=True) for make in shapes]
    y = ours(*x)
    assert y.dtype == np.float32
    assert all(g.dtype == np.float32 for g in grad(y, x, np.ones(y.shape)))


def test_labels_out_of_range_and_half_an_einsum_are_refused():
    with pytest.raises(ValueError, match="from -1 to 0 for 4 classes"):
        ops.cross_entropy(Tensor(np.ones((2, 4))), [0, -1])
    with pytest.raises(ShapeError, match="after '->'"):
        ops.einsum("ij,jk", Tensor(np.ones((2, 2))), Tensor(np.ones((2, 2))))


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


# ---- edges: no axes, no numbers, infinite slopes --------------------------------------------------------------------


def first_derivatives(f, *arrays):
    """f's value and its gradients for an upstream gradient of ones, in our engine and in PyTorch, as arrays."""
    x, t = (
        [make(a) for a in arrays] for make in (lambda a: Tensor(a, True), lambda a: torch.tensor(a).requires_grad_())
    )
    y, u = f(*x), f(*t)
    found = [y.data, *(g.data for g in grad(y, x, np.ones(y.shape)))]
    expected = [u, *torch.autograd.grad(u, t, torch.ones_like(u))]
    return found, [e.numpy(force=True) for e in expected]


@pytest.mark.parametrize(
    "f",
    [
        *(lambda x, name=name: getattr(x, name)(0) for name in ("sum", "mean", "logsumexp", "softmax", "log_softmax")),
        *(lambda x, name=name: getattr(x, name)(-1) for name in ("sum", "mean", "prod", "cumsum", "softmax")),
        lambda x: x.max(0) if isinstance(x, Tensor) else x.amax(0),
        lambda x: x.min() if isinstance(x, Tensor) else x.amin(),
        lambda x: x.norm() + x.prod() + x.reshape(()),
    ],
)
@pytest.mark.parametrize("value", [3.0, 0.0, -2.0])
def test_a_single_number_has_an_axis_0(f, value):
    found, expected = first_derivatives(f, np.array(value))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:divide by zero")  # log 0 = -inf is meant
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@pytest.mark.parametrize(
    "f",
    [
        *(lambda x, name=name: getattr(x, name)(-1) for name in ("sum", "mean", "prod", "cumsum", "logsumexp")),
        *(lambda x, name=name: getattr(x, name)(0) for name in ("sum", "mean", "softmax", "log_softmax")),
        lambda x: (x * x + 1).exp().sum() + x.mean() + x.norm(),
        lambda x: x.reshape(-1)[:0],
        lambda x: x.reshape(-1, 1) @ x.reshape(1, -1),
        lambda x: x.reshape(1, -1) @ x.reshape(-1, 1),
    ],
)
def test_no_numbers_give_what_pytorch_gives(f, shape):
    found, expected = first_derivatives(f, np.zeros(shape))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: ops.concat([Tensor(1.0), Tensor(2.0)]),
        lambda: ops.concat([Tensor([1.0]), Tensor([2.0])], axis=1),
        lambda: ops.stack([Tensor([1.0]), Tensor([2.0])], axis=5),
        lambda: Tensor(3.0).sum(axis=1),
        lambda: Tensor(np.ones((2, 2))).mean(axis=2),
        lambda: Tensor(np.ones((2, 0))).max(axis=1),
        lambda: Tensor(np.ones((2, 3))).permute(0),
        lambda: Tensor(3.0) @ Tensor(3.0),
        lambda: ops.einsum("ij,jk->ik", Tensor(np.ones((2, 1))), Tensor(np.ones((3, 4)))),
        lambda: ops.scatter_add(Tensor([1.0]), [0, 1, 2], (5,)),
    ],
)
def test_what_has_no_shape_is_refused(refused):
    with pytest.raises(ShapeError):
        refused()


def test_zero_to_a_power():
    x, y = np.zeros(4), np.array([-1.0, 0.0, 1.0, 2.5])
    with np.errstate(divide="ignore"):
        (_, by_x, by_y), (_, expected_by_x, expected_by_y) = first_derivatives(lambda x, y: x**y, x, y)
    np.testing.assert_array_equal(by_y, [-np.inf, 0, 0, 0])
    np.testing.assert_array_equal(by_y, expected_by_y)
    np.testing.assert_array_equal(by_x, expected_by_x)
    with np.errstate(divide="ignore"):
        base_is_a_number = first_derivatives(lambda y: 0.0**y, y)
    np.testing.assert_array_equal(base_is_a_number[0][1], base_is_a_number[1][1])


def test_a_vector_of_zeros_has_the_length_0_and_no_slope():
    for f in (lambda x: x.norm(), lambda x: x.norm() * 3):
        found, expected = first_derivatives(f, np.zeros((2, 3)))
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[1], np.zeros((2, 3)))


def test_a_singular_system_says_so():
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        ops.solve(Tensor(np.ones((2, 2))), Tensor([1.0, 2.0]))


# ---- indices: nothing broadcasts, nothing counts from the end -------------------------------------------------------


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.array([[2], [0], [3]]), r"labels \(3,\), not \(3, 1\)"),
        (np.array([[2, 0, 3]]), r"not \(1, 3\)"),
        (np.array([2]), r"not \(1,\)"),
        (np.array(2), r"not \(\)"),
        (np.eye(4, dtype=int)[:3], r"not \(3, 4\)"),
        (np.array([2.0, 0.0, 3.0]), "float64"),
        (np.array([True, False, True]), "bool"),
        (np.array([2, 0, 4]), "to 4 for 4 classes"),
    ],
)
def test_labels_of_another_shape_or_kind_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        ops.cross_entropy(Tensor(np.zeros((3, 4)), requires_grad=True), labels)


def test_cross_entropy_takes_rows_of_logits():
    with pytest.raises(ValueError, match="n_classes"):
        ops.cross_entropy(Tensor(np.zeros((3, 4, 2))), np.zeros((3, 4), int))


@pytest.mark.parametrize("ids", [[-1], [5], [0.0], [True]])
def test_an_embedding_takes_whole_numbers_in_range(ids):
    with pytest.raises(ValueError, match="0 to 4"):
        ops.embedding(Tensor(np.zeros((5, 2))), ids)


def test_a_comparison_goes_element_by_element():
    x = Tensor([0.0, 1.0, 2.0], requires_grad=True)
    for found, expected in [
        (x == 1.0, [False, True, False]),
        (x != Tensor([0.0, 0.0, 2.0]), [False, True, False]),
        (np.array([0.0, 1.0, 2.0]) == x, [True, True, True]),
        (1.5 > x, [True, True, False]),
        (x >= 1, [False, True, True]),
        (x <= 1, [True, True, False]),
        (x < [1, 1, 3], [True, False, True]),
    ]:
        assert isinstance(found, Tensor) and found.dtype == bool and not found.requires_grad
        np.testing.assert_array_equal(found.data, expected)
    y = ops.where(x == 0, 5.0, x)
    np.testing.assert_array_equal(y.data, [5, 1, 2])
    np.testing.assert_array_equal(grad(y.sum(), [x])[0].data, [0, 1, 1])
    np.testing.assert_array_equal(x[x > 0.5].data, [1, 2])
    assert len({x, Tensor(x), x}) == 2  # hashed by identity


# ---- dtypes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x, n: x + n,
        lambda x, n: n - x,
        lambda x, n: x * n,
        lambda x, n: n / x,
        lambda x, n: x**n,
        lambda x, n: n**x,
        lambda x, n: x % n,
        lambda x, n: x.clip(n, n),
        lambda x, n: ops.maximum(x, n),
        lambda x, n: ops.where(x > 1, x, n),
    ],
)
@pytest.mark.parametrize("number", [2, 2.0, np.float64(2), np.float32(2), np.int64(2), True])
def test_a_single_number_widens_nothing(f, number):
    x = Tensor(np.array([1.0, 2.5], np.float32), requires_grad=True)
    y = f(x, number)
    assert y.dtype == np.float32 and grad(y.sum(), [x])[0].dtype == np.float32


def test_a_fraction_stays_a_fraction_beside_whole_numbers():
    np.testing.assert_array_equal((Tensor([1, 2]) * 2.5).data, [2.5, 5])
    np.testing.assert_array_equal((0.5 + Tensor([1, 2])).data, [1.5, 2.5])


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_gradient_has_the_dtype_of_what_it_belongs_to(create_graph):
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    wide = Tensor(np.full(3, 2.0), requires_grad=True)
    y = (x * wide + x * np.full(3, 0.5)).sum()  # as in NumPy, float32 and float64 make float64
    assert y.dtype == np.float64
    y.backward(create_graph=create_graph)
    assert x.grad.dtype == np.float32 and wide.grad.dtype == np.float64
    np.testing.assert_array_equal(x.grad.data, [2.5] * 3)
    assert grad(x * 2, [x], Tensor(np.ones(3)), create_graph)[0].dtype == np.float32
    x.grad = None
    x.register_hook(lambda g: Tensor(g.data.astype(np.float64) * 3))
    (x * 2).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.data[0] == 6


@pytest.mark.parametrize("f", [lambda x: x * 1j, lambda x: x + np.ones(2) * 1j, lambda x: x**1j, lambda x: 1j - x])
def test_complex_numbers_are_refused(f):
    with pytest.raises(TypeError, match="complex128"):
        f(Tensor([1.0, 2.0], requires_grad=True))


# ---- what the READMEs say about it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_front_page_counts_operations_and_lines(readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    chapter = (ROOT / "chapter_01_tensor_autograd" / readme).read_text(encoding="utf-8")
    operations = re.findall(r"(\d+) (?:differentiable )?operations|(\d+) 种(?:可微)?运算", text)
    operations += re.findall(r"set of (\d+) formulas|把 (\d+) 个运算", chapter)
    assert [int(a or b) for a, b in operations] == [len(OPERATIONS)] * 3
    engine = ROOT / "chapter_01_tensor_autograd" / "engine"
    files = [engine / "tensor.py", *engine.glob("ops*.py")]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    (stated,) = re.findall(r"(?:about |约 )([\d,]+) (?:lines over NumPy|行)", text)
    assert abs(int(stated.replace(",", "")) - lines) <= 20, f"{lines} lines"
