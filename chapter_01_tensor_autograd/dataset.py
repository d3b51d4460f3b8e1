"""The chapter's data: Fashion-MNIST from disk or the network, and two toy sets drawn in the plane.
本章数据：从磁盘或网络读取的 Fashion-MNIST，以及在平面上生成的两个玩具数据集。
"""

import gzip
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from utils.errors import UserError
from utils.file_io_util import download

FASHION_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}

Images = tuple[torch.Tensor, torch.Tensor]  # (N, 28, 28), uint8, and their labels (N,)


def fashion_mnist(root: Path, train: bool, offline: str = "spirals") -> Images:
    """Read Fashion-MNIST (Xiao et al. 2017) from `root`/FashionMNIST/raw, downloading what is missing.

    If that fails, the error names `offline`, a data set of the calling script that needs no download.

    Returns:
        images (N, 28, 28), uint8; labels (N,), int64. N is 60,000 for training and 10,000 for testing.

    Raises:
        UserError: a file is damaged, or is missing and cannot be downloaded.
    """
    part = "train" if train else "t10k"
    images = _read_idx(root, f"{part}-images-idx3-ubyte.gz", offline)
    labels = _read_idx(root, f"{part}-labels-idx1-ubyte.gz", offline)
    return images, labels.long()


def split_fashion_mnist(root: Path, split: str, offline: str = "spirals") -> tuple[Images, Images]:
    """Return the pictures to train on, and those of `split`: "test", or "validation", the last 5,000 to train on.

    For "validation" they are left out of the training, and the test set is not read.
    """
    train = fashion_mnist(root, True, offline)
    if split == "test":
        return train, fashion_mnist(root, False, offline)
    return tuple(t[:-5000] for t in train), tuple(t[-5000:] for t in train)


def _read_idx(root: Path, name: str, offline: str) -> torch.Tensor:
    """Read one file of the IDX format: two zero bytes, a type, the number of axes, their lengths, then the bytes."""
    packed = root / "FashionMNIST" / "raw" / name
    plain = packed.with_suffix("")
    if not plain.exists() and not packed.exists():
        download(FASHION_URL + name, packed, FASHION_MD5[name], offline=f"--dataset {offline} needs no download")
    path = plain if plain.exists() else packed
    try:
        content = path.read_bytes() if path == plain else gzip.decompress(path.read_bytes())
        n_axes = content[3]
        shape = np.frombuffer(content, ">i4", n_axes, offset=4).tolist()
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape).copy())
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it, and it will be downloaded again") from error


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Turn images (N, 28, 28), uint8, into inputs (N, 784) of mean 0 and standard deviation 1 over Fashion-MNIST."""
    return (images.flatten(1).float() / 255 - 0.2860) / 0.3530


def read_picture(path: Path) -> torch.Tensor:
    """Read any picture as Fashion-MNIST would show it: (28, 28), uint8, the garment bright on black.

    Raises:
        UserError: the file is missing, or is not a picture.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as a picture: {error}") from error
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture)
    grey = ImageOps.pad(canvas.convert("L"), (28, 28), color=canvas.convert("L").getpixel((0, 0)))
    pixels = np.array(grey)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if np.median(border) > 127:  # dark on a bright ground: a photograph, or a drawing on paper
        pixels = 255 - pixels
    return torch.from_numpy(pixels)


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
