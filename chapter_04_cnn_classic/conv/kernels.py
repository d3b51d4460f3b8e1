"""Kernels with a name, and cross-correlation of single maps and rows with them.
有名字的卷积核，以及用它们对单张图、单行数做互相关。
"""

import torch
from torch import Tensor

from chapter_04_cnn_classic.conv.conv2d import conv2d_im2col

F64 = {"dtype": torch.float64}
BINOMIAL = torch.tensor([1, 6, 15, 20, 15, 6, 1], **F64) / 64  # close to a Gaussian of deviation 1.2
KERNELS = {  # five to see in colour, three that look for edges
    "identity": torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0]], **F64),
    "box blur": torch.ones(7, 7, **F64) / 49,
    "Gaussian blur": torch.outer(BINOMIAL, BINOMIAL),
    "sharpen": torch.tensor([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], **F64),
    "emboss": torch.tensor([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], **F64),
    "Sobel, across": torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], **F64),
    "Sobel, down": torch.tensor([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], **F64),
    "Laplacian": torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]], **F64),
}
LUMINANCE = torch.tensor([0.299, 0.587, 0.114], **F64)  # how bright red, green and blue look


def convolve(x: Tensor, kernel: Tensor, **settings: int) -> Tensor:
    """Cross-correlate one map x (H, W) with one kernel (kH, kW)."""
    return conv2d_im2col(x[None, None], kernel[None, None], **settings)[0, 0]


def correlate(x: Tensor, w: Tensor, stride: int = 1, padding: int = 0, dilation: int = 1) -> Tensor:
    """The same in one dimension: x (n,), w (k,)."""
    return convolve(x[None], w[None], stride=(1, stride), padding=(0, padding), dilation=(1, dilation))[0]


def peak(y: Tensor) -> tuple[int, int]:
    """Return row and column of the largest number of y (H, W)."""
    return divmod(y.argmax().item(), y.shape[1])


def most_varied_window(picture: Tensor, size: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut out the window of largest variance, minus its mean, and return it with its place.

    As a kernel k on a window v it gives k . v = k . (v - mean) <= |k| |v - mean| <= |k| |k|, and k . k on itself.
    """
    mean = torch.full((size, size), 1 / size**2).to(picture)
    i, j = peak(convolve(picture**2, mean) - convolve(picture, mean) ** 2)
    piece = picture[i : i + size, j : j + size]
    return piece - piece.mean(), (i, j)
