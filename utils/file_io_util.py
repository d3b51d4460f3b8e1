"""Files that are written whole or not at all, and files from the network.
要么完整写入、要么完全不写的文件，以及从网络下载的文件。
"""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from tqdm import tqdm

from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
CHUNK = 2**16  # bytes read at once


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it into place once the block has succeeded.

    A crash, a full disk or kill -9 leaves the old file as it was. The folder is made if need be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")  # the suffix stays: NumPy and matplotlib go by it
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def has_md5(path: Path, md5: str) -> bool:
    """Tell whether there is a file at `path` with this checksum."""
    if not Path(path).is_file():
        return False
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == md5


def download(url: str, path: Path, md5: str, offline: str = "", timeout: float = 30, gzipped: bool = False) -> Path:
    """Return `path`, fetched from `url` unless the right file is there already.

    Args:
        offline: what works without this file, such as "--dataset shapes needs no download": ends the error message.
        timeout: seconds without a byte after which the server counts as out of reach.
        gzipped: the server has it packed; `path` and `md5` are those of the unpacked file.

    Raises:
        UserError: the file did not arrive whole; says what to put where by hand. What was at `path` is still there.
    """
    path = Path(path)
    if has_md5(path, md5):
        return path
    try:
        with atomic_write(path) as temporary:
            _fetch(url, temporary, path.name, timeout)
            if gzipped:
                temporary.write_bytes(gzip.decompress(temporary.read_bytes()))
            if not has_md5(temporary, md5):
                raise OSError("what arrived has another checksum")
    except (OSError, EOFError, zlib.error, HTTPException) as error:  # the network's, the disk's, a damaged archive's
        advice = [f"get {path.name} (MD5 {md5}) from there or a mirror in some other way, and put it at {path}"]
        advice += [offline] if offline else []
        raise UserError(f"cannot download {url}: {str(error).strip('<>')}; {'; '.join(advice)}") from error
    return path


def _fetch(url: str, path: Path, name: str, timeout: float) -> None:
    request = Request(url, headers={"User-Agent": "Mozilla/5.0"})  # some servers refuse Python's own name
    with urlopen(request, timeout=timeout) as response, open(path, "wb") as file:
        size = int(response.headers.get("Content-Length") or 0)
        with tqdm(total=size or None, desc=name, unit="B", unit_scale=True) as bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
