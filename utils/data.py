"""Where data sets lie, and batches of tensors that already sit in memory.
数据集放在哪里，以及如何把内存中的张量切成小批次。
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from utils.errors import UserError
from utils.file_io_util import ROOT, check_archive


def default_data_root() -> Path:
    """Return the folder of data sets: the environment variable DLFS_DATA, else `data/` in the repository."""
    return Path(os.environ.get("DLFS_DATA") or ROOT / "data").expanduser()


def batches(*tensors: torch.Tensor, batch_size: int, shuffle: bool = False) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield aligned batches of tensors that share their first dimension; `shuffle` draws the order from PyTorch."""
    count = len(tensors[0])
    order = torch.randperm(count) if shuffle else torch.arange(count)
    for index in order.to(tensors[0].device).split(batch_size):
        yield tuple(t[index] for t in tensors)


def read_cached_images(path: Path, shape: tuple[int, ...], n_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Read a cache that `np.savez(path, images=..., labels=...)` wrote: images (N, *shape), uint8; labels (N,), int64.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    except Exception as error:  # a damaged archive fails in many ways
        raise UserError(f"{path} is damaged: delete it, and it will be made again") from error
    check_images_and_labels(path, images, labels, shape, n_classes)
    return images, labels.long()


def check_images_and_labels(
    path: Path, images: torch.Tensor, labels: torch.Tensor, shape: tuple[int, ...], n_classes: int
) -> None:
    """Refuse what was read from `path` if it is not images (N, *shape), uint8, each with one of `n_classes` labels.

    Raises:
        UserError: it is something else; says what.
    """
    wrong = None
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != tuple(shape):
        wrong = f"pictures of {tuple(images.shape[1:])}, {images.dtype}, where {tuple(shape)}, uint8, belong"
    elif labels.ndim != 1 or labels.is_floating_point():
        wrong = f"labels {tuple(labels.shape)}, {labels.dtype}, where one whole number for each picture belongs"
    elif len(images) != len(labels) or not len(labels):
        wrong = f"{len(images)} pictures and {len(labels)} labels"
    elif not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        wrong = f"labels from {labels.min()} to {labels.max()} for {n_classes} classes"
    if wrong:
        raise UserError(
            f"{path}: this is another data set, or a damaged one: {wrong}; delete it, and it will be made again"
        )
