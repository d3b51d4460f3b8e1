"""The chapter's data: Fashion-MNIST from disk or the network, and two toy sets drawn in the plane.
本章数据：从磁盘或网络读取的 Fashion-MNIST，以及在平面上生成的两个玩具数据集。
"""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from utils.errors import UserError
from utils.file_io_util import download
from utils.pictures import read_picture

FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MD5 = {  # of the unpacked files
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
OFFICIAL_COUNTS = {"train": 60_000, "t10k": 10_000}
OFFLINE = "--dataset spirals needs no download"

Images = tuple[torch.Tensor, torch.Tensor]  # (N, 28, 28), uint8, and their labels (N,)


def fashion_mnist(root: Path, train: bool, offline: str = OFFLINE) -> Images:
    """Read Fashion-MNIST (Xiao et al. 2017) from `root`/FashionMNIST/raw, downloading what is missing.

    If that fails, the error says by `offline` what the calling script can do without them. Files of another count than
    the official ones, such as a part of them, may hold any pictures of 28 x 28.

    Returns:
        images (N, 28, 28), uint8; labels (N,), int64. N is 60,000 for training and 10,000 for testing.

    Raises:
        UserError: a file is damaged, is another one, or is missing and cannot be downloaded.
    """
    part = "train" if train else "t10k"
    images, images_path = _read_idx(root, f"{part}-images-idx3-ubyte", offline)
    labels, labels_path = _read_idx(root, f"{part}-labels-idx1-ubyte", offline)
    for array, path, shape in (images, images_path, (len(images), 28, 28)), (labels, labels_path, (len(labels),)):
        if array.shape != shape:
            raise UserError(f"{path} holds numbers of shape {array.shape}, expected {('N', *shape[1:])}")
    if len(images) != len(labels) or not len(images):
        raise UserError(f"{images_path} holds {len(images)} pictures, and {labels_path} {len(labels)} labels")
    if labels.max() >= len(FASHION_CLASSES):
        raise UserError(f"{labels_path} holds the label {labels.max()}: there are {len(FASHION_CLASSES)} classes")
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def split_fashion_mnist(root: Path, split: str, offline: str = OFFLINE) -> tuple[Images, Images]:
    """Return the pictures to train on, and those of `split`: "test", or "validation", the last 5,000 to train on.

    For "validation" they are left out of the training, and the test set is not read.

    Raises:
        UserError: as in `fashion_mnist`, or there are too few pictures to leave some out.
    """
    train = fashion_mnist(root, True, offline)
    if split == "test":
        return train, fashion_mnist(root, False, offline)
    if len(train[1]) <= 5000:
        raise UserError(f"--split validation leaves out 5,000 pictures, and there are {len(train[1]):,} in all")
    return tuple(t[:-5000] for t in train), tuple(t[-5000:] for t in train)


def _read_idx(root: Path, name: str, offline: str) -> tuple[np.ndarray, Path]:
    """Read one file of the IDX format: two zero bytes, the type 8, the number of axes, their lengths, the bytes."""
    plain = root / "FashionMNIST" / "raw" / name
    packed = plain.with_name(f"{name}.gz")
    if not plain.exists() and not packed.exists():
        download(FASHION_URL + packed.name, plain, FASHION_MD5[name], offline, gzipped=True)
    path = plain if plain.exists() else packed
    try:
        content = path.read_bytes() if path == plain else gzip.decompress(path.read_bytes())
        if content[:3] != b"\0\0\x08":
            raise ValueError("it does not begin like an IDX file of bytes")
        shape = struct.unpack_from(f">{content[3]}I", content, 4)
        array = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, struct.error, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}): delete it, and it will be downloaded again") from error
    official = len(array) == OFFICIAL_COUNTS[name.split("-")[0]]
    if official and hashlib.md5(content, usedforsecurity=False).hexdigest() != FASHION_MD5[name]:
        raise UserError(f"{path} is not Fashion-MNIST's (another checksum): delete it, and it will be downloaded again")
    return array, path


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Turn images (N, 28, 28), uint8, into inputs (N, 784) of mean 0 and standard deviation 1 over Fashion-MNIST."""
    return (images.flatten(1).float() / 255 - 0.2860) / 0.3530


def read_garment(path: Path) -> torch.Tensor:
    """Read any picture as Fashion-MNIST would show it: (28, 28), uint8, the garment bright on black.

    Raises:
        UserError: the file is missing, or is not a picture.
    """
    large = Image.fromarray(read_picture(path, 4 * 28, "L", whole=True)[0].numpy())
    pixels = torch.from_numpy(np.array(large.resize((28, 28), Image.Resampling.BICUBIC)))
    border = torch.cat([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return 255 - pixels if border.median() > 127 else pixels  # dark on a bright ground: a photograph, or on paper


def two_moons(count: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw points on two interleaved half circles: points (count, 2), float32; labels (count,), int64, 0 or 1."""
    labels = np.arange(count, dtype=np.int64) % 2
    angle = math.pi * rng.random(count)
    sign = 1 - 2 * labels  # the second moon hangs upside down, shifted by (1, 0.5)
    points = np.stack([sign * np.cos(angle) + labels, sign * np.sin(angle) + labels / 2], axis=1)  # (count, 2)
    return (points + noise * rng.standard_normal((count, 2)) - [0.5, 0.25]).astype(np.float32), labels


def spirals(count: int, noise: float, rng: np.random.Generator, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Draw points on `n_classes` spiral arms within the unit circle; `noise` is of the angle, in radians.

    Returns:
        points (count, 2), float32; labels (count,), int64.
    """
    labels = np.arange(count, dtype=np.int64) % n_classes
    radius = rng.random(count)
    angle = 2 * math.pi * (radius + labels / n_classes) + noise * rng.standard_normal(count)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (count, 2)
    return points.astype(np.float32), labels
