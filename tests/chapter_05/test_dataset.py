"""Chapter 5: STL-10 as it lies on a disk, and splits that share nothing.
第 5 章：磁盘上的 STL-10，以及互不重叠的划分。
"""

import hashlib
import tarfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.datasets import STL10

from chapter_04_cnn_classic import dataset as chapter_4
from chapter_05_resnet_modern_cnn.src import dataset
from utils.data import default_data_root
from utils.errors import UserError

HAS_DATA = (default_data_root() / "stl10" / "train.npz").exists()
needs_data = pytest.mark.skipif(not HAS_DATA, reason="STL-10 is not here")


def official(root, monkeypatch, members=("train", "test")):
    """Write a tiny STL-10 in the official layout, and let its checksums be the right ones; return the arrays."""
    rng = np.random.default_rng(0)
    folder = root / STL10.base_folder
    folder.mkdir(parents=True)
    arrays = {}
    monkeypatch.setattr(dataset, "COUNTS", {True: 4, False: 4})
    for part in members:
        pictures = rng.integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)  # picture, colour, column, row
        labels = np.array([3, 1, 10, 1], dtype=np.uint8)
        arrays[part], files = pictures, []
        for name, array in ((f"{part}_X.bin", pictures), (f"{part}_y.bin", labels)):
            (folder / name).write_bytes(array.tobytes())
            files.append([name, hashlib.md5(array.tobytes()).hexdigest()])
        monkeypatch.setattr(
            STL10, f"{part}_list", [*files, ["unlabeled_X.bin", "not looked at"]][: 3 - (part == "test")]
        )
    return arrays


# --- splits -----------------------------------------------------------------------------------------------------------


def test_splits_are_stratified_fixed_and_share_no_picture():
    labels = torch.arange(5000).flip(0) * 7 % 10  # 500 of each class
    train, test = dataset.split_indices(labels, "test")
    fewer, validation = dataset.split_indices(labels, "validation")
    for index, per_class in ((train, 400), (test, 100), (fewer, 350), (validation, 50)):
        assert labels[index].bincount().tolist() == [per_class] * 10
        assert torch.equal(index, index.unique()), "in the file's order, none twice"
    for parts in ((train, test), (fewer, validation, test)):
        assert torch.equal(torch.cat(parts).sort().values, torch.arange(5000)), "together they are all pictures"


@pytest.mark.parametrize("split", ["test", "validation"])
def test_pictures_with_a_second_print_are_never_held_out(split):
    labels = torch.arange(5000) % 10
    assert not set(dataset.split_indices(labels, split)[1].tolist()) & set(dataset.DUPLICATES)


@pytest.mark.parametrize("split", dataset.SPLITS)
@pytest.mark.parametrize("name", dataset.DATASETS)
def test_every_data_set_has_every_split(name, split, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for part, count in (("train", 2000), ("test", 300)):
        for folder, side in (("stl10", 4), ("cifar10", 4)):
            (tmp_path / folder).mkdir(exist_ok=True)
            images = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
            np.savez(tmp_path / folder / f"{part}.npz", images=images, labels=np.arange(count) % 10)
    for constant, value in {"TRAINING": 2000, "TESTING": 300, "VALIDATION": 100, "SIDE": 4}.items():
        monkeypatch.setattr(chapter_4, constant, value)
    monkeypatch.setattr(dataset, "COUNTS", {True: 2000, False: 300})
    monkeypatch.setattr(dataset, "SIDE", 4)
    (x, y), (held_out, labels), classes = dataset.load(name, split, tmp_path, count=200)
    assert x.dtype == held_out.dtype == torch.uint8 and x.shape[1:] == held_out.shape[1:] and len(classes) == 10
    assert len(x) == len(y) and len(held_out) == len(labels)
    seen = {picture.numpy().tobytes() for picture in x}
    assert len(seen) == len(x) and not seen & {picture.numpy().tobytes() for picture in held_out}
    expected = {"stl10": {"test": (1000, 1000), "validation": (500, 500), "official": (2000, 300)}}
    expected |= {"cifar10": {"test": (2000, 300), "validation": (1900, 100), "official": (2000, 300)}}
    assert (len(x), len(held_out)) == expected.get(name, {}).get(split, (200, 50))


def test_shapes_are_drawn_at_stl10s_size(tmp_path):
    (images, _), _, classes = dataset.load("shapes", "test", tmp_path, count=20)
    assert images.shape == (20, 3, 96, 96) and "star" in classes


@needs_data
def test_no_held_out_picture_looks_like_one_that_is_trained_on():
    """Thumbnails correlate by at most 0.94, seen as they are or mirrored; the two prints of a photograph by up to 1."""
    (x, y), (held_out, labels), classes = dataset.load("stl10", "test", default_data_root())
    assert classes == dataset.STL10_CLASSES and x.shape == (4000, 3, 96, 96) and len(labels) == 1000

    def thumbnails(images):
        small = F.avg_pool2d(images.float(), 8).flatten(1)
        return F.normalize(small - small.mean(dim=1, keepdim=True))

    seen = thumbnails(x)
    for view in (held_out, held_out.flip(-1)):
        assert (thumbnails(view) @ seen.T).max() < 0.95


@needs_data
def test_inputs_have_mean_0_and_deviation_1():
    x = dataset.to_input(dataset.load("stl10", "test", default_data_root())[0][0][:1000])
    assert x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.float32
    torch.testing.assert_close(x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(x.std(dim=(0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)


def test_an_input_worked_by_hand():
    x = dataset.to_input(torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1))
    expected = [(0 - 0.4476) / 0.2613, (0.2 - 0.4403) / 0.2574, (1 - 0.4071) / 0.2720]
    torch.testing.assert_close(x.flatten(), torch.tensor(expected))


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [True, False])
def test_the_official_files_are_read_as_torchvision_reads_them_and_cached(train, tmp_path, monkeypatch):
    part = "train" if train else "test"
    pictures = official(tmp_path, monkeypatch)[part]
    images, labels = dataset.stl10(tmp_path, train)
    assert images.dtype == torch.uint8 and images.is_contiguous(memory_format=torch.channels_last)
    assert labels.dtype == torch.int64 and labels.tolist() == [2, 0, 9, 0]
    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    theirs = STL10(str(tmp_path), split=part)
    assert np.array_equal(images.numpy(), theirs.data) and np.array_equal(labels.numpy(), theirs.labels)
    assert np.array_equal(images.numpy(), pictures.transpose(0, 1, 3, 2))

    (tmp_path / STL10.base_folder / f"{part}_X.bin").unlink()
    assert torch.equal(dataset.stl10(tmp_path, train)[0], images), "the second time the cache is read"


def test_of_the_archive_only_the_labelled_pictures_are_unpacked(tmp_path, monkeypatch):
    source, root = tmp_path / "source", tmp_path / "root"
    official(source, monkeypatch)
    (source / STL10.base_folder / "unlabeled_X.bin").write_bytes(b"many")
    root.mkdir()
    archive = root / STL10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source / STL10.base_folder, STL10.base_folder)
    monkeypatch.setattr(STL10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    for part, count in (("train", 2), ("test", 4)):
        dataset.stl10(root, part == "train")
        assert len(list((root / STL10.base_folder).iterdir())) == count
    assert sorted(p.name for p in (root / "stl10").iterdir()) == ["test.npz", "train.npz"]


def test_official_files_that_are_not_whole_are_named(tmp_path, monkeypatch):
    official(tmp_path, monkeypatch)
    path = tmp_path / STL10.base_folder / "train_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"train_X\.bin is not whole: delete it"):
        dataset.stl10(tmp_path, train=True)
    assert not (tmp_path / "stl10").exists()


def test_an_archive_that_cannot_be_unpacked_is_a_users_mistake(tmp_path, monkeypatch):
    (tmp_path / STL10.filename).write_bytes(b"no archive")
    monkeypatch.setattr(STL10, "tgz_md5", hashlib.md5(b"no archive").hexdigest())
    with pytest.raises(UserError, match="cannot unpack"):
        dataset.stl10(tmp_path, train=True)


def test_a_damaged_cache_is_named(tmp_path):
    (tmp_path / "stl10").mkdir()
    (tmp_path / "stl10" / "train.npz").write_bytes(b"PK not an archive")
    with pytest.raises(UserError, match=r"train\.npz is damaged"):
        dataset.load("stl10", "test", tmp_path)


IMAGES, LABELS = np.zeros((6, 96, 96, 3), dtype=np.uint8), np.arange(6)
FOREIGN = {
    "too few labels": (IMAGES, LABELS[:5]),
    "another number of pictures": (IMAGES[:5], LABELS[:5]),
    "pictures and labels swapped": (LABELS, IMAGES),
    "another size": (IMAGES[:, :32, :32], LABELS),
    "colours first": (IMAGES.transpose(0, 3, 1, 2), LABELS),
    "floating-point pictures": (IMAGES / 255, LABELS),
    "a label of 200": (IMAGES, LABELS + 195),
    "a negative label": (IMAGES, LABELS - 1),
    "one-hot labels": (IMAGES, np.eye(6, dtype=np.int64)),
    "labels that are no whole numbers": (IMAGES, LABELS / 2),
    "words": (IMAGES, np.array(["cat"] * 6)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_not_stl10_is_never_trained_on(name, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "COUNTS", {True: 6, False: 6})
    (tmp_path / "stl10").mkdir()
    path = tmp_path / "stl10" / "train.npz"
    np.savez(path, images=IMAGES, labels=LABELS)
    assert len(dataset.stl10(tmp_path, train=True)[1]) == 6
    images, labels = FOREIGN[name]
    np.savez(path, images=images, labels=labels)
    with pytest.raises(UserError, match=r"train\.npz (holds|is damaged).*delete it"):
        dataset.stl10(tmp_path, train=True)


@pytest.mark.parametrize("damage", ["cut short", "sent as text", "a bit changed"])
def test_a_damaged_archive_is_a_users_mistake(damage, tmp_path, monkeypatch):
    official(tmp_path / "source", monkeypatch, members=("train",))
    archive = tmp_path / STL10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "source" / STL10.base_folder, STL10.base_folder)
    whole = archive.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    text = whole.replace(b"\n", b"\r\n")
    archive.write_bytes({"cut short": whole[:middle], "sent as text": text, "a bit changed": changed}[damage])
    monkeypatch.setattr(STL10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    with pytest.raises(UserError, match="cannot unpack|is not whole"):
        dataset.stl10(tmp_path, train=True)
    assert not (tmp_path / "stl10").exists()


@pytest.mark.parametrize("train", [True, False])
def test_without_a_network_the_error_says_what_to_do(train, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("utils.file_io_util.urlopen", refuse)
    with pytest.raises(UserError, match=r"stl10_binary\.tar\.gz.*--dataset shapes") as error:
        dataset.stl10(tmp_path, train)
    assert ("--split test" in str(error.value)) == (not train)


def test_resizing():
    images = torch.full((2, 3, 12, 12), 200, dtype=torch.uint8)
    images[:, :, 6:] = 0
    larger = dataset.resize(images, 16)
    assert larger.shape == (2, 3, 16, 16) and larger.dtype == torch.uint8
    assert larger[:, :, 0].unique().tolist() == [200] and larger[:, :, -1].unique().tolist() == [0]
    assert dataset.resize(images, 12) is images
