"""Pooling: maximum and average over windows or over a given number of bins, with backward passes by hand.
池化：对滑动窗口或给定数目的格子取最大值、平均值，反向传播全部手写。

A maximum sends its gradient to the one place that won. An average gives each place it looked at an equal share.
最大值把梯度全部交给胜出的那个位置；平均值把梯度平分给它看过的每个位置。
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chapter_04_cnn_classic.conv.geometry import Pair, add_windows_, check_settings, crop, pad, pair, windows


def max_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
) -> Tensor:
    """Compute `F.max_pool2d`: x (B, C, H, W) -> (B, C, H', W'). Without a stride, windows lie side by side.

    Raises ValueError where a window does not fit, or could lie in the padding alone.
    """
    kernel, padding, dilation = pair(kernel_size), pair(padding), pair(dilation)
    stride = kernel if stride is None else pair(stride)
    _check(x, kernel, stride, padding, dilation)
    return _MaxPool.apply(x, kernel, stride, padding, dilation)


def avg_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    count_include_pad: bool = True,
) -> Tensor:
    """Compute `F.avg_pool2d`: x (B, C, H, W) -> (B, C, H', W').

    PyTorch counts the padding's zeros unless told otherwise, which darkens the border. Raises ValueError as
    `max_pool2d` does.
    """
    kernel, padding = pair(kernel_size), pair(padding)
    stride = kernel if stride is None else pair(stride)
    _check(x, kernel, stride, padding, (1, 1))
    return _AvgPool.apply(x, kernel, stride, padding, count_include_pad)


def adaptive_max_pool2d(x: Tensor, output_size: int | Pair) -> Tensor:
    """Compute `F.adaptive_max_pool2d`: the maximum of each of H' x W' bins, whatever the size of x (B, C, H, W)."""
    _check_adaptive(x, pair(output_size))
    return _AdaptiveMaxPool.apply(x, pair(output_size))


def adaptive_avg_pool2d(x: Tensor, output_size: int | Pair) -> Tensor:
    """Compute `F.adaptive_avg_pool2d`: x (B, C, H, W) -> (B, C, H', W'); H' = W' = 1 is global average pooling."""
    _check_adaptive(x, pair(output_size))
    return _AdaptiveAvgPool.apply(x, pair(output_size))


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
        view = windows(pad(x, padding, float("-inf")), kernel, stride, dilation)
        values, winner = view.flatten(2, 3).max(dim=2)  # (B, C, kH kW, H', W') -> (B, C, H', W'), twice
        rows, columns = (torch.arange(n, device=x.device) for n in values.shape[2:])
        rows = rows[:, None] * stride[0] - padding[0] + winner // kernel[1] * dilation[0]
        columns = columns * stride[1] - padding[1] + winner % kernel[1] * dilation[1]
        # The border wins only over numbers that are all -inf themselves; the clamp keeps even those places in the map.
        places = rows.clamp(0, x.shape[2] - 1) * x.shape[3] + columns.clamp(0, x.shape[3] - 1)
        ctx.save_for_backward(places)  # (B, C, H', W'): where in a map of H W numbers each maximum stood
        ctx.shape = x.shape
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        return _scatter_to_maxima(dy, *ctx.saved_tensors, ctx.shape), None, None, None, None


class _AdaptiveMaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, size: Pair) -> Tensor:
        values = x.new_empty(*x.shape[:2], *size)
        places = torch.empty_like(values, dtype=torch.int64)
        for i, (top, bottom) in enumerate(bins(x.shape[2], size[0])):
            for j, (left, right) in enumerate(bins(x.shape[3], size[1])):
                values[:, :, i, j], winner = x[:, :, top:bottom, left:right].flatten(2).max(dim=2)  # (B, C)
                row, column = winner // (right - left), winner % (right - left)
                places[:, :, i, j] = (top + row) * x.shape[3] + left + column
        ctx.save_for_backward(places)
        ctx.shape = x.shape
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        return _scatter_to_maxima(dy, *ctx.saved_tensors, ctx.shape), None


def _scatter_to_maxima(dy: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """Add each of dy (B, C, H', W') where its maximum stood; windows that overlap may share a maximum."""
    dx = dy.new_zeros(*shape[:2], shape[2:].numel())  # (B, C, H W)
    return dx.scatter_add_(2, places.flatten(2), dy.flatten(2)).view(shape)


class _AvgPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool) -> Tensor:
        count = kernel[0] * kernel[1]
        if not count_include_pad:
            ones = x.new_ones(1, 1, *x.shape[2:])
            count = windows(pad(ones, padding), kernel, stride).sum((2, 3))  # (1, 1, H', W'), less at the border
        ctx.shape, ctx.kernel, ctx.stride, ctx.padding, ctx.count = x.shape, kernel, stride, padding, count
        return windows(pad(x, padding), kernel, stride).sum((2, 3)) / count  # (B, C, H', W')

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        dx = pad(dy.new_zeros(ctx.shape), ctx.padding)
        share = (dy / ctx.count)[:, :, None, None]  # (B, C, 1, 1, H', W')
        add_windows_(dx, share.expand(-1, -1, *ctx.kernel, -1, -1), ctx.stride)
        return crop(dx, ctx.padding), None, None, None, None


class _AdaptiveAvgPool(torch.autograd.Function):
    """Averages over rows and over columns are independent: two small matrices, forwards and transposed backwards."""

    @staticmethod
    def forward(ctx, x: Tensor, size: Pair) -> Tensor:
        rows, columns = (averaging_matrix(n, parts, x) for n, parts in zip(x.shape[2:], size, strict=True))
        ctx.save_for_backward(rows, columns)
        return rows @ x @ columns.T  # (H', H) (B, C, H, W) (W, W') -> (B, C, H', W')

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns = ctx.saved_tensors
        return rows.T @ dy @ columns, None  # (B, C, H, W)


def bins(size: int, parts: int) -> list[tuple[int, int]]:
    """Return where each of `parts` bins begins and ends: whole pixels, so bins of 5 in 3 are 0-2, 1-4 and 3-5."""
    return [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]  # rounded down, rounded up


def averaging_matrix(size: int, parts: int, like: Tensor) -> Tensor:
    """Return the matrix (parts, size) whose product with a column of numbers is the average of each bin."""
    matrix = like.new_zeros(parts, size)
    for i, (start, end) in enumerate(bins(size, parts)):
        matrix[i, start:end] = 1 / (end - start)
    return matrix


def _check(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> None:
    check_settings(kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    if x.ndim != 4:
        raise ValueError(f"x should be (B, C, H, W), not {tuple(x.shape)}")
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        if n + 2 * p < d * (k - 1) + 1:
            raise ValueError(f"a window of {kernel} does not fit into {tuple(x.shape[2:])} padded by {padding}")
        if 2 * p > k:
            raise ValueError(f"padding {padding} is more than half of the window {kernel}")
        for first in range(-p, n + p - d * (k - 1), s):  # where windows begin
            if not any(0 <= place < n for place in range(first, first + d * k, d)):
                raise ValueError(f"a window of {kernel} with dilation {dilation} lies in the padding {padding} alone")


def _check_adaptive(x: Tensor, size: Pair) -> None:
    check_settings(size=size)
    if x.ndim != 4 or min(x.shape[2:]) < 1:
        raise ValueError(f"x should be (B, C, H, W) with at least one pixel, not {tuple(x.shape)}")
