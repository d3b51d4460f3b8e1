"""What pre-training reads: documents as one long stream of tokens on disk, and windows of it in an order of their own.
预训练读什么：把文档连成磁盘上的一条长词元流，再按一定的次序从中取窗口。

    <|endoftext|> first document <|endoftext|> second document <|endoftext|>

A window may lie across a border, and attention looks across it: what stands before <|endoftext|> the model has to learn
to leave alone. A book fills hundreds of windows, so that few of them have a border; in source code more do.
"""

import hashlib
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from chapter_10_llm_modern_components.bpe import ByteTokenizer, train_tokenizer
from chapter_10_llm_modern_components.dialogue import CHAT_TOKENS
from utils.errors import UserError
from utils.file_io_util import atomic_write, write_json
from utils.seed import seed_of

END_OF_TEXT = "<|endoftext|>"
SPECIAL = [END_OF_TEXT, *CHAT_TOKENS]  # those of a chat are learned later, but have their numbers from the start
SHARD = 2**24  # tokens in a file


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def n_bytes(documents: Sequence[str]) -> int:
    return sum(len(utf8(document)) for document in documents)


def split_validation(documents: Sequence[str], share: float = 0.01) -> tuple[list[str], list[str]]:
    """Return the documents to learn from, and others, at least this share of the bytes, that choose the recipe.

    Those with the lowest checksums are taken: whole documents, from anywhere, but none of more than twice that share
    where there are others.

    Raises:
        UserError: nothing is left to learn from.
    """
    sizes = [len(utf8(document)) for document in documents]
    least = share * sum(sizes)
    fitting = [i for i, size in enumerate(sizes) if size <= 2 * least] or range(len(documents))
    by_checksum = sorted(fitting, key=lambda i: hashlib.sha256(utf8(documents[i])).digest())
    before = accumulate((sizes[i] for i in by_checksum), initial=0)
    chosen = {i for i, done in zip(by_checksum, before, strict=False) if done < least}
    if len(chosen) == len(documents):
        raise UserError("too few documents: one to learn from, and one to choose by")
    parts: tuple[list[str], list[str]] = [], []
    for i, document in enumerate(documents):
        parts[i in chosen].append(document)
    return parts


def checksum(documents: Sequence[str], *settings: object) -> str:
    """Return 16 hexadecimal digits that change with any document, with their borders, and with the settings."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for document in documents:
        data = utf8(document)
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


def load_tokenizer(path: Path | None, documents: Sequence[str], vocab_size: int, folder: Path) -> ByteTokenizer:
    """Return the tokenizer at `path`, or one that the documents teach.

    Raises:
        UserError: it has no token for the end of a text.
    """
    if path is None:
        return cached_tokenizer(documents, vocab_size, folder)
    tokenizer = ByteTokenizer.load(path)
    if END_OF_TEXT not in tokenizer.special:
        raise UserError(f"{path} has no token {END_OF_TEXT}, with which documents are joined")
    return tokenizer


def cached_tokenizer(documents: Sequence[str], vocab_size: int, folder: Path) -> ByteTokenizer:
    """Return the tokenizer that these documents teach, with `SPECIAL`; it is learned once and lies in `folder`."""
    path = folder / f"tokenizer_{checksum(documents, vocab_size, SPECIAL)}.json"
    if path.exists():
        try:
            return ByteTokenizer.load(path)
        except UserError as error:
            print(f"{error}: it is learned anew")
    tokenizer = train_tokenizer(documents, vocab_size, SPECIAL)
    tokenizer.save(path)
    return tokenizer


def cached_stream(documents: Sequence[str], tokenizer: ByteTokenizer, folder: Path) -> list[np.ndarray]:
    """Return the documents' tokens, an end of text before, between and after them, as memory-mapped arrays.

    They are encoded once. The folder's name has the checksum of documents and tokenizer; an index that is written last
    has the checksums of the files, so what was half written or damaged is made anew.
    """
    folder = folder / f"tokens_{checksum(documents, tokenizer.to_plain())}"
    shards = _open_shards(folder)
    if shards is None:
        _write_shards(folder, documents, tokenizer)
        shards = _open_shards(folder)
    if shards is None:
        raise UserError(f"{folder} does not hold what has just been written there: is the disk full, or damaged?")
    return shards


def _write_shards(folder: Path, documents: Sequence[str], tokenizer: ByteTokenizer) -> None:
    end = tokenizer.special[END_OF_TEXT]
    kind = "<u2" if len(tokenizer) <= 2**16 else "<u4"
    index, waiting = [], [end]

    def write(ids: list[int]) -> None:
        data, name = np.array(ids, dtype=kind).tobytes(), f"{len(index):04d}.bin"
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(data)
        index.append({"name": name, "sha256": hashlib.sha256(data).hexdigest()})

    for document in documents:
        waiting += [*tokenizer.encode(document), end]
        while len(waiting) >= SHARD:
            write(waiting[:SHARD])
            del waiting[:SHARD]
    if waiting:
        write(waiting)
    write_json(folder / "index.json", {"kind": kind, "shards": index})


def _open_shards(folder: Path) -> list[np.ndarray] | None:
    """Return the shards in a folder, None if it has none or not what its index says."""
    if not (folder / "index.json").exists():
        return None
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        shards = [np.memmap(folder / shard["name"], index["kind"], mode="r") for shard in index["shards"]]
        found = [hashlib.sha256(data).hexdigest() for data in shards]
        if found == [shard["sha256"] for shard in index["shards"]]:
            return shards
    except (KeyError, OSError, TypeError, ValueError):
        pass
    print(f"{folder} is damaged: the documents are encoded anew")
    return None


class Windows:
    """Windows of T + 1 tokens, which share their outer tokens, in an order that is a function of the seed.

    In each epoch every window comes once, in an order of its own; and where the windows' borders lie changes, so that
    a token is not always read after the same number of others. Window i is the same whoever asks and whatever came
    before, so a training can stop and go on anywhere.

    Raises:
        UserError: no shard is as long as two windows.
    """

    def __init__(self, shards: Sequence[np.ndarray], length: int, seed: int):
        self.shards, self.length, self.seed = list(shards), length, seed
        counts = [max(len(shard) // length - 1, 0) for shard in self.shards]  # one less: there is room for any shift
        self.starts = np.concatenate([[0], np.cumsum(counts)])  # the first window of each shard
        self.epoch: tuple[int, int, Tensor] | None = None  # the last that was asked for
        if not len(self):
            raise UserError(f"the corpus has fewer tokens than two windows of {length}: lower --length")

    def __len__(self) -> int:
        """Return how many windows an epoch has."""
        return int(self.starts[-1])

    def batch(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Return windows number `first` to first + count - 1, counted from the training's beginning.

        They come as the inputs (B, T), and what follows each of their tokens (B, T).
        """
        rows = np.stack([self.window(i) for i in range(first, first + count)])  # (B, T + 1)
        tokens = torch.from_numpy(rows.astype(np.int64))
        return tokens[:, :-1], tokens[:, 1:]

    def window(self, i: int) -> np.ndarray:
        """Return the tokens (T + 1,) of window number i."""
        epoch, place = divmod(i, len(self))
        if self.epoch is None or self.epoch[0] != epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, epoch))
            shift = int(torch.randint(self.length, (), generator=generator))
            self.epoch = epoch, shift, torch.randperm(len(self), generator=generator)
        _, shift, order = self.epoch
        number = int(order[place])
        shard = int(np.searchsorted(self.starts, number, side="right")) - 1
        start = shift + (number - int(self.starts[shard])) * self.length
        return self.shards[shard][start : start + self.length + 1]
