"""Sentence pairs to translate: Multi30k in both directions, Tatoeba's Chinese and English, and a toy grammar.
翻译用的句对：Multi30k（双向）、Tatoeba 中英句对，以及由一套小语法生成的句对。
"""

import hashlib
import re
import unicodedata
import zlib
from collections import defaultdict
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from chapter_07_attention_mechanism.tasks.translate import load_pairs as multi30k_or_toy
from utils.errors import UserError
from utils.file_io_util import atomic_write, download

Pairs = list[tuple[str, str]]  # the sentence to translate, and its translation
PAIRS = ["de-en", "en-de", "zh-en"]
LANGUAGES = {"de": "German", "en": "English", "zh": "Chinese"}
TATOEBA_URL = "https://www.manythings.org/anki/cmn-eng.zip"
OFFLINE = "--dataset toy needs no download"
LEAST = 20_000  # a file that is whole has more pairs
N_TEST, N_VALIDATION = 1000, 500  # pairs of Tatoeba's
CHINESE = re.compile("[\u4e00-\u9fff]")


def load_pairs(pair: str, dataset: str, root: Path) -> tuple[Pairs, Pairs, Pairs]:
    """Return what to train on, to validate on and to test on, for one of PAIRS.

    Args:
        dataset: "full": Multi30k, or, where Chinese is read, Tatoeba; "toy": made up here.

    Raises:
        UserError: a file is missing and cannot be downloaded, or does not hold what it should.
    """
    source, target = pair.split("-")
    if dataset == "full" and source == "zh":
        return split_pairs(tatoeba(root))
    return multi30k_or_toy(dataset, root, (source, target))


def tatoeba(root: Path) -> Pairs:
    """Return pairs of a Chinese and an English sentence, each once (tatoeba.org, CC BY 2.0 FR).

    Looks for `root`/cmn_eng/cmn.txt, then for cmn-eng.zip beside it, then downloads that from manythings.org. The file
    is made anew now and then: figures compare only on the same one.

    Raises:
        UserError: as `load_pairs`.
    """
    path = root / "cmn_eng" / "cmn.txt"
    if not path.exists():
        archive = download(TATOEBA_URL, path.with_name("cmn-eng.zip"), None, OFFLINE)
        try:
            with ZipFile(archive) as members, atomic_write(path) as temporary:
                temporary.write_bytes(members.read("cmn.txt"))
        except (BadZipFile, EOFError, KeyError, zlib.error) as error:
            raise UserError(f"{archive} is damaged or another file: delete it, and it will be fetched again") from error
    return read_tatoeba(path)


def read_tatoeba(path: Path, least: int = LEAST) -> Pairs:
    """Read lines of English, a tab, Chinese, and perhaps a tab and who wrote them; return (Chinese, English).

    Raises:
        UserError: a line has another form, a side has the wrong script, or there are fewer than `least` pairs.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: byte {error.start} cannot be read") from error
    pairs, astray = {}, 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        english, chinese, *_ = [*(part.strip() for part in line.split("\t")), "", ""]
        if not english or not chinese:
            raise UserError(f"{path}, line {number}: not an English sentence, a tab, and a Chinese one")
        astray += bool(CHINESE.search(english)) or not CHINESE.search(chinese)
        pairs[chinese, english] = None
    if 100 * astray > len(pairs):  # a few are of names and numbers alone
        raise UserError(f"{path}: {astray} lines are not English first and Chinese second: is it Tatoeba's cmn.txt?")
    if len(pairs) < least:
        raise UserError(f"{path} has {len(pairs)} pairs, not at least {least}: is it whole?")
    return list(pairs)


def split_pairs(pairs: Pairs, n_test: int = N_TEST, n_validation: int = N_VALIDATION) -> tuple[Pairs, Pairs, Pairs]:
    """Return a training, a validation and a test part of which no two share a sentence, on either side.

    A sentence has several translations, and these have others, so pairs form groups that are linked by a sentence, and
    each group goes to one part as a whole. Sentences that differ in case, spaces and marks alone count as the same.
    The groups are taken in the order of a checksum, which shuffles them in the same way wherever the file comes from:
    pairs that are added later hardly change where the others go.
    """
    groups = sorted(linked(pairs), key=lambda group: checksum(min(group)))
    parts: dict[str, Pairs] = {"test": [], "validation": [], "train": []}
    room = {"test": n_test, "validation": n_validation, "train": len(pairs)}
    for group in groups:
        name = next(name for name in parts if len(parts[name]) + len(group) <= room[name])
        parts[name] += group
    return parts["train"], parts["validation"], parts["test"]


def linked(pairs: Pairs) -> list[Pairs]:
    """Return the groups of pairs that hang together by sentences that they share (union-find)."""
    parent: dict[tuple[int, str], tuple[int, str]] = {}

    def root(node: tuple[int, str]) -> tuple[int, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]  # halves the path for whoever comes next
        return node

    for source, target in pairs:
        parent[root((0, bare(source)))] = root((1, bare(target)))
    groups = defaultdict(list)
    for pair in pairs:
        groups[root((0, bare(pair[0])))].append(pair)
    return list(groups.values())


def bare(text: str) -> str:
    """Return a sentence without case, spaces and marks; the text itself if nothing is left."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold()) or text


def checksum(pair: tuple[str, str]) -> str:
    return hashlib.md5("\t".join(pair).encode(), usedforsecurity=False).hexdigest()
