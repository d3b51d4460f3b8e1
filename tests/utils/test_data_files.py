"""A data file that cannot be what its name says is refused before anything is learned from it.
数据文件若与其名字不符，在训练之前就会被拒绝。
"""

import numpy as np
import pytest
import torch

from utils.data import read_cached_images
from utils.errors import UserError

IMAGES, LABELS = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3), np.arange(6) % 3
WRONG = {
    "labels missing": (IMAGES, LABELS[:5]),
    "swapped": (LABELS, IMAGES),
    "out of range": (IMAGES, LABELS + 198),
    "negative": (IMAGES, LABELS - 1),
    "of another size": (IMAGES[:, 1:], LABELS),
    "floats": (IMAGES / 255, LABELS),
    "no whole numbers": (IMAGES, LABELS / 2),
    "one-hot": (IMAGES, np.eye(3, dtype=np.int64)[LABELS]),
    "empty": (IMAGES[:0], LABELS[:0]),
}


def test_a_cache_comes_back(tmp_path):
    np.savez(tmp_path / "train.npz", images=IMAGES, labels=LABELS.astype(np.int32))
    images, labels = read_cached_images(tmp_path / "train.npz", (6, 4, 4, 3), 3)
    assert (images.numpy() == IMAGES).all() and labels.dtype == torch.int64 and labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("name", WRONG)
def test_another_data_set_is_refused(tmp_path, name):
    images, labels = WRONG[name]
    np.savez(tmp_path / "train.npz", images=images, labels=labels)
    with pytest.raises(UserError, match="train.npz.* holds another data set"):
        read_cached_images(tmp_path / "train.npz", (6, 4, 4, 3), 3)


def test_a_damaged_cache_is_refused(tmp_path):
    path = tmp_path / "train.npz"
    np.savez(path, images=IMAGES, labels=LABELS)
    whole = path.read_bytes()
    at = whole.index(IMAGES.tobytes())
    for content in (b"", whole[:-100], whole[:at] + b"x" + whole[at + 1 :]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="train.npz is damaged"):
            read_cached_images(path, (6, 4, 4, 3), 3)
    np.savez_compressed(path, images=IMAGES, labels=LABELS)
    assert read_cached_images(path, (6, 4, 4, 3), 3)[1].tolist() == LABELS.tolist()
    np.savez_compressed(path, images=np.zeros((10**6, 4, 4, 3), np.uint8), labels=np.zeros(10**6, np.int64))
    with pytest.raises(UserError, match="damaged"):
        read_cached_images(path, (6, 4, 4, 3), 3)
