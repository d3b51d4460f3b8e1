"""Sentences as lists of words, words as pieces, and pieces as numbers.
把句子拆成词，把词拆成片段，再把片段编成数字。

Frequent words stay whole; a rare one is put together from pieces that were learned by merging, again and again, the
most frequent pair of neighbours (byte-pair encoding: Sennrich et al. 2016, algorithm 1). Chapter 8 makes it fast and
lossless.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

SPECIAL = PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<bos>", "<eos>"
PAD_ID, UNK_ID, BOS_ID, EOS_ID = range(4)
WORD = re.compile(r"\w+|[^\w\s]")  # a run of letters and digits, or a single mark
GLUE = "\u2581"  # ▁ begins every word that a space stood before, so that joining pieces restores the text


def split_words(text: str) -> list[str]:
    """Split a sentence into words and marks; ▁ marks where a space stood, or the sentence began.

    "Ein Hund, ja." -> ["▁Ein", "▁Hund", ",", "▁ja", "."]
    """
    return [(GLUE if m.start() == 0 or text[m.start() - 1].isspace() else "") + m[0] for m in WORD.finditer(text)]


def learn_merges(words: Counter, count: int) -> list[tuple[str, str]]:
    """Return up to `count` pairs of pieces to merge, in the order in which they were learned.

    Starts from single characters. Of equally frequent pairs the first in alphabetical order is merged, so the result
    depends on nothing but the counts. A pair that stands but once is not worth a merge.
    """
    pieces = {word: tuple(word) for word in words}
    counts, holders = Counter(), {}  # how often a pair stands, and in which words

    def note(word: str, sign: int) -> list[tuple[str, str]]:
        pairs = list(zip(pieces[word], pieces[word][1:], strict=False))
        for pair in pairs:
            counts[pair] += sign * words[word]
            holders.setdefault(pair, set()).add(word)
        return pairs

    for word in words:
        note(word, 1)
    queue = [(-number, pair) for pair, number in counts.items()]  # the most frequent first
    heapify(queue)
    merges = []
    while len(merges) < count and queue:
        minus_count, best = heappop(queue)
        if -minus_count != counts[best]:  # noted before the pair became rarer or more frequent
            continue
        if counts[best] < 2:
            break
        merges.append(best)
        changed = set()
        for word in holders.pop(best):  # only these change
            changed.update(note(word, -1))
            pieces[word] = merge_pair(pieces[word], best)
            changed.update(note(word, 1))
        for pair in changed - {best}:
            heappush(queue, (-counts[pair], pair))
    return merges


def merge_pair(parts: Sequence[str], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join every occurrence of the pair, from left to right: (a, b, a, b), (a, b) -> (ab, ab)."""
    merged, i = [], 0
    while i < len(parts):
        joined = tuple(parts[i : i + 2]) == pair
        merged.append(parts[i] + parts[i + 1] if joined else parts[i])
        i += 1 + joined
    return tuple(merged)


class Vocabulary:
    """Pieces and their numbers. With merges a word is split into pieces, without it is a piece, or unknown."""

    def __init__(self, pieces: Sequence[str], merges: Iterable[Sequence[str]] = ()):
        """`pieces` are those that no merge makes."""
        self.merges = [(a, b) for a, b in merges]
        self.pieces = [*SPECIAL, *pieces, *(a + b for a, b in self.merges)]
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}
        self.rank = {pair: i for i, pair in enumerate(self.merges)}
        self._known: dict[str, list[str]] = {}

    @classmethod
    def of_words(cls, texts: Iterable[str], min_count: int = 2) -> "Vocabulary":
        """Whole words that occur at least `min_count` times, the most frequent first."""
        counts = Counter(word for text in texts for word in split_words(text))
        return cls([w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= min_count])

    @classmethod
    def of_characters(cls, texts: Iterable[str]) -> "Vocabulary":
        """Every character of the texts."""
        return cls(sorted(set().union(*texts)), [])

    @classmethod
    def of_subwords(cls, texts: Iterable[str], size: int) -> "Vocabulary":
        """Learn about `size` pieces: all characters, then merges."""
        words = Counter(word for text in texts for word in split_words(text))
        characters = sorted(set().union(*words))
        merges = learn_merges(words, size - len(SPECIAL) - len(characters))
        return cls(characters, merges)

    @classmethod
    def of_plain(cls, plain: dict) -> "Vocabulary":
        """Return the vocabulary that `plain` has written down."""
        return cls(plain["pieces"], [pair.split(" ") for pair in plain["merges"]])

    def plain(self) -> dict[str, list[str]]:
        """Return plain values that rebuild it: the pieces that no merge makes, and the merges, "a b" for each."""
        pieces = self.pieces[len(SPECIAL) : len(self.pieces) - len(self.merges)]
        return {"pieces": pieces, "merges": [f"{a} {b}" for a, b in self.merges]}

    def __len__(self) -> int:
        return len(self.pieces)

    def split(self, text: str) -> list[str]:
        """Split a sentence into pieces."""
        words = split_words(text)
        return [piece for word in words for piece in self._split_word(word)] if self.merges else words

    def _split_word(self, word: str) -> list[str]:
        if word not in self._known:
            parts = tuple(word)
            while len(parts) > 1:
                pair = min(zip(parts, parts[1:], strict=False), key=lambda pair: self.rank.get(pair, len(self.rank)))
                if pair not in self.rank:
                    break
                parts = merge_pair(parts, pair)
            self._known[word] = list(parts)
        return self._known[word]

    def encode(self, pieces: Iterable[str]) -> list[int]:
        """Return the numbers of pieces; UNK_ID for what is not known."""
        return [self.ids.get(piece, UNK_ID) for piece in pieces]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the pieces of numbers."""
        return [self.pieces[i] for i in ids]


def join(pieces: Iterable[str]) -> str:
    """Make a sentence of pieces: the reverse of `Vocabulary.split`, but for the width of spaces."""
    return "".join(pieces).replace(GLUE, " ").strip()
