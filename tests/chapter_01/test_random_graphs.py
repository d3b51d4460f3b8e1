"""Random graphs: chapter 1's engine and PyTorch find the same gradients, whatever is put together.
随机计算图：无论怎样组合，第 1 章的引擎与 PyTorch 求出的梯度都相同。
"""

from itertools import product

import numpy as np
import pytest
import torch

from chapter_01_tensor_autograd.engine import Tensor, checkpoint, grad, ops

SHAPES = [(), (1,), (3,), (2, 3), (3, 1), (1, 3), (3, 3), (0,), (0, 3), (3, 0), (2, 1, 3)]


def einsum(spec):
    return lambda x: ops.einsum(spec, x), lambda t: torch.einsum(spec, t)


def same(function):
    return function, function


# (name, ours and PyTorch's, the number of axes that it takes: None stands for any)
ONE = [
    ("tanh", same(lambda x: x.tanh()), None),
    ("sin", same(lambda x: x.sin() * 2), None),
    ("sigmoid", same(lambda x: 1 - x.sigmoid()), None),
    ("arctan", same(lambda x: x.arctan()), None),
    ("power", same(lambda x: (x * x + 0.5) ** -0.5), None),
    ("where", (lambda x: ops.where(x > 0, x, 0.1 * x), lambda t: torch.where(t > 0, t, 0.1 * t)), None),
    ("sum of all", same(lambda x: x.sum()), None),
    ("sum", same(lambda x: x.sum(-1)), None),
    ("mean", (lambda x: x.mean(0, keepdims=True), lambda t: t.mean(0, keepdim=True)), None),
    ("cumsum", same(lambda x: x.cumsum(-1)), None),
    ("prod", same(lambda x: x.tanh().prod(0)), None),
    ("softmax", same(lambda x: x.softmax(-1)), None),
    ("logsumexp", same(lambda x: x.logsumexp(-1)), "not empty"),
    ("exp, log", same(lambda x: (x.tanh().exp() + 1).log()), None),
    ("reshape", same(lambda x: x.reshape(-1)), None),
    ("new axis", same(lambda x: x[None]), None),
    ("slice", same(lambda x: x[..., ::2]), 1),
    ("pick twice", same(lambda x: x[[0, 0]]), "not empty"),
    ("max", (lambda x: x.max(), lambda t: t.amax()), "not empty"),
    ("transpose", same(lambda x: x.T), 2),
    ("gram", same(lambda x: (x @ x.mT).tanh()), 2),
    ("einsum i->i", einsum("i->i"), 1),
    ("einsum i->", einsum("i->"), 1),
    ("einsum ij->ji", einsum("ij->ji"), 2),
    ("einsum ij->i", einsum("ij->i"), 2),
    ("einsum kij->kj", einsum("kij->kj"), 3),
    ("expand", same(lambda x: x.expand(2, *x.shape)), None),
]
TWO = [
    ("add", same(lambda x, y: x + y)),
    ("mul", same(lambda x, y: x * y)),
    ("sub", same(lambda x, y: 0.5 * x - y)),
    ("div", same(lambda x, y: x / (y * y + 1))),
    ("maximum", (ops.maximum, torch.maximum)),
    ("stack", (lambda x, y: ops.stack([x + y, x * y], -1), lambda x, y: torch.stack([x + y, x * y], -1))),
    ("concat", (lambda x, y: ops.concat([x + y, x * y], 0), lambda x, y: torch.cat([x + y, x * y], 0))),
]


def fits(x, needed):
    if needed == "not empty":
        return x.size > 0 and x.ndim > 0
    return needed is None or x.ndim == needed


def broadcastable(a, b):
    return all(m == n or 1 in (m, n) for m, n in zip(a.shape[::-1], b.shape[::-1], strict=False))


def segment(x, w, v):
    """What is checkpointed: works on our tensors and on PyTorch's."""
    return (x * w).sin() * v + w.tanh().sum()


def build(rng):
    """Return the leaves and a scalar, each in both engines."""
    arrays = [rng.standard_normal(SHAPES[i]) for i in rng.integers(len(SHAPES), size=4)]
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    nodes, twins = list(ours), list(theirs)
    for _ in range(12):
        kind = rng.random()
        i, j, k = rng.integers(len(nodes), size=3)
        if kind < 0.55:
            _, (f, g), needed = ONE[rng.integers(len(ONE))]
            if not fits(nodes[i], needed):
                continue
            made, twin = f(nodes[i]), g(twins[i])
        elif kind < 0.85:
            _, (f, g) = TWO[rng.integers(len(TWO))]
            if not broadcastable(nodes[i], nodes[j]) or nodes[i].ndim == nodes[j].ndim == 0:
                continue
            made, twin = f(nodes[i], nodes[j]), g(twins[i], twins[j])
        else:  # parameters of a checkpointed segment are leaves
            w, v = rng.integers(len(ours), size=2)
            shapes = [nodes[i], ours[w], ours[v]]
            if not all(broadcastable(a, b) for a, b in product(shapes, shapes)):
                continue
            made = checkpoint(lambda x, w=w, v=v: segment(x, ours[w], ours[v]), nodes[i], list({ours[w], ours[v]}))
            twin = segment(twins[i], theirs[w], theirs[v])
        if made.size <= 200:
            nodes.append(made)
            twins.append(twin)
    picks = rng.integers(len(nodes), size=3)
    return ours, theirs, *(sum((each[p] * each[p]).sum() for p in picks) for each in (nodes, twins))


@pytest.mark.parametrize("block", range(10))
def test_gradients_of_any_subset_of_leaves_equal_pytorchs(block):
    checked = 0
    for seed in range(100 * block, 100 * block + 100):
        rng = np.random.default_rng(seed)
        ours, theirs, y, u = build(rng)
        assert y.shape == tuple(u.shape)
        np.testing.assert_allclose(y.data, u.numpy(force=True), rtol=1e-10, equal_nan=True)
        if not np.isfinite(y.item()):  # the mean of no numbers
            continue
        for _ in range(2):  # asked twice, for other subsets
            some = rng.permutation(4)[: rng.integers(1, 5)]
            found = grad(y, [ours[i] for i in some])
            expected = torch.autograd.grad(
                u, [theirs[i] for i in some], retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for a, b in zip(found, expected, strict=True):
                assert a.shape == tuple(b.shape)
                scale = 1 + (b.abs().max().item() if b.numel() else 0)
                np.testing.assert_allclose(a.data, b.numpy(), rtol=0, atol=1e-9 * scale, err_msg=f"seed {seed}")
        checked += 1
    assert checked >= 60
