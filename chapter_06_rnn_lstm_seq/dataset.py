"""The chapter's real data: Shakespeare's plays, spoken digits, and sentences that praise or pan a film.
本章的真实数据：莎士比亚剧本、语音数字，以及褒贬电影的句子。
"""

import hashlib
import wave
import zlib
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.file_io_util import atomic_write, download

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_MD5 = "6fb458f1232090904fb40fe944165e91"
DIGITS_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip"
DIGITS_MD5 = "2c93442f2c808e24d4d913f6be24d32c"  # of the 3,000 files' bytes in the order of their names
POLARITY_URL = "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/sentence_polarity.zip"
POLARITY_MD5 = "5cdc0cae7f558040d050c90eb2b72e97"
OFFLINE = "--dataset toy needs no download"


# --- characters -------------------------------------------------------------------------------------------------------


def shakespeare(root: Path) -> str:
    """Read the 1,115,394 characters of tinyshakespeare (Karpathy 2015) from `root`/tinyshakespeare/input.txt.

    Raises:
        UserError: the file is missing and cannot be downloaded.
    """
    path = download(SHAKESPEARE_URL, root / "tinyshakespeare" / "input.txt", SHAKESPEARE_MD5, OFFLINE)
    return path.read_text(encoding="utf-8")


def split_text(text: str, train_share: float = 0.9) -> tuple[str, str]:
    """Cut a text in two, the later part to validate on: nanoGPT's split is the first 90 % and the last 10 %."""
    cut = int(train_share * len(text))
    return text[:cut], text[cut:]


def encode(text: str, characters: str) -> Tensor:
    """Return each character's place in `characters`, (T,), int64.

    Raises:
        UserError: the text has a character that is not among them.
    """
    index = {character: i for i, character in enumerate(characters)}
    unknown = sorted(set(text) - index.keys())
    if unknown:
        shown = " ".join(map(repr, unknown[:5]))
        raise UserError(f"the text has characters that the model has not seen: {shown}")
    return torch.tensor([index[character] for character in text], dtype=torch.long)


def decode(ids: Tensor, characters: str) -> str:
    """The inverse of `encode`."""
    return "".join(characters[i] for i in ids.tolist())


# --- spoken digits ----------------------------------------------------------------------------------------------------


class Recordings(NamedTuple):
    """Recordings of different lengths, one after another in one row, and who says what in each."""

    samples: Tensor  # (all samples,), int16, 8,000 a second
    ends: Tensor  # (N + 1,): recording i is samples[ends[i] : ends[i + 1]]
    digits: Tensor  # (N,)
    speakers: Tensor  # (N,), indices into `names`
    takes: Tensor  # (N,): a speaker says each digit 50 times, 0 to 49
    names: list[str]

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return some recordings as (B, T), float32 from -1 to 1, filled up with 0, and their lengths (B,)."""
        lengths = self.ends[index + 1] - self.ends[index]
        place = torch.arange(int(lengths.max()))
        mask = place < lengths[:, None]
        sounds = self.samples[(self.ends[index][:, None] + place).clamp(max=len(self.samples) - 1)]
        return sounds / 2.0**15 * mask, lengths


def spoken_digits(root: Path) -> Recordings:
    """Read the Free Spoken Digit Dataset: 6 speakers, 10 digits, 50 takes of each.

    Looks for `root`/fsdd/digits.npz, which it writes, then for the 3,000 files `root`/fsdd/recordings/*.wav, then for
    the archive, which it downloads to `root`/fsdd.

    Raises:
        UserError: a file is damaged, or files are missing and cannot be downloaded.
    """
    cache, folder = root / "fsdd" / "digits.npz", root / "fsdd" / "recordings"
    if not cache.exists():
        files = sorted(folder.glob("*.wav"))
        contents = [(path.name, path.read_bytes()) for path in files] if files else _digits_archive(root / "fsdd")
        _write_digits(contents, cache)
    try:
        with np.load(cache) as arrays:
            tensors = [torch.from_numpy(arrays[name]) for name in ("samples", "ends", "digits", "speakers", "takes")]
            return Recordings(*tensors, arrays["names"].tolist())
    except Exception as error:  # a damaged archive fails in many ways
        raise UserError(f"{cache} is damaged: delete it, and it will be made again") from error


def _digits_archive(folder: Path) -> list[tuple[str, bytes]]:
    path = download(DIGITS_URL, folder / "free-spoken-digit-dataset-1.0.10.zip", None, OFFLINE, timeout=60)
    try:
        with ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".wav") and "/recordings/" in name]
            return sorted((name.rsplit("/", 1)[1], archive.read(name)) for name in names)
    except (BadZipFile, OSError, zlib.error) as error:
        raise UserError(f"{path} is damaged: delete it, and it will be fetched again") from error


def _write_digits(contents: list[tuple[str, bytes]], cache: Path) -> None:
    """Check the recordings' bytes, in the order of their names, and write their samples and names as one file."""
    if hashlib.md5(b"".join(data for _, data in contents), usedforsecurity=False).hexdigest() != DIGITS_MD5:
        raise UserError(f"the {len(contents)} recordings are not the 3,000 of version 1.0.10, or damaged; {OFFLINE}")
    parts = [name.removesuffix(".wav").split("_") for name, _ in contents]  # 7_jackson_32.wav
    names = sorted({speaker for _, speaker, _ in parts})
    sounds = [np.frombuffer(wave.open(BytesIO(data)).readframes(-1), "<i2") for _, data in contents]
    with atomic_write(cache) as temporary:
        np.savez(
            temporary,
            samples=np.concatenate(sounds),
            ends=np.cumsum([0, *map(len, sounds)]),
            digits=np.array([int(digit) for digit, _, _ in parts]),
            speakers=np.array([names.index(speaker) for _, speaker, _ in parts]),
            takes=np.array([int(take) for _, _, take in parts]),
            names=np.array(names),
        )


# --- sentences --------------------------------------------------------------------------------------------------------


def polarity(root: Path) -> tuple[list[str], Tensor, Tensor]:
    """Read 10,662 sentences of film reviews (Pang & Lee 2005) from `root`/polarity/sentence_polarity.zip.

    Returns:
        The sentences, in lower case with spaces around signs; labels (N,), 1 for praise; and in which tenth each lies
        (N,): a file's lines are dealt out to the tenths 0, 1, ..., 9, 0, ... in turn.

    Raises:
        UserError: the file is missing and cannot be downloaded.
    """
    path = download(POLARITY_URL, root / "polarity" / "sentence_polarity.zip", POLARITY_MD5, OFFLINE)
    sentences, labels, tenths = [], [], []
    with ZipFile(path) as archive:
        for label, name in enumerate(["neg", "pos"]):
            text = archive.read(f"sentence_polarity/rt-polarity.{name}").decode("latin-1")
            lines = [line.strip() for line in text.split("\n") if line.strip()]
            sentences += lines
            labels += [label] * len(lines)
            tenths += [i % 10 for i in range(len(lines))]
    return sentences, torch.tensor(labels), torch.tensor(tenths)
