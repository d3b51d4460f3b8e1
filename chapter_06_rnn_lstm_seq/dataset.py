"""The chapter's real data: Shakespeare's plays, spoken digits, and sentences that praise or pan a film.
本章的真实数据：莎士比亚剧本、语音数字，以及褒贬电影的句子。
"""

from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError
from utils.file_io_util import download

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_MD5 = "6fb458f1232090904fb40fe944165e91"
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
