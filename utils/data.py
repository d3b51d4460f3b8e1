"""Where data sets lie, and batches of tensors that already sit in memory.
数据集放在哪里，以及如何把内存中的张量切成小批次。
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from utils.errors import UserError
from utils.file_io_util import ROOT


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
    """Read a cache that `np.savez(path, images=..., labels=...)` wrote: images of `shape`, uint8; labels (N,), int64.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            declared = sum(member.file_size for member in arrays.zip.infolist())
            if declared > math.prod(shape) + 8 * shape[0] + 10_000:  # nothing is unpacked before this is known
                raise ValueError(f"it unpacks to {declared:,} bytes")
            images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    except Exception as error:  # a damaged archive fails in many ways, and a foreign one in others
        raise UserError(f"{path} is damaged or another data set's: delete it, and it will be made again") from error
    if wrong := wrong_images_or_labels(images, labels, shape, n_classes):
        raise UserError(f"{path} holds another data set: {wrong}; delete it, and it will be made again")
    return images, labels.long()


def wrong_images_or_labels(
    images: torch.Tensor, labels: torch.Tensor, shape: tuple[int, ...], n_classes: int
) -> str | None:
    """Say what is wrong if these are not images of `shape`, uint8, each with one of `n_classes` labels; else None."""
    if tuple(images.shape) != shape or images.dtype != torch.uint8:
        return f"pictures {tuple(images.shape)}, {images.dtype}, where {shape}, uint8, belong"
    if labels.shape != (len(images),) or labels.is_floating_point():
        return f"labels {tuple(labels.shape)}, {labels.dtype}, where a whole number for each picture belongs"
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        return f"labels from {labels.min()} to {labels.max()} for {n_classes} classes"
    return None
