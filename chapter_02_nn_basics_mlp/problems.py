"""What the chapter's MLP learns: three functions, known from points, and ten kinds of picture.
本章的 MLP 学什么：三个由采样点给出的函数，以及十类图片。
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from chapter_01_tensor_autograd.dataset import FASHION_CLASSES, normalise, split_fashion_mnist
from chapter_02_nn_basics_mlp import dataset
from utils.shapes import CLASSES, shapes

OFFLINE = "--dataset shapes needs no download"

Points = tuple[Tensor, Tensor]  # inputs (N, D), with targets (N, 1) or labels (N,)


@dataclass
class Problem:
    name: str  # of its files in data/
    target: Callable[[Tensor], Tensor]  # the truth: x (N, D) -> (N, 1)
    side: float  # training points lie in [-side, side] in each coordinate

    def points(self, part: str, device: torch.device) -> Points:
        """Return inputs (N, D) and targets (N, 1) of a shipped part: "train", "test", for the wave "outside" too."""
        x, y = dataset.load(f"{self.name}_{part}")
        return x.to(device), y.to(device)


PROBLEMS = {
    "standard": Problem("curve", dataset.curve_target, dataset.CURVE_SIDE),
    "2d_surface": Problem("surface", dataset.surface_target, dataset.SURFACE_SIDE),
    "extrapolate": Problem("periodic", dataset.periodic_target, dataset.PERIODIC_SIDE),
}


def pictures(name: str, split: str, root: Path, train_size: int) -> tuple[Points, Points, list[str]]:
    """Return training and evaluation pictures, (N, 784) of about unit scale, with labels (N,), and the class names.

    The split "validation" is the last 5,000 training images of Fashion-MNIST, and the test set is not read then. For
    "shapes" `train_size` pictures are drawn, and a quarter as many others: a split of its own, by another seed.
    """
    if name == "fashion_mnist":
        train, held_out = ((normalise(x), y) for x, y in split_fashion_mnist(root, split, OFFLINE))
        return train, held_out, list(FASHION_CLASSES)
    counts = {"train": train_size, "validation": max(10, train_size // 4), "test": max(10, train_size // 4)}
    train, held_out = (_grey(*shapes(counts[part], 28, list(counts).index(part))) for part in ("train", split))
    return train, held_out, CLASSES


def _grey(images: Tensor, labels: Tensor) -> Points:
    return normalise(images.float().mean(dim=1).round()), labels  # (N, 784)


def mirrored(x: Tensor) -> Tensor:
    """Return the pictures x (B, 784) as a mirror shows them."""
    return x.view(-1, 28, 28).flip(2).flatten(1)  # (B, 784)


def jitter(x: Tensor, flip: float, shift: int) -> Tensor:
    """Mirror each of the pictures x (B, 784) with probability `flip`, and move it by up to `shift` pixels each way."""
    picture, place = torch.arange(len(x), device=x.device)[:, None], torch.arange(28, device=x.device)  # (B, 1), (28,)
    padded = F.pad(x.view(-1, 28, 28), [shift] * 4, value=normalise(torch.zeros(1, 1)).item())  # black around it
    rows = place + torch.randint(2 * shift + 1, (len(x), 1), device=x.device)  # (B, 28)
    columns = place + torch.randint(2 * shift + 1, (len(x), 1), device=x.device)  # (B, 28)
    mirrored = torch.rand(len(x), 1, device=x.device) < flip  # (B, 1)
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[picture[:, :, None], rows[:, :, None], columns[:, None, :]].flatten(1)  # (B, 784)
