"""Two-dimensional convolution: by its definition, and as one matrix product; forwards, backwards and transposed.
二维卷积：按定义计算，以及化为一次矩阵乘法；前向、反向与转置。

With kernel w, stride s, padding p and dilation d (one axis shown, the other is alike) the definition is

    y[o, i] = bias[o] + sum over c, u of  w[o, c, u] x[c, s i + d u - p]

x[a] is read by every y[i] with s i + d u - p = a for some u. So the gradient flows back along the same wires:

    dL/dx[c, a]    = sum over o and all (i, u) with s i + d u - p = a of  w[o, c, u] dL/dy[o, i]
    dL/dw[o, c, u] = sum over i of  dL/dy[o, i] x[c, s i + d u - p]

正向时每个输出从窗口里收集像素；反向时每个输出把梯度按同样的权重散回它读过的像素，这就是转置卷积。

The first line is the transposed convolution of dL/dy. The second is, like y itself, a matrix product with the columns
that im2col gathers. Three functions, `_gather`, `_scatter` and `_correlate`, are thus the two operations and both
their backward passes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chapter_04_cnn_classic.conv.geometry import (
    Pair,
    add_windows_,
    check_convolution,
    crop,
    output_sizes,
    pad,
    pair,
    windows,
)

BUFFER = 2**20  # numbers in the buffer of columns; at 4 MB it stays in the cache of most processors


def conv2d_loops(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Compute `F.conv2d` as it is defined, one channel at one place at a time: slow, and the measure of all others.

    x (B, C, H, W), weight (O, C/groups, kH, kW), bias (O,) -> (B, O, H', W').
    """
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    check_convolution(x, weight, bias, stride, padding, dilation, groups)
    (sh, sw), (dh, dw) = stride, dilation
    x = pad(x, padding)
    n_out, c_in, kh, kw = weight.shape  # each output channel sees the c_in = C/groups channels of its group
    height, width = output_sizes(x, weight, stride, dilation)
    y = x.new_empty(len(x), n_out, height, width)
    for o in range(n_out):
        first = o // (n_out // groups) * c_in
        for i in range(height):
            for j in range(width):
                rows = slice(sh * i, sh * i + dh * (kh - 1) + 1, dh)
                columns = slice(sw * j, sw * j + dw * (kw - 1) + 1, dw)
                window = x[:, first : first + c_in, rows, columns]  # (B, C/groups, kH, kW)
                y[:, o, i, j] = (window * weight[o]).sum((1, 2, 3))  # (B,)
    return y if bias is None else y + bias[:, None, None]


def conv2d_im2col(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    images: int | None = None,
) -> Tensor:
    """Compute `F.conv2d` by writing every window into a column of a matrix (Chellapilla et al. 2006): see `Im2colConv`.

    `images` go through the buffer of columns at a time; by default as many as `BUFFER` has room for.
    """
    return Im2colConv.apply(x, weight, bias, pair(stride), pair(padding), pair(dilation), groups, images)


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Tensor:
    """Compute `F.conv_transpose2d`: each number of x adds a kernel, scaled by it, to the output.

    x (B, C, H, W), weight (C, O/groups, kH, kW), bias (O,) -> (B, O, H', W') with
    H' = (H - 1) stride - 2 padding + dilation (kH - 1) + 1 + output_padding. A convolution with a stride rounds its
    output size down; output_padding says which of the input sizes is meant.
    """
    return TransposedConv.apply(
        x, weight, bias, pair(stride), pair(padding), pair(output_padding), groups, pair(dilation)
    )


class Im2colConv(torch.autograd.Function):
    """Convolution whose forward and backward passes are matrix products over gathered columns."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
        images: int | None = None,
    ) -> Tensor:
        check_convolution(x, weight, bias, stride, padding, dilation, groups)
        ctx.save_for_backward(x, weight)
        ctx.settings = stride, padding, dilation, groups
        y = _gather(pad(x, padding), weight, stride, dilation, groups, images)
        return y if bias is None else y.add_(bias[:, None, None])

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        dx, dweight, dbias = None, None, None
        if ctx.needs_input_grad[0]:
            height, width = (size + 2 * p for size, p in zip(x.shape[2:], padding, strict=True))
            dx = crop(_scatter(dy, weight, (height, width), stride, dilation, groups), padding)
        if ctx.needs_input_grad[1]:
            dweight = _correlate(pad(x, padding), dy, weight.shape, stride, dilation, groups)
        if ctx.needs_input_grad[2]:
            dbias = dy.sum((0, 2, 3))
        return dx, dweight, dbias, None, None, None, None, None


class TransposedConv(torch.autograd.Function):
    """The same three functions in other roles: what was backward is forward now."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        output_padding: Pair,
        groups: int,
        dilation: Pair,
    ) -> Tensor:
        check_convolution(x, weight, bias, stride, padding, dilation, groups, transposed=True)
        steps = zip(x.shape[2:], weight.shape[2:], stride, dilation, strict=True)
        reach = [(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in steps]  # what x's kernels cover
        size = tuple(n + extra for n, extra in zip(reach, output_padding, strict=True))
        if any(e < 0 or e >= max(s, d) for e, s, d in zip(output_padding, stride, dilation, strict=True)):
            raise ValueError(f"output_padding {output_padding} is not from 0 to less than the stride or the dilation")
        if any(n <= 2 * p for n, p in zip(size, padding, strict=True)):
            raise ValueError(f"padding {padding} leaves nothing of an output of {size}")
        ctx.save_for_backward(x, weight)
        ctx.settings = stride, padding, dilation, groups, reach
        y = crop(_scatter(x, weight, size, stride, dilation, groups), padding)
        return y if bias is None else y + bias[:, None, None]

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups, (height, width) = ctx.settings
        padded = pad(dy, padding)[:, :, :height, :width]
        dx, dweight, dbias = None, None, None
        if ctx.needs_input_grad[0]:
            dx = _gather(padded, weight, stride, dilation, groups)
        if ctx.needs_input_grad[1]:
            dweight = _correlate(padded, x, weight.shape, stride, dilation, groups)
        if ctx.needs_input_grad[2]:
            dbias = dy.sum((0, 2, 3))
        return dx, dweight, dbias, None, None, None, None, None


def _gather(x: Tensor, weight: Tensor, stride: Pair, dilation: Pair, groups: int, images: int | None = None) -> Tensor:
    """Convolve a padded x (B, C, H, W) with weight (O, C/groups, kH, kW) -> (B, O, H', W')."""
    height, width = output_sizes(x, weight, stride, dilation)
    y = x.new_empty(len(x), groups, len(weight) // groups, height * width)
    rows = weight.reshape(groups, len(weight) // groups, -1)  # (G, O/G, C/G kH kW)
    for few, columns in _columns(x, weight.shape[2:], stride, dilation, groups, images):
        torch.matmul(rows, columns, out=y[few])  # (n, G, O/G, H' W')
    return y.view(len(x), len(weight), height, width)


def _scatter(y: Tensor, weight: Tensor, size: Pair, stride: Pair, dilation: Pair, groups: int) -> Tensor:
    """Transpose `_gather`: y (B, O, H', W') and weight (O, C/groups, kH, kW) -> x (B, C, *size)."""
    b, n_out, height, width = y.shape
    _, c_in, kh, kw = weight.shape
    x = y.new_zeros(b, groups * c_in, *size)
    rows = weight.reshape(groups, n_out // groups, -1).transpose(1, 2)  # (G, C/G kH kW, O/G)
    y = y.reshape(b, groups, n_out // groups, height * width)
    images = max(1, BUFFER // max(1, groups * rows.shape[1] * height * width))
    for start in range(0, b, images):
        few = slice(start, start + images)
        columns = (rows @ y[few]).view(-1, groups * c_in, kh, kw, height, width)  # (n, C, kH, kW, H', W')
        add_windows_(x[few], columns, stride, dilation)
    return x


def _correlate(x: Tensor, dy: Tensor, shape: torch.Size, stride: Pair, dilation: Pair, groups: int) -> Tensor:
    """Return the gradient of a weight of this shape, from a padded x (B, C, H, W) and dy (B, O, H', W')."""
    dy = dy.reshape(len(dy), groups, dy.shape[1] // groups, dy.shape[2:].numel())  # (B, G, O/G, H' W')
    dweight = x.new_zeros(groups, dy.shape[2], shape[1:].numel())
    for few, columns in _columns(x, shape[2:], stride, dilation, groups):
        dweight += (dy[few] @ columns.transpose(2, 3)).sum(0)  # (G, O/G, C/G kH kW)
    return dweight.view(shape)


def _columns(
    x: Tensor, kernel: Pair, stride: Pair, dilation: Pair, groups: int, images: int | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the columns (n, G, C/G kH kW, H' W') of a few images at a time, each time in the same buffer.

    The columns of a 3x3 kernel are nine times as large as x. A few images' worth stays in the cache between the copy
    that writes it and the product that reads it; the whole batch's would go to memory and back.
    """
    view = windows(x, kernel, stride, dilation)
    images = images or max(1, BUFFER // max(1, view.shape[1:].numel()))
    buffer = x.new_empty(min(images, len(x)), *view.shape[1:])
    for start in range(0, len(x), images):
        few = view[start : start + images]
        columns = buffer[: len(few)].copy_(few)
        yield slice(start, start + images), columns.view(len(few), groups, -1, few.shape[-2:].numel())
