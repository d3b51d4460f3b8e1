"""Byte-pair encoding: frequent pieces of text are long, rare ones short, and any text whatever comes back as it was.
字节对编码：常见的片段长，罕见的片段短；任何文本都能原样还原。

Chapter 7 learned merges too, and lost what it had not seen: unknown characters became <unk>, and of spaces it kept only
that there had been some. Here spaces belong to the pieces, and a character that is not in the alphabet is written as
the bytes of its UTF-8 code, each of which is a piece. So every text has numbers, and the numbers have one text.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import groupby
from pathlib import Path

from chapter_07_attention_mechanism.vocab import GLUE, SPECIAL, learn_merges, merge_pair
from utils.errors import UserError
from utils.file_io_util import write_json

CHUNK = re.compile(r" ?\w+| ?[^\w\s]|\s")  # a word, or a single mark, with the space before it; or some other space
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
FIRST_BYTE = len(SPECIAL)  # the numbers: special pieces, bytes, characters, and what merges make
CACHED = 2**16  # chunks of text whose pieces are remembered


def chunks(text: str) -> list[str]:
    """Cut a text where no piece may go across: "Ein Hund!\\n" -> [" Ein", " Hund", "!", "\\n"].

    A space is put in front, so that a word is the same at the beginning of a text and inside of it.
    """
    return CHUNK.findall(f" {text}") if text else []


def learn_merges_by_definition(words: Mapping[str, int], count: int) -> list[tuple[str, str]]:
    """Count all pairs of neighbours, merge the most frequent one everywhere, and again (Sennrich et al. 2016, alg. 1).

    Chapter 7's `learn_merges` returns the same, but counts anew only where a merge has changed something.
    """
    pieces, merges = {word: tuple(word) for word in words}, []
    while len(merges) < count:
        counts = Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:], strict=False):
                counts[pair] += words[word]
        if max(counts.values(), default=0) < 2:  # a pair that stands but once is not worth a merge
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))  # of equally frequent ones the first by alphabet
        merges.append(best)
        pieces = {word: merge_pair(parts, best) for word, parts in pieces.items()}
    return merges


def split_by_definition(word: str, rank: Mapping[tuple[str, str], int]) -> list[str]:
    """Start from characters; merge the pair that was learned first, wherever it stands, and again."""
    parts = tuple(word)
    while pairs := [pair for pair in zip(parts, parts[1:], strict=False) if pair in rank]:
        parts = merge_pair(parts, min(pairs, key=rank.__getitem__))
    return list(parts)


def split_word(word: str, rank: Mapping[tuple[str, str], int]) -> list[str]:
    """Return what `split_by_definition` does, in n log n steps instead of n^2 for n characters.

    The pairs wait in a queue, the one learned first in front. Parts are never moved: one that is merged into its left
    neighbour becomes empty, and `left` and `right` lead past it.
    """
    parts, n = list(word), len(word)
    left, right = list(range(-1, n - 1)), list(range(1, n + 1))
    queue = [(rank[pair], i) for i, pair in enumerate(zip(word, word[1:], strict=False)) if pair in rank]
    heapify(queue)
    while queue:
        first, merged = queue[0][0], []
        while queue and queue[0][0] == first:  # all positions of one pair, from left to right
            i = heappop(queue)[1]
            j = right[i]
            if j == n or rank.get((parts[i], parts[j])) != first:  # one of the two has been merged since
                continue
            parts[i], parts[j], right[i] = parts[i] + parts[j], "", right[j]
            if right[j] < n:
                left[right[j]] = i
            merged.append(i)
        for i in merged:
            for a, b in ((left[i], i), (i, right[i])):
                if a >= 0 and b < n and (parts[a], parts[b]) in rank:
                    heappush(queue, (rank[parts[a], parts[b]], a))
    return [part for part in parts if part]


class Tokenizer:
    """Text to numbers and back, without loss.

    PAD, UNK, BOS and EOS have the numbers that they have in chapter 7. No text gives one of them.
    """

    def __init__(self, characters: str, merges: Iterable[Sequence[str] | str]):
        """`characters` are those with pieces of their own; `merges` are in the order in which they were learned.

        They are pairs, or as `to_plain` gives them: two strings a merge, one after the other.
        """
        merges = list(merges)
        if merges and isinstance(merges[0], str):
            merges = list(zip(merges[::2], merges[1::2], strict=True))
        self.characters, self.merges = characters, list(dict.fromkeys((a, b) for a, b in merges))
        texts = dict.fromkeys([*characters, *(a + b for a, b in self.merges)])
        self.pieces = [*SPECIAL, *BYTES, *texts]
        self.ids = {text: i for i, text in enumerate(texts, FIRST_BYTE + len(BYTES))}
        self.rank = {pair: i for i, pair in enumerate(self.merges)}
        self._alphabet = frozenset(characters)
        self._bytes = [b""] * len(SPECIAL) + [bytes([byte]) for byte in range(256)] + [_utf8(text) for text in texts]
        self._ids_of = lru_cache(CACHED)(self._encode_chunk)

    @classmethod
    def train(cls, texts: Iterable[str], size: int, min_count: int = 2) -> "Tokenizer":
        """Learn at most `size` pieces, unless bytes and the characters seen `min_count` times are more than that."""
        counts = Counter(chunk for text in texts for chunk in chunks(text))
        seen = Counter()
        for chunk, count in counts.items():
            for character in chunk:
                seen[character] += count
        characters = sorted(character for character, count in seen.items() if count >= min_count)
        words = Counter()
        for chunk, count in counts.items():
            for known, word in _runs(chunk, frozenset(characters)):
                if known:
                    words[word] += count
        return cls("".join(characters), learn_merges(words, size - len(SPECIAL) - len(BYTES) - len(characters)))

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        return [i for chunk in chunks(text) for i in self._ids_of(chunk)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of numbers. Special pieces are left out; bytes that are no UTF-8 become U+FFFD."""
        data = b"".join(self._bytes[i] for i in ids)
        try:
            text = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:  # a model may write any bytes
            text = data.decode("utf-8", "replace")
        return text.removeprefix(" ")

    def show(self, ids: Iterable[int]) -> list[str]:
        """Return each piece as it is shown to people, with ▁ for a space: ["▁Ein", "▁Hund", "!", "<0xF0>"]."""
        return [self.pieces[i].replace(" ", GLUE) for i in ids]

    def count_bytes(self, ids: Iterable[int]) -> int:
        """Return how many of the numbers are bytes of characters without pieces of their own."""
        return sum(FIRST_BYTE <= i < FIRST_BYTE + len(BYTES) for i in ids)

    def to_plain(self) -> dict:
        """Return what `Tokenizer(**plain)` is made of: plain values, for a checkpoint or a file.

        A string that comes again is the same object, which pickle writes once: a file of half the size.
        """
        known: dict[str, str] = {}
        return {"characters": self.characters, "merges": [known.setdefault(s, s) for pair in self.merges for s in pair]}

    def save(self, path: Path) -> None:
        write_json(path, self.to_plain())

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing or holds something else.
        """
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{path} holds no tokenizer: {error}") from error

    def _encode_chunk(self, chunk: str) -> tuple[int, ...]:
        ids: list[int] = []
        for known, run in _runs(chunk, self._alphabet):
            if known:
                ids += [self.ids[piece] for piece in split_word(run, self.rank)]
            else:
                ids += [FIRST_BYTE + byte for byte in _utf8(run)]
        return tuple(ids)


def _runs(chunk: str, alphabet: frozenset[str]) -> Iterator[tuple[bool, str]]:
    """Yield the longest stretches of characters that are all in the alphabet (True), or all not."""
    return ((known, "".join(run)) for known, run in groupby(chunk, alphabet.__contains__))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # half of a surrogate pair is no character, but may be in a string
