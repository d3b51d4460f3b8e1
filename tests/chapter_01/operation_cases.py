"""Every operation of chapter 1's engine with its counterpart in PyTorch, on awkward shapes.
第 1 章引擎的每一种运算，以及与之对应的 PyTorch 写法，覆盖各种容易出错的形状。
"""

import numpy as np
import pytest
import torch

from chapter_01_tensor_autograd.engine import Tensor, ops

F = torch.nn.functional
LABELS = np.array([2, 0, 3, 3, 1])
IDS = np.array([[0, 2, 2], [4, 0, 1]])
MASK = np.array([[True, False, True, False]])


def normal(*shape):
    return lambda rng: rng.standard_normal(shape)


def positive(*shape):
    return lambda rng: rng.random(shape) + 0.5


def with_zeros(*shape):
    """Two zeros in the first row, one in the second, none in the others."""

    def make(rng):
        x = rng.standard_normal(shape)
        x[0, :2], x[1, 1] = 0, 0
        return x

    return make


def well_conditioned(*shape):
    return lambda rng: rng.standard_normal(shape) + 3 * np.eye(shape[-1])


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
    ("remainder", lambda x, y: x % y, None, [normal(3, 4), positive(4)]),
    ("remainder", lambda x: x % -0.7, None, [normal(5)]),
    ("remainder", lambda x: 2.0 % x, lambda x: torch.remainder(torch.tensor(2.0, dtype=x.dtype), x), [positive(5)]),
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
    ("arctan", lambda x: x.arctan(), None, [normal(2, 3)]),
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
    ("cumsum", lambda x: ops.cumsum(x, 1), lambda x: x.cumsum(1), [normal(2, 3, 2)]),
    ("cumsum", lambda x: x.cumsum(-1), None, [normal(4)]),
    ("cumsum", lambda x: x.cumsum(), lambda x: x.flatten().cumsum(0), [normal(2, 3)]),
    ("prod", lambda x: ops.prod(x, -1), lambda x: x.prod(-1), [with_zeros(3, 4)]),
    ("prod", lambda x: ops.prod(x, 0, keepdims=True), lambda x: x.prod(0, keepdim=True), [with_zeros(3, 4)]),
    ("prod", lambda x: x.prod(), None, [normal(2, 3)]),
    ("prod", lambda x: ops.prod(x, 1), lambda x: x.prod(1), [positive(2, 3, 2)]),
    ("norm", lambda x: x.norm(), None, [normal(2, 3)]),
    ("norm", lambda x: ops.norm(x, 1), lambda x: x.norm(dim=1), [normal(2, 3, 2)]),
    ("norm", lambda x: ops.norm(x, (0, -1), True), lambda x: x.norm(dim=(0, -1), keepdim=True), [normal(2, 3, 2)]),
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
    ("astype", lambda x: x.astype(np.float16).astype(x.dtype), lambda x: x.half().to(x.dtype), [normal(3)]),
    ("expand", lambda x: x.expand((4, 2, 3)), None, [normal(2, 1)]),
    ("expand", lambda x: x.expand(2, 3), None, [normal()]),
    ("sum_to", lambda x: ops.sum_to(x, (3, 1)), lambda x: x.sum_to_size(3, 1), [normal(2, 3, 4)]),
    ("reshape", lambda x: x.reshape((4, -1)), None, [normal(2, 6)]),
    ("reshape", lambda x: x.reshape(3, 1), None, [normal(3)]),
    ("reshape", lambda x: x.T.reshape(-1), None, [normal(2, 3)]),
    ("permute", lambda x: x.permute((2, 0, -2)), None, [normal(2, 3, 4)]),
    ("permute", lambda x: x.permute(1, 0), None, [normal(2, 3)]),
    ("permute", lambda x: x.mT, None, [normal(2, 3, 4)]),
    ("permute", lambda x: x.T, lambda x: x, [normal(3)]),
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
    ("einsum", lambda x: ops.einsum("ij->ji", x), lambda x: x.T, [normal(3, 4)]),
    ("einsum", lambda x: ops.einsum("ij->", x), lambda x: x.sum(), [normal(3, 4)]),
    ("solve", lambda a, b: ops.solve(a, b), torch.linalg.solve, [well_conditioned(3, 3), normal(3, 2)]),
    ("solve", lambda a, b: ops.solve(a, b), torch.linalg.solve, [well_conditioned(4, 4), normal(4)]),
    ("solve", ops.solve, torch.linalg.solve, [well_conditioned(2, 1, 3, 3), normal(4, 3, 1)]),
]

each_case = pytest.mark.parametrize(
    "name, ours, theirs, shapes", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)


def make_inputs(shapes):
    rng = np.random.default_rng(0)
    return [Tensor(make(rng), requires_grad=True) for make in shapes]
