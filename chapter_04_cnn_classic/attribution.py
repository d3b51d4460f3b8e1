"""What a network looks at, and what each of its units looks for.
网络在看哪里，以及它的每个单元在找什么。

A `score` is any function from inputs (B, C, H, W) to numbers (B,), each of its own input alone: a class's logit, or a
unit of a hidden layer. A network with batch norm has to be in eval mode for that.
"""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from chapter_03_optimization_regularization.optimizers import Adam

Score = Callable[[Tensor], Tensor]


def input_gradient(score: Score, x: Tensor) -> Tensor:
    """Return by how much the score rises per unit of each input: (B, C, H, W). Simonyan et al. 2013, section 3."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(score(x).sum(), x)[0]


def saliency(gradient: Tensor) -> Tensor:
    """Return the largest size over the colours: (B, C, H, W) -> (B, H, W)."""
    return gradient.abs().amax(dim=1)


def smooth_saliency(score: Score, x: Tensor, noise: float, samples: int) -> Tensor:
    """Return the root mean square gradient over noisy copies of x, and over the colours: (B, H, W).

    From one picture to the next, which looks the same to us, the gradient of a ReLU network jumps. So average it
    (SmoothGrad, Smilkov et al. 2017), and its square, lest opposite signs cancel (Hooker et al. 2019, section 4.2).
    """
    squares = (input_gradient(score, x + noise * torch.randn_like(x)).square() for _ in range(samples))
    return (sum(squares) / samples).mean(dim=1).sqrt()


@torch.no_grad()
def occlusion(
    score: Score, x: Tensor, size: int = 8, stride: int = 2, fill: float = 0.0, chunk: int = 256
) -> tuple[Tensor, Tensor]:
    """Hide one square of x (C, H, W) after the other, and see the score fall (Zeiler & Fergus 2013, section 4.2).

    A square of `fill` covers x at every `stride`-th place, also across the edges. `stride` is at most `size`.

    Returns:
        each square's fall (R, Q), row by row; and for each pixel the mean over the squares that hide it (H, W).
    """
    rows, columns = (_intervals(length, size, stride, x.device) for length in x.shape[1:])  # (R, H), (Q, W)
    hidden = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)  # (R * Q, H, W)
    after = torch.cat([score(x.masked_fill(part[:, None], fill)) for part in hidden.split(chunk)])  # (R * Q,)
    falls = score(x[None]) - after
    means = torch.einsum("n,nhw->hw", falls, hidden.to(falls.dtype)) / hidden.sum(dim=0)  # (H, W)
    return falls.view(len(rows), len(columns)), means


def _intervals(length: int, size: int, stride: int, device: torch.device) -> Tensor:
    """Tell which of `length` pixels each interval of `size` covers: the first and the last jut out (I, length)."""
    starts = torch.arange(stride - size, length, stride, device=device)[:, None]
    pixels = torch.arange(length, device=device)
    return (starts <= pixels) & (pixels < starts + size)


def maximise(
    score: Score,
    count: int,
    side: int,
    steps: int,
    lr: float = 0.1,
    decay: float = 0.0,
    jitter: int = 0,
    colours: Tensor | None = None,
) -> Tensor:
    """Draw `count` pictures (count, 3, side, side), from 0 to 1, that raise the score as far as they can.

    Gradient ascent on pixels finds noise. What makes pictures of it: the parameters are waves, with less weight the
    finer they are (Olah et al. 2017); each step moves the picture by up to `jitter` pixels; `decay` is the pull towards
    grey, which holds wherever the score does not care.

    Args:
        colours: (3, 3), a mixture of red, green and blue in each column; by default each of them alone.
    """
    waves = 0.1 * torch.randn(count, 3, side, side // 2 + 1, 2)
    colours = torch.eye(3) if colours is None else colours
    waves = waves.to(colours.device).requires_grad_()
    optimizer = Adam([waves], lr=lr)
    for _ in range(steps):
        # forward, loss
        move = torch.randint(-jitter, jitter + 1, (2,)).tolist()
        loss = decay * waves.square().sum() - score(paint(waves, side, colours).roll(move, (2, 3))).sum()
        # backward
        (waves.grad,) = torch.autograd.grad(loss, waves)  # the network's parameters get none
        # step
        optimizer.step()
    return paint(waves, side, colours).detach()


def leaky_twin(model: nn.Module, slope: float = 0.1) -> nn.Module:
    """Return a copy whose ReLUs leak: a unit that is shut has no gradient, and `maximise` could not open it."""
    twin = copy.deepcopy(model)
    for parent in list(twin.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.ReLU):
                setattr(parent, name, nn.LeakyReLU(slope))
    return twin


def paint(waves: Tensor, side: int, colours: Tensor) -> Tensor:
    """Return the pictures (B, 3, side, side), from 0 to 1, that the waves (B, 3, side, side // 2 + 1, 2) add up to.

    In photographs a wave's height falls as 1/frequency. Here the same factor makes Adam's equal steps larger for coarse
    waves than for fine ones.
    照片中波的振幅按 1/频率 下降。这里乘上同样的因子，Adam 的等长步子对粗的波就大，对细的波就小。
    """
    down, across = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)  # in waves per pixel
    frequency = torch.hypot(down[:, None], across).clamp(min=1 / side).to(waves.device)
    mixture = torch.fft.irfft2(torch.view_as_complex(waves) / frequency, s=(side, side), norm="ortho")
    return torch.einsum("dc,bchw->bdhw", colours, mixture / 8).sigmoid()


def colour_axes(images: Tensor) -> Tensor:
    """Return the main colour directions of pictures (N, 3, H, W) as columns (3, 3), the longest of length 1.

    Photographs vary most in brightness, much less from blue to yellow, least from green to purple.
    """
    pixels = images.movedim(1, -1).reshape(-1, 3).float()
    variances, directions = torch.linalg.eigh(torch.cov(pixels.T))  # (3,), (3, 3)
    return directions * (variances / variances[-1]).sqrt()


@torch.no_grad()
def top_places(maps: Callable[[Tensor], Tensor], inputs: Iterable[Tensor], channels: list[int], count: int) -> dict:
    """Find where the channels K of feature maps (B, C, h, w) are largest, at most once in each picture.

    Args:
        inputs: parts of a data set, in its order.

    Returns:
        values and, as indices, picture, row and column: (K, count) each, the largest first.
    """
    values, places, width = [], [], 1
    for x in inputs:
        found = maps(x)[:, channels]  # (B, K, h, w)
        width = found.shape[3]
        peaks = found.flatten(2).max(dim=2)  # (B, K)
        values.append(peaks.values)
        places.append(peaks.indices)
    best = torch.cat(values).T.topk(count, dim=1)  # (K, count)
    place = torch.cat(places).T.gather(1, best.indices)
    return {"values": best.values, "picture": best.indices, "row": place // width, "column": place % width}
