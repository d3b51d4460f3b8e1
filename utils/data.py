"""Where data sets lie, and batches of tensors that already sit in memory.
数据集放在哪里，以及如何把内存中的张量切成小批次。
"""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

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
