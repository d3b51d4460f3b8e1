"""Convolution with fewer multiplications: in the frequency domain, and by Winograd's tiles.
乘法更少的卷积：频域方法与 Winograd 分块算法。

Both follow one recipe: transform picture and kernel, multiply number by number, transform back. All is plain tensor
arithmetic, so autograd differentiates it.
两者是同一个套路：先变换图像和卷积核，再逐元素相乘，最后变换回来。
"""

from collections.abc import Callable

import torch
from torch import Tensor

from chapter_04_cnn_classic.conv.conv2d import BUFFER
from chapter_04_cnn_classic.conv.geometry import Pair, check_convolution, output_sizes, pad, pair, windows


def conv2d_fft(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Compute `F.conv2d` by the correlation theorem (Mathieu et al. 2014): Y(f) = X(f) conj(W(f)) at each frequency.

    The cost does not depend on the kernel's size. A stride saves nothing: all places are computed, then some are kept.
    x (B, C, H, W), weight (O, C/groups, kH, kW), bias (O,) -> (B, O, H', W').
    """
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    check_convolution(x, weight, bias, stride, padding, dilation, groups)
    (sh, sw), (dh, dw) = stride, dilation
    x = pad(x, padding)
    height, width = output_sizes(x, weight, (1, 1), (dh, dw))
    n_out, c_in, kh, kw = weight.shape
    kernel = weight.new_zeros(n_out, c_in, dh * (kh - 1) + 1, dw * (kw - 1) + 1)
    kernel[:, :, ::dh, ::dw] = weight  # dilation, literally: zeros between the weights

    # The transform takes the picture for periodic. Windows that fit into it never wrap around: those are all we keep.
    # 离散傅里叶变换把图像当作周期的；完全落在图内的窗口不会绕回另一侧，而我们只保留这些窗口。
    size, batch = tuple(map(fast_size, x.shape[2:])), len(x)
    x = x if batch else torch.cat([x, x.new_zeros(1, *x.shape[1:])])  # FFT libraries refuse an empty batch
    X, W = torch.fft.rfft2(x, s=size), torch.fft.rfft2(kernel, s=size)  # (B, C, *F), (O, C/G, *F); F: frequencies
    X = X.unflatten(1, (groups, c_in)).permute(3, 4, 1, 0, 2)  # (*F, G, B, C/G)
    W = W.unflatten(0, (groups, n_out // groups)).permute(3, 4, 0, 2, 1)  # (*F, G, C/G, O/G)
    Y = (X @ W.conj()).permute(3, 2, 4, 0, 1).flatten(1, 2)  # (*F, G, B, O/G) -> (B, O, *F)
    y = torch.fft.irfft2(Y, s=size)[:batch, :, :height:sh, :width:sw]  # (B, O, H', W')
    return y.contiguous() if bias is None else y + bias[:, None, None]


def fast_size(n: int) -> int:
    """Return the first number from n on without a prime factor above 5, such as 36 for 34: those transform fast."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def conv2d_winograd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Compute `F.conv2d` for 3x3 kernels by Winograd's F(2x2, 3x3) (Lavin & Gray 2016, equations 8 to 12).

    Tiles of 4x4 inputs, two apart, give 2x2 outputs each, by 16 multiplications where the definition needs 36.
    x (B, C, H, W), weight (O, C/groups, 3, 3), bias (O,) -> (B, O, H', W'). Raises ValueError for other kernels,
    strides or dilations.
    """
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    check_convolution(x, weight, bias, stride, padding, dilation, groups)
    if tuple(weight.shape[2:]) != (3, 3) or stride != (1, 1) or dilation != (1, 1):
        raise ValueError(
            f"Winograd's F(2x2, 3x3) takes 3x3 kernels with stride 1 and dilation 1, not a kernel of "
            f"{tuple(weight.shape[2:])} with stride {stride} and dilation {dilation}"
        )
    x = pad(x, padding)
    n_out, c_in = weight.shape[:2]
    height, width = output_sizes(x, weight, (1, 1), (1, 1))
    if height % 2 or width % 2:  # tiles give two rows and columns each: add what the last one lacks
        x = torch.cat([x, x.new_zeros(*x.shape[:2], 1, x.shape[3])], dim=2) if height % 2 else x
        x = torch.cat([x, x.new_zeros(*x.shape[:3], 1)], dim=3) if width % 2 else x
    tiles = windows(x, (4, 4), stride=(2, 2))  # (B, C, 4, 4, H'/2, W'/2)

    U = torch.stack(_both_axes(_kernel_transform, weight))  # (16, O, C/G)
    U = U.view(16, 1, groups, n_out // groups, c_in)
    images = max(1, BUFFER // max(1, 2 * tiles.shape[1:].numel()))  # so that tiles and transforms stay in the cache
    y = []
    for few in tiles.split(images):
        n, th, tw = len(few), *few.shape[4:]
        V = torch.stack(_both_axes(_input_transform, few.contiguous()))  # (16, n, C, H'/2, W'/2)
        M = U @ V.view(16, n, groups, c_in, th * tw)  # (16, n, G, O/G, H'/2 W'/2)
        M = M.view(4, 4, n, n_out, th, tw).permute(2, 3, 0, 1, 4, 5)  # (n, O, 4, 4, H'/2, W'/2)
        Y = x.new_empty(n, n_out, 2 * th, 2 * tw)
        Y[..., 0::2, 0::2], Y[..., 0::2, 1::2], Y[..., 1::2, 0::2], Y[..., 1::2, 1::2] = _both_axes(
            _output_transform, M
        )
        y.append(Y[:, :, :height, :width])
    y = torch.cat(y)
    return y if bias is None else y + bias[:, None, None]


def _both_axes(transform: Callable[..., tuple[Tensor, ...]], x: Tensor) -> list[Tensor]:
    """Apply a transform of one axis to the rows, then to the columns: x (B, C, m, m, ...) -> tensors (B, C, ...)."""
    return [part for row in transform(*x.unbind(2)) for part in transform(*row.unbind(2))]


def _input_transform(d0: Tensor, d1: Tensor, d2: Tensor, d3: Tensor) -> tuple[Tensor, ...]:
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


def _kernel_transform(g0: Tensor, g1: Tensor, g2: Tensor) -> tuple[Tensor, ...]:
    return g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2


def _output_transform(m0: Tensor, m1: Tensor, m2: Tensor, m3: Tensor) -> tuple[Tensor, ...]:
    return m0 + m1 + m2, m1 - m2 - m3
