"""What the chapter's models read: children's books, the standard library of your own Python, or a few made-up lines.
本章的模型读什么：童书、你自己的 Python 标准库，或几行编造的句子。

A corpus is a list of documents. Whole documents are held out, never lines of one: a model that has read half of a book
knows its names and its plot.
"""

import hashlib
import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chapter_06_rnn_lstm_seq.toy import toy_text
from chapter_08_transformer_vanilla.books import QUOTES, load_books
from utils.errors import UserError

SKIPPED = {  # folders of the standard library: tests, tables that a program wrote, what was installed later
    "__pycache__", "_bundled", "dist-packages", "encodings", "idle_test", "lib2to3", "pydoc_data", "site-packages",
    "test", "tests",
}  # fmt: skip
ONE_IN = 10  # documents are held out
TOY_LINES = 5  # in a document


class Corpus(NamedTuple):
    """Documents to learn from, and others to measure on. No document stands in both, and none twice."""

    train: list[str]
    held_out: list[str]


def stories(root: Path) -> Corpus:
    """Return chapter 8's books with a paragraph a line; Treasure Island and Black Beauty are held out.

    Raises:
        UserError: a book is missing and cannot be downloaded.
    """
    return Corpus(*([unwrapped(book) for book in part] for part in load_books(root, "--corpus toy needs no download")))


def unwrapped(book: str) -> str:
    """Join the lines of each paragraph, as they broke to fit a printed page; indented ones are verse, and stay.

    Quotation marks become those of a keyboard, with which prompts are typed, and the _ of italics are left out.
    """
    text = re.sub(r"\[Illustration[^\]]*\]", "", book).translate(QUOTES)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).strip("\n")
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?<=\S)\n(?=\S)", " ", text)) + "\n"


def code(folder: Path | None = None) -> Corpus:
    """Return the Python files of a folder, by default of the standard library of the Python that runs this.

    Which are held out is told by a checksum of their path: the same on every machine and in every version of Python.
    Files that are empty, a copy of another or no UTF-8 are left out.

    Raises:
        UserError: there are none.
    """
    folder = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    parts, seen = Corpus([], []), set()
    for path in _python_files(folder):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if text.strip() and (content := " ".join(text.split())) not in seen:
            seen.add(content)
            parts[is_held_out(path.relative_to(folder).as_posix())].append(text)
    if not parts.train or not parts.held_out:
        raise UserError(f"too few Python files in {folder}: --corpus toy needs none")
    return parts


def is_held_out(name: str) -> bool:
    """Tell whether the document of this name is one of the tenth that is held out."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % ONE_IN == 0


def toy() -> Corpus:
    """Return made-up documents of five lines, no line of which stands anywhere twice."""
    lines = list(dict.fromkeys(toy_text(2000).splitlines(keepends=True)))
    return _every_tenth_held_out(["".join(lines[i : i + TOY_LINES]) for i in range(0, len(lines), TOY_LINES)])


def paragraphs(path: Path) -> Corpus:
    """Return the paragraphs of a text file as documents: what stands between empty lines.

    Raises:
        UserError: the file is missing, is no UTF-8, or has fewer than two different paragraphs.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8") from error
    found = list(dict.fromkeys(part for part in re.split(r"\n[^\S\n]*\n\s*", text.strip()) if part))
    if len(found) < 2:
        raise UserError(f"{path} has fewer than two paragraphs: one to learn from, and one to measure on")
    return _every_tenth_held_out(found)


def load_corpus(name: str, root: Path) -> Corpus:
    """Return "stories", "code" or "toy".

    Raises:
        UserError: it is not there and cannot be downloaded.
    """
    return {"stories": lambda: stories(root), "code": code, "toy": toy}[name]()


def cut(documents: list[str], size: int) -> list[str]:
    """Return the documents' first `size` bytes; the last document ends where they do."""
    parts, left = [], size
    for document in documents:
        data = document.encode("utf-8", "surrogatepass")[:left]
        parts.append(data.decode("utf-8", "ignore"))
        left -= len(data)
        if not left:
            break
    return parts


def _python_files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - SKIPPED)  # `os.walk` goes only into what is left
        yield from (Path(place, name) for name in sorted(names) if name.endswith(".py"))


def _every_tenth_held_out(documents: list[str]) -> Corpus:
    return Corpus([document for i, document in enumerate(documents) if i % ONE_IN], documents[::ONE_IN])
