"""Colour pictures of 32 x 32 pixels in ten classes: CIFAR-10, or the drawn shapes.
32 × 32 的十类彩色图片：CIFAR-10，或现画的图形。
"""

import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.data import read_cached_images
from utils.errors import UserError
from utils.file_io_util import atomic_write, download
from utils.shapes import CLASSES, shapes

CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of each colour over the training pictures
OFFLINE = "--dataset shapes needs no download"
SIDE = 32  # pixels
MEAN_GREY = 120  # about the mean of all pictures' bytes: what is hidden looks like nothing to the network
TRAINING, TESTING, VALIDATION = 50_000, 10_000, 5_000  # pictures; the last training ones are for validation

Pictures = tuple[Tensor, Tensor]  # (N, 3, 32, 32), uint8, and labels (N,), int64
DATASETS = ["cifar10", "shapes"]


def load(
    name: str, split: str, root: Path, count: int = 4000, offline: str = OFFLINE
) -> tuple[Pictures, Pictures, list[str]]:
    """Return the pictures to train on, those of `split` to measure on, and the class names.

    The split "validation" is the last 5,000 training pictures of CIFAR-10, which are then not trained on, and the test
    set is not read. Of the shapes `count` are drawn, and a quarter as many others, each split by a seed of its own.
    `offline` says what the calling script can do without a download.
    """
    if name == "shapes":
        seed = {"validation": 1, "test": 2}[split]
        return shapes(count), shapes(max(10, count // 4), seed=seed), CLASSES
    images, labels = cifar10(root, True, offline)
    if split == "test":
        return (images, labels), cifar10(root, False, offline), CIFAR10_CLASSES
    cut = len(labels) - VALIDATION
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:]), CIFAR10_CLASSES


def cifar10(root: Path, train: bool, offline: str = OFFLINE) -> Pictures:
    """Read CIFAR-10 (Krizhevsky 2009): 50,000 pictures to train on, or 10,000 to test with.

    Looks for `root`/cifar10/<train|test>.npz, then for torchvision's folder `root`/cifar-10-batches-py or the official
    cifar-10-python.tar.gz, which it downloads if need be, and then writes the .npz.

    Raises:
        UserError: a file is damaged, or is missing and cannot be downloaded.
    """
    cache = root / "cifar10" / ("train.npz" if train else "test.npz")
    if not cache.exists():
        _convert(root, train, cache, offline)
    count = TRAINING if train else TESTING
    images, labels = read_cached_images(cache, (count, SIDE, SIDE, 3), len(CIFAR10_CLASSES))
    return images.permute(0, 3, 1, 2), labels  # (N, 3, 32, 32) in channels_last: a view of (N, 32, 32, 3)


def _convert(root: Path, train: bool, cache: Path, offline: str) -> None:
    """Write the cache from the official files; torchvision compares their checksums before it unpickles them."""
    from torchvision.datasets import CIFAR10  # once in a life: every other start is quicker without

    try:
        if not (root / CIFAR10.base_folder).is_dir():
            archive = download(CIFAR10.url, root / CIFAR10.filename, CIFAR10.tgz_md5, offline, timeout=60)
            with tarfile.open(archive) as tar:
                tar.extractall(root, filter="data")
        official = CIFAR10(str(root), train=train, download=False)
    except (OSError, EOFError, RuntimeError, tarfile.TarError, zlib.error) as error:
        raise UserError(f"{root / CIFAR10.base_folder} is not whole: delete it; {offline}") from error
    with atomic_write(cache) as temporary:
        np.savez(temporary, images=official.data, labels=np.array(official.targets))


def to_input(images: Tensor) -> Tensor:
    """Turn pictures (B, 3, H, W), uint8, into inputs with mean 0 and deviation 1 per colour, in channels_last."""
    mean = 255 * torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = 255 * torch.tensor(STD, device=images.device).view(3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)
