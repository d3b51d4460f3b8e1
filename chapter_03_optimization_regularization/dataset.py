"""Grey pictures of 28 x 28 pixels in ten classes: clothes, or the drawn shapes, whole or a few of each class.
28 × 28 的十类灰度图：衣物，或现画的图形；可以取全部，也可以每类只取几张。
"""

from pathlib import Path

import torch
from torch import Tensor

from chapter_01_tensor_autograd.dataset import FASHION_CLASSES, normalise, split_fashion_mnist
from utils.shapes import CLASSES, shapes

Pictures = tuple[Tensor, Tensor]  # (N, 1, 28, 28), uint8, and labels (N,), int64
DATASETS = ["fashion_mnist", "shapes"]
OFFLINE = "--dataset shapes needs no download"


def load(
    name: str, split: str, root: Path, count: int = 4000, offline: str = OFFLINE
) -> tuple[Pictures, Pictures, list[str]]:
    """Return the pictures to train on, those of `split` to measure on, and the class names.

    The split "validation" is the last 5,000 training pictures of Fashion-MNIST, and the test set is not read then. Of
    the shapes `count` are drawn, and a quarter as many others, each split by a seed of its own. `offline` says what the
    calling script can do without a download.
    """
    if name == "fashion_mnist":
        train, held_out = ((x[:, None], y) for x, y in split_fashion_mnist(root, split, offline))
        return train, held_out, list(FASHION_CLASSES)
    seed = {"validation": 1, "test": 2}[split]
    train, held_out = shapes(count, 28), shapes(max(10, count // 4), 28, seed)
    return *((x.float().mean(dim=1, keepdim=True).byte(), y) for x, y in (train, held_out)), CLASSES


def balanced_subset(images: Tensor, labels: Tensor, per_class: int, seed: int = 0) -> Pictures:
    """Choose `per_class` pictures of each class at random; the same ones for the same seed."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
    chosen = torch.cat([order[labels[order] == k][:per_class] for k in labels.unique()])
    return images[chosen], labels[chosen]


def to_input(images: Tensor) -> Tensor:
    """Turn pictures (B, 1, 28, 28), uint8, into inputs of about mean 0 and deviation 1, in channels_last."""
    x = normalise(images.flatten(1)).view(images.shape)  # (B, 1, 28, 28)
    return x.contiguous(memory_format=torch.channels_last)
