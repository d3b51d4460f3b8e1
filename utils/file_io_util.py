"""Files that are written whole or not at all, and files from the network.
要么完整写入、要么完全不写的文件，以及从网络下载的文件。
"""

import errno
import gzip
import hashlib
import json
import math
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen
from zipfile import ZIP_STORED, BadZipFile, ZipFile

from tqdm import tqdm

from utils.errors import UserError

try:
    import fcntl
except ImportError:  # Windows, where a file that somebody holds open cannot be deleted
    fcntl = None

ROOT = Path(__file__).resolve().parents[1]
CHUNK = 2**16  # bytes read at once
TEMPORARY = ".writing-"  # how the names of unfinished files begin
FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}  # what a write that failed says, and not of which file


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it into place once the block has succeeded.

    A crash, a full disk or kill -9 leaves the old file as it was. Of two writers at once, on one machine or on two that
    share the folder, each writes a file of its own, and the last one to finish wins. The folder is made if need be, and
    cleared of what writers that were killed have left in it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_orphans(path.parent)
    temporary, lock = _new_file(path.parent, path.suffix)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if fcntl is None:
            os.close(lock)  # Windows replaces no file that is open
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL or error.filename == str(temporary):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            os.close(lock)
        temporary.unlink(missing_ok=True)


def unfinished(folder: Path) -> list[Path]:
    """Return the files in `folder` that are being written, or whose writers were killed."""
    return [path for path in folder.iterdir() if path.name.startswith(TEMPORARY)] if folder.is_dir() else []


def remove_orphans(folder: Path) -> None:
    """Delete the unfinished files whose writers have died: nobody holds their locks."""
    for path in unfinished(folder):
        with suppress(OSError):  # a living writer's, or another one has just deleted it
            if fcntl is None:
                path.unlink()
                continue
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(file)


def _new_file(folder: Path, suffix: str) -> tuple[Path, int]:
    """Create a file that nobody else has; return its path, and a descriptor that holds its lock until it is closed.

    The suffix stays, since NumPy and Matplotlib go by it, but not the name, which may be as long as names can be.
    """
    while True:
        path = folder / f"{TEMPORARY}{secrets.token_hex(8)}{suffix if len(suffix) < 20 else ''}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            return path, file
        with suppress(OSError):  # a file system without locks has no orphans removed either
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file)):
                return path, file
        os.close(file)  # somebody took it for an orphan before it was locked


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON, which knows no NaN and no infinity: they become null."""
    text = json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as temporary:  # of a name that is not UTF-8 the odd bytes become \udcff and the like
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_archive(path: Path) -> None:
    """Look through a zip archive, such as PyTorch's, without unpacking anything.

    Raises:
        OSError: it is damaged, or would unpack to more than its own size. PyTorch compresses nothing.
    """
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != ZIP_STORED for member in members):
                raise OSError("it is compressed, and may hold any amount")
            if sum(member.file_size for member in members) > Path(path).stat().st_size:
                raise OSError("it declares more than it holds")
            if archive.testzip():  # PyTorch does not look at the checksums that it writes
                raise OSError("a checksum is wrong")
    except (BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise OSError(str(error)) from error


def has_md5(path: Path, md5: str | None) -> bool:
    """Tell whether there is a file at `path` with this checksum."""
    if not Path(path).is_file():
        return False
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == md5


def download(
    url: str, path: Path, md5: str | None, offline: str = "", timeout: float = 30, gzipped: bool = False
) -> Path:
    """Return `path`, fetched from `url` unless the right file is there already.

    Args:
        md5: the file's checksum; None where the server makes the file anew each time: the caller checks its contents.
        offline: what works without this file, such as "--dataset shapes needs no download": ends the error message.
        timeout: seconds without a byte after which the server counts as out of reach.
        gzipped: the server has it packed; `path` and `md5` are those of the unpacked file.

    Raises:
        UserError: the file did not arrive whole; says what to put where by hand. What was at `path` is still there.
    """
    path = Path(path)
    if has_md5(path, md5) or (md5 is None and path.is_file()):
        return path
    try:
        with atomic_write(path) as temporary:
            _fetch(url, temporary, path.name, timeout)
            if gzipped:
                temporary.write_bytes(gzip.decompress(temporary.read_bytes()))
            if md5 is not None and not has_md5(temporary, md5):
                raise OSError("what arrived has another checksum")
    except (OSError, EOFError, zlib.error, HTTPException) as error:  # the network's, the disk's, a damaged archive's
        known = f" (MD5 {md5})" if md5 else ""
        advice = [f"get {path.name}{known} from there or a mirror in some other way, and put it at {path}"]
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
