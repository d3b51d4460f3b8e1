"""Chapter 4: our pooling equals PyTorch's, forwards and backwards.
第 4 章：我们的池化与 PyTorch 一致，前向与反向都是。
"""

import itertools

import pytest
import torch
import torch.nn.functional as F

from chapter_04_cnn_classic.conv.pooling import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    averaging_matrix,
    avg_pool2d,
    bins,
    max_pool2d,
)

KERNELS = [1, 2, 3, (2, 3), (5, 2)]
STRIDES = [None, 1, 2, (3, 1)]
PADDINGS = [0, (1, 0), (1, 1)]
SIZES = [(7, 9), (8, 8), (5, 11), (6, 7)]


def fits(kernel, padding):
    kernel, padding = ((n, n) if isinstance(n, int) else n for n in (kernel, padding))
    return all(2 * p <= k for k, p in zip(kernel, padding, strict=True))


WINDOWS = [case for case in itertools.product(KERNELS, STRIDES, PADDINGS) if fits(case[0], case[2])]
ADAPTIVE = list(itertools.product([(1, 1), (7, 7), (8, 5), (6, 11)], [1, 2, 3, (7, 5), (4, 1)]))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def check(ours, theirs, x):
    """Both give the same output and, for a random gradient of it, the same gradient of x."""
    x = x.requires_grad_()
    y, expected = ours(x), theirs(x)
    dy = torch.randn_like(expected)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    gradients = (torch.autograd.grad(out, x, dy)[0] for out in (y, expected))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
def test_windows_equal_pytorchs(batch, kernel, stride, padding):
    for size in SIZES:
        x = double(batch, 2, *size)
        for dilation in (1, 2):
            if kernel == (5, 2) and dilation == 2:  # spans 9 rows
                x = double(batch, 2, 11, 9)
            chosen = (kernel, stride, padding, dilation)
            check(lambda x, c=chosen: max_pool2d(x, *c), lambda x, c=chosen: F.max_pool2d(x, *c), x)
        for count in (True, False):
            check(
                lambda x, n=count: avg_pool2d(x, kernel, stride, padding, count_include_pad=n),
                lambda x, n=count: F.avg_pool2d(x, kernel, stride, padding, count_include_pad=n),
                x,
            )


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("size", "output_size"), ADAPTIVE)
def test_adaptive_pooling_equals_pytorchs(batch, size, output_size):
    x = double(batch, 2, *size)  # it may have fewer pixels than there are bins
    check(lambda x: adaptive_avg_pool2d(x, output_size), lambda x: F.adaptive_avg_pool2d(x, output_size), x)
    check(lambda x: adaptive_max_pool2d(x, output_size), lambda x: F.adaptive_max_pool2d(x, output_size), x)


def test_there_are_enough_combinations():
    assert len(WINDOWS) * len(SIZES) >= 60 and 2 * len(ADAPTIVE) >= 40


@pytest.mark.parametrize("kind", ["ties", "all -inf", "channels last"])
def test_special_pictures(kind):
    x = double(2, 3, 6, 6)
    if kind == "ties":
        x = torch.randint(3, x.shape).double()  # the first of equal numbers wins
    elif kind == "all -inf":
        x = torch.full_like(x, float("-inf"))
    else:
        x = x.to(memory_format=torch.channels_last)
    check(lambda x: max_pool2d(x, 3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1), x)
    check(lambda x: adaptive_max_pool2d(x, 4), lambda x: F.adaptive_max_pool2d(x, 4), x)


POOLS = {
    "max": lambda x: max_pool2d(x, 3, 2, 1),
    "average": lambda x: avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive max": lambda x: adaptive_max_pool2d(x, (3, 2)),
    "adaptive average": lambda x: adaptive_avg_pool2d(x, (3, 2)),
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_backward_passes_agree_with_small_differences(pool):
    assert torch.autograd.gradcheck(pool, double(2, 2, 5, 7).requires_grad_())


def test_bins():
    assert bins(5, 3) == [(0, 2), (1, 4), (3, 5)]
    assert bins(2, 4) == [(0, 1), (0, 1), (1, 2), (1, 2)]
    rows = averaging_matrix(5, 3, torch.empty(0, dtype=torch.float64))
    torch.testing.assert_close(rows[1], torch.tensor([0, 1, 1, 1, 0], dtype=torch.float64) / 3)


@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
def test_what_does_not_go_together_is_refused(pool):
    with pytest.raises(ValueError, match="does not fit"):
        pool(torch.zeros(1, 1, 3, 5), 4)
    with pytest.raises(ValueError, match="more than half"):
        pool(torch.zeros(1, 1, 5, 5), 3, padding=2)


@pytest.mark.parametrize(("size", "dilation"), [((1, 1), 2), ((1, 9), (2, 1)), ((2, 2), 3)])
def test_a_window_in_the_padding_alone_is_refused(size, dilation):
    """Its maximum would be minus infinity, and its gradient would go to a pixel that it does not see."""
    with pytest.raises(ValueError, match="lies in the padding"):
        max_pool2d(torch.ones(1, 1, *size), 2, 1, 1, dilation)


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_a_batch_of_0(pool):
    x = double(0, 2, 5, 7).requires_grad_()
    y = pool(x)
    assert y.shape == (0, 2, *pool(double(1, 2, 5, 7)).shape[2:])
    assert torch.autograd.grad(y.sum(), x)[0].shape == x.shape


def test_what_pytorch_refuses_too():
    x = double(1, 2, 5, 7)
    for call in (
        *(lambda: max_pool2d(x, 0), lambda: avg_pool2d(x, 2, 0), lambda: max_pool2d(x, 2, 1, -1)),
        *(lambda: adaptive_avg_pool2d(x, 0), lambda: adaptive_max_pool2d(x[:, :, :0], 2), lambda: max_pool2d(x[0], 2)),
    ):
        with pytest.raises(ValueError, match="out of range|should be"):
            call()
