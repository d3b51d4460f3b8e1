"""Colour pictures in ten classes: STL-10 at 96 x 96 pixels, chapter 4's CIFAR-10 at 32 x 32, or the drawn shapes.
十类彩色图片：96 × 96 的 STL-10，第 4 章的 32 × 32 的 CIFAR-10，或现画的图形。
"""

import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_04_cnn_classic import dataset as chapter_4
from chapter_04_cnn_classic.dataset import Pictures
from utils.data import read_cached_images
from utils.errors import UserError
from utils.file_io_util import atomic_write, download, has_md5
from utils.shapes import CLASSES, shapes

STL10_CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
MEAN, STD = (0.4476, 0.4403, 0.4071), (0.2613, 0.2574, 0.2720)  # of each colour, over the 4,000 of --split test
OFFLINE = "--dataset shapes needs no download"
SIDE = 96  # pixels
HELD_OUT, VALIDATION = 100, 50  # pictures of each class
COUNTS = {True: 5000, False: 8000}  # labelled pictures to train on, and to test with
# Labelled pictures of which there is a second print among them: another crop, size or brightness of the same
# photograph. Neither may be trained on while the other is measured on, so none of them is held out.
DUPLICATES = (
    *(34, 81, 135, 338, 615, 824, 853, 950, 1092, 1170, 1293, 1332, 1470, 1629, 1645, 1709, 1713, 1894, 1975, 2429),
    *(2431, 2700, 2730, 2812, 2820, 2873, 2980, 3064, 3240, 3309, 3310, 3376, 3411, 3689, 3845, 3865, 4166, 4229),
    *(4301, 4323, 4327, 4512, 4699, 4791, 4805, 4976),
)

DATASETS = ["stl10", "cifar10", "shapes"]
SPLITS = ["test", "validation", "official"]


def load(name: str, split: str, root: Path, count: int = 4000) -> tuple[Pictures, Pictures, list[str]]:
    """Return the pictures to train on, those of `split` to measure on, and the class names.

    Of STL-10's 5,000 labelled training pictures, "test" holds out 100 of each class and leaves 4,000; "validation"
    holds out 50 of each class of these 4,000 and leaves 3,500; "official" trains on all and measures on the official
    8,000. For the other sets "official" is "test". Of the shapes `count` are drawn, and a quarter as many others.
    """
    if name == "cifar10":
        return chapter_4.load(name, "test" if split == "official" else split, root)
    if name == "shapes":
        seed = {"validation": 1, "test": 2, "official": 2}[split]
        return shapes(count, SIDE), shapes(max(10, count // 4), SIDE, seed), CLASSES
    images, labels = stl10(root, train=True)
    if split == "official":
        return (images, labels), stl10(root, train=False), STL10_CLASSES
    train, held_out = split_indices(labels, split)
    return (images[train], labels[train]), (images[held_out], labels[held_out]), STL10_CLASSES


def split_indices(labels: Tensor, split: str) -> tuple[Tensor, Tensor]:
    """Return which of STL-10's labelled pictures to train on and which to measure on, in the file's order.

    Held out are the last ones of each class that have no second print. No generator decides: in another version of
    PyTorch it might choose others, and a published model would be measured on pictures that it was trained on.
    """
    single = torch.ones(len(labels), dtype=torch.bool)
    single[[index for index in DUPLICATES if index < len(labels)]] = False
    test, validation = [], []
    for label in labels.unique():
        candidates = torch.nonzero(single & (labels == label)).flatten()
        test.append(candidates[-HELD_OUT:])
        validation.append(candidates[-HELD_OUT - VALIDATION : -HELD_OUT])
    test, validation = torch.cat(test).sort().values, torch.cat(validation).sort().values
    unseen = {"test": [test], "validation": [validation, test]}[split]
    train = torch.ones(len(labels), dtype=torch.bool)
    train[torch.cat(unseen)] = False
    return torch.nonzero(train).flatten(), unseen[0]


def stl10(root: Path, train: bool) -> Pictures:
    """Read STL-10 (Coates et al. 2011): 5,000 labelled pictures to train on, or 8,000 to test with.

    Looks for `root`/stl10/<train|test>.npz, then for the official files in `root`/stl10_binary (the two that it needs)
    or stl10_binary.tar.gz (2.6 GB), which it downloads if need be, and then writes the .npz.

    Raises:
        UserError: a file is damaged, or is missing and cannot be downloaded.
    """
    cache = root / "stl10" / ("train.npz" if train else "test.npz")
    if not cache.exists():
        _convert(root, train, cache)
    images, labels = read_cached_images(cache, (COUNTS[train], SIDE, SIDE, 3), len(STL10_CLASSES))
    return images.permute(0, 3, 1, 2), labels  # (N, 3, 96, 96) in channels_last: a view of (N, 96, 96, 3)


def _convert(root: Path, train: bool, cache: Path) -> None:
    """Write the cache from the official files."""
    from torchvision.datasets import STL10  # once in a life: every other start is quicker without

    folder = root / STL10.base_folder
    files = dict(STL10.train_list[:2] if train else STL10.test_list)  # name of the pictures', of the labels' file: MD5
    if not all((folder / name).is_file() for name in files):
        offline = OFFLINE if train else f"--split test measures on held-out training pictures instead; {OFFLINE}"
        _unpack(download(STL10.url, root / STL10.filename, STL10.tgz_md5, offline, timeout=60), folder, list(files))
    for name, md5 in files.items():
        if not has_md5(folder / name, md5):
            raise UserError(f"{folder / name} is not whole: delete it, and it will be unpacked again; {OFFLINE}")
    pictures, labels = (np.fromfile(folder / name, dtype=np.uint8) for name in files)
    images = pictures.reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1)  # (N, 3, x, y) -> (N, y, x, 3)
    with atomic_write(cache) as temporary:
        np.savez(temporary, images=np.ascontiguousarray(images), labels=labels.astype(np.int64) - 1)  # 1 to 10


def _unpack(archive: Path, folder: Path, names: list[str]) -> None:
    """Take these files out of the archive, not the 100,000 pictures without labels: they are 2.8 GB."""
    wanted = {f"{folder.name}/{name}" for name in names}
    try:
        with tarfile.open(archive, "r|gz") as tar:  # as a stream: unpacked once, from the front
            for member in tar:
                if member.name in wanted:
                    tar.extract(member, folder.parent, filter="data")
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UserError(f"cannot unpack {archive} into {folder}: {error}; {OFFLINE}") from error


def to_input(images: Tensor) -> Tensor:
    """Turn pictures (B, 3, H, W), uint8, into inputs in channels_last whose colours have mean 0 and deviation 1.

    Means and standard deviations are STL-10's, whatever the pictures: a network can be shown any.
    """
    mean = 255 * torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = 255 * torch.tensor(STD, device=images.device).view(3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)


def resize(images: Tensor, side: int) -> Tensor:
    """Turn pictures (B, 3, H, W), uint8, into such of (B, 3, side, side)."""
    if images.shape[-2:] == (side, side):
        return images
    resized = F.interpolate(images.float(), (side, side), mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).byte()  # bicubic curves overshoot at edges
