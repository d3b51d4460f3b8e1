"""From a sentence to numbers: words, and the pieces of words that speak for those never seen.
从句子到数字：单词，以及为没见过的单词“代言”的词片段。
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOKEN = re.compile(r"\w+(?:['’\-]\w+)*|[^\w\s]")
MAX_WORDS = 400  # of a sentence that count
MAX_LETTERS = 40  # of a word that count


def tokenize(sentence: str) -> list[str]:
    """Return a sentence's words and signs in lower case; what hangs on an apostrophe or a hyphen stays together."""
    return TOKEN.findall(sentence.lower().replace("’", "'"))[:MAX_WORDS]


def pieces(word: str, shortest: int = 3, longest: int = 5) -> list[str]:
    """Return the character n-grams of "<word>": of "go" they are "<go", "go>" and "<go>" (Bojanowski et al. 2017)."""
    marked = f"<{word[:MAX_LETTERS]}>"
    return [marked[i : i + n] for n in range(shortest, longest + 1) for i in range(len(marked) - n + 1)]


@dataclass
class Vocabulary:
    """Numbers for the words that were seen often enough, and for all pieces, which share `n_buckets` numbers.

    The numbers from 0 are `words`, those after them buckets. Two pieces can fall into the same one.
    """

    words: list[str]
    n_buckets: int

    def __post_init__(self):
        self.index = {word: i for i, word in enumerate(self.words)}

    @classmethod
    def build(cls, sentences: Iterable[Sequence[str]], min_count: int, n_buckets: int) -> "Vocabulary":
        """Collect the words that occur at least `min_count` times, the most frequent first."""
        counts = Counter(word for sentence in sentences for word in sentence)
        frequent = sorted(
            (word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word)
        )
        return cls(frequent, n_buckets)

    def __len__(self) -> int:
        return len(self.words) + self.n_buckets

    def parts(self, word: str) -> list[int]:
        """Return the numbers whose vectors add up to a word's: its own, if it has one, and its pieces'."""
        buckets = [len(self.words) + zlib.crc32(piece.encode()) % self.n_buckets for piece in pieces(word)]
        return [self.index[word], *buckets] if word in self.index else buckets

    def encode(self, sentences: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return all words' parts in one row, where each word's begin (words + 1,), and each sentence's length (B,).

        A sentence without any word counts as the word "".
        """
        words = [word for sentence in sentences for word in (sentence or [""])]
        known = {word: self.parts(word) for word in set(words)}
        parts = [part for word in words for part in known[word]]
        starts = torch.tensor([0] + [len(known[word]) for word in words]).cumsum(0)
        lengths = torch.tensor([max(len(sentence), 1) for sentence in sentences])
        return torch.tensor(parts, dtype=torch.long), starts, lengths
