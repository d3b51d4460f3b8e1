"""What chapter 1's engine remembers, and that no change of it goes unnoticed.
第 1 章的引擎记住了什么，以及：对它的任何改动都不会被漏掉。
"""

import weakref

import numpy as np
import pytest

from chapter_01_tensor_autograd.engine import InPlaceError, Tensor, ancestors, grad, no_grad, ops, record
from chapter_01_tensor_autograd.engine.checkpointing import checkpoint
from chapter_01_tensor_autograd.engine.ops_shape import as_tensor
from tests.chapter_01.operation_cases import each_case, make_inputs


@pytest.mark.parametrize("change", [lambda t: t.__iadd__(1), lambda t: t.__isub__(1), lambda t: t.__setitem__(0, 5.0)])
@pytest.mark.parametrize("make", [lambda x: (y := x.exp(), y), lambda x: (x * x, x), lambda x: (x[:1] * 2 * x, x)])
def test_a_graph_used_after_an_in_place_change_says_so(make, change):
    y, changed = make(Tensor([1.0, 2.0], requires_grad=True))
    with no_grad():
        change(changed)
    with pytest.raises(InPlaceError, match=f"`{y.node.op}`.*changed in place 1 time"):
        y.sum().backward()


@each_case
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


def test_two_leaves_never_share_a_gradient_array():
    x, y = (Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    (x + y).sum().backward()
    x.grad *= 5
    np.testing.assert_array_equal(y.grad.data, [1, 1])


def test_values_that_no_vjp_needs_are_freed_at_once():
    x = Tensor(np.ones(3), requires_grad=True)
    h = x * 2
    kept, freed = weakref.ref(x.data), weakref.ref(h.data)
    y = h + 1
    del h
    assert freed() is None and kept() is not None
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [2, 2, 2])


def test_a_constant_factor_frees_the_other_one_for_change():
    for f in (
        lambda x: 2 * x,
        lambda x: x @ np.eye(2),
        lambda x: ops.einsum("i,i->i", x, Tensor([2.0, 2.0])),
        lambda x: x % 2.0,
    ):
        x = Tensor([1.0, 2.0], requires_grad=True)
        y = f(x).sum()
        right = grad(y, [x])[0].data
        with no_grad():
            x *= 3
        np.testing.assert_array_equal(grad(y, [x])[0].data, right)


@pytest.mark.parametrize("change", [lambda t: t.__iadd__(1), lambda t: t.__setitem__(0, 5.0)])
@pytest.mark.parametrize("kind", ["tensor", "tuple", "data"])
def test_whatever_a_vjp_reads_is_watched_however_it_holds_it(kind, change):
    def square(x):
        held = (x, 1)
        vjps = {
            "tensor": lambda g, _: g * 2 * x,
            "tuple": lambda g, _: g * 2 * held[0],
            "data": lambda g, _: g * (2 * x.data),
        }
        return record("square", x.data**2, (x, vjps[kind]), saves=(x,))

    x = Tensor([3.0], requires_grad=True)
    y = square(x).sum()
    assert grad(y, [x])[0].item() == 6
    with no_grad():
        change(x)
    with pytest.raises(InPlaceError, match="`square`"):
        grad(y, [x])


@each_case
def test_a_change_of_a_value_that_a_gradient_depends_on_raises(name, ours, theirs, shapes):
    """Where the gradient would be another one if the counters were not compared, there has to be an error."""
    for changed in range(len(shapes) + 1):
        x = make_inputs(shapes)
        y = ours(*x)
        v = np.random.default_rng(1).standard_normal(y.shape)
        right = grad(y, x, v)
        with no_grad():
            target = [*x, y][changed]
            if not target.data.flags.writeable:
                continue
            target *= 0.37
            target += 0.11
        try:
            grad(y, x, v)
            noticed = False
        except InPlaceError:
            noticed = True
        for node in ancestors(y.node):
            node.versions = []
        differs = any((a.data != b.data).any() for a, b in zip(grad(y, x, v), right, strict=True))
        assert noticed or not differs


# ---- who shares memory shares the counter ---------------------------------------------------------------------------

MAKERS = {
    "Tensor(x)": Tensor,
    "Tensor(x, True)": lambda x: Tensor(x, requires_grad=True),
    "detach": lambda x: x.detach(),
    "as_tensor": as_tensor,
    "x[:]": lambda x: x[:],
    "an element of the loop": lambda x: next(iter(x)) if x.ndim else x[()],
    "astype to its own dtype": lambda x: x.astype(x.dtype),
    "checkpoint": lambda x: checkpoint(lambda x: x.reshape(-1), x),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_tensor_made_of_a_tensor_shares_its_counter(maker):
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    made = MAKERS[maker](x)
    assert np.shares_memory(made.data, x.data) and made.version is x.version


@each_case
def test_an_output_that_is_a_view_shares_the_counter_of_its_input(name, ours, theirs, shapes):
    x = make_inputs(shapes)
    y = ours(*x)
    for each in x:
        assert (y.version is each.version) == np.shares_memory(y.data, each.data)


@each_case
def test_a_change_of_an_output_reaches_no_input_unnoticed(name, ours, theirs, shapes):
    x = make_inputs(shapes)
    before = [each.data.copy() for each in x]
    needs_them_all = sum((ops.sum(each * each) for each in x), Tensor(0.0))
    y = ours(*x)
    if not y.data.flags.writeable:
        return
    with no_grad():
        y *= 0.37
        y += 0.11
    if any((a != b.data).any() for a, b in zip(before, x, strict=True)):
        with pytest.raises(InPlaceError):
            grad(needs_them_all, x)
    else:
        for a, g in zip(before, grad(needs_them_all, x), strict=True):
            np.testing.assert_array_equal(g.data, 2 * a)


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_that_backward_keeps_are_arrays_of_their_own(create_graph):
    x, y = (Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    v = Tensor([1.0, 1.0])
    (x + y).backward(v, create_graph=create_graph)
    with no_grad():
        x.grad *= 5
    np.testing.assert_array_equal(y.grad.data, [1, 1])
    np.testing.assert_array_equal(v.data, [1, 1])


def test_an_index_may_be_a_tensor_when_writing():
    x = Tensor([1.0, -2.0, 3.0])
    x[x < 0] = 0
    x[(Tensor([2]),)] = 7
    np.testing.assert_array_equal(x.data, [1, 0, 7])


def test_a_single_number_cannot_be_looped_over():
    with pytest.raises(TypeError):
        list(Tensor(3.0))
