"""What a family of tasks is: values drawn at random, several ways to ask, one right answer, and a split by the values.
一个任务族的构成：随机取值、多种问法、唯一正确的答案，以及按取值划分的训练集与测试集。
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from chapter_10_llm_modern_components.tasks.vocabulary import LONGEST_WORD, WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHORTEST_LIST, LONGEST_LIST = 3, 7
BUCKETS = {"test": range(0, 2), "validation": range(2, 3), "train": range(3, 20)}  # of 20: 10 %, 5 % and 85 %
Value = int | str | tuple[int, ...] | tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """A question, its one right answer, and what the question was made of."""

    family: str
    kind: str  # of the questions of the family: "plus"
    values: tuple[Value, ...]
    question: str
    answer: str
    expression: str = ""  # what to ask a calculator; empty: it does not help
    work: str = ""  # what to write before the answer, on lines of its own; empty: nothing


class Family:
    """One family: its generator is `draw`, its checker `solve`, to whose result a reply must be equal.

    `phrasings` has for each kind of question the ways of asking it; {0}, {1} ... are the values. What a question or an
    answer has between double quotes is spelled letter by letter, see dialogue/chat_format.py.
    """

    phrasings: dict[str, tuple[str, ...]]

    def kinds(self, split: str) -> Sequence[str]:
        """Return the kinds of questions of a split; "unseen" is for those that no other split has."""
        return [] if split == "unseen" else list(self.phrasings)

    def draw(self, kind: str, generator: torch.Generator) -> tuple[Value, ...]:
        """Make up the values of a question."""
        raise NotImplementedError

    def solve(self, kind: str, *values: Value) -> str:
        """Return the one right answer."""
        raise NotImplementedError

    def ask(self, kind: str, values: tuple[Value, ...], generator: torch.Generator) -> str:
        """Return a question about these values, in one of its phrasings."""
        return pick(self.phrasings[kind], generator).format(*map(shown, values))

    def expression(self, kind: str, *values: Value) -> str:
        """Return what a calculator makes the answer of."""
        return ""

    def work(self, kind: str, *values: Value) -> str:
        """Return the lines on the way to the answer: a step that is written down need not be done in the head."""
        return ""

    def is_right(self, example: Example, reply: str) -> bool:
        """Tell whether a reply's last line is the right answer, and nothing but the answer."""
        return last_line(reply) == self.solve(example.kind, *example.values)


def split_of(values: Sequence[Value]) -> str:
    """Return the split that a question with these values belongs to: "train", "validation" or "test".

    It is told by a hash of the values alone, in whatever order they stand and whatever is asked about them: no other
    phrasing, kind or family brings a test question's values into the training set.
    """
    parts = [str(part) for value in values for part in (value if isinstance(value, tuple) else (value,))]
    digest = hashlib.sha256("\n".join(sorted(parts)).encode()).digest()
    bucket = int.from_bytes(digest[:8], "big") % 20
    return next(split for split, buckets in BUCKETS.items() if bucket in buckets)


def last_line(reply: str) -> str:
    """Return the answer in a reply: what comes before it is how it was found."""
    return reply.strip().rpartition("\n")[2].strip()


def shown(value: Value) -> str:
    """Write a value as it stands in a question: (3, 8, 5) -> "3, 8, 5"."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def quoted(text: str) -> str:
    return f'"{text}"'


def integer(low: int, high: int, generator: torch.Generator) -> int:
    """Draw a whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def number(generator: torch.Generator, least: int = 0) -> int:
    """Draw a number of at most three digits; every other one is below 100."""
    return integer(least, pick((9, 99, 999, 999), generator), generator)


def numbers(generator: torch.Generator) -> tuple[int, ...]:
    """Draw a list of three to seven different numbers."""
    length, drawn = integer(SHORTEST_LIST, LONGEST_LIST, generator), {}
    while len(drawn) < length:
        drawn[number(generator)] = None
    return tuple(drawn)


def words(generator: torch.Generator) -> tuple[str, ...]:
    """Draw a list of three to seven different words."""
    length = integer(SHORTEST_LIST, LONGEST_LIST, generator)
    return tuple(WORDS[i] for i in torch.randperm(len(WORDS), generator=generator)[:length].tolist())


def word_to_spell(generator: torch.Generator, alphabet: str = LETTERS) -> str:
    """Draw a word, or as often a string of three to eight letters."""
    if integer(0, 1, generator):
        return pick(WORDS, generator)
    places = torch.randint(len(alphabet), (integer(3, LONGEST_WORD, generator),), generator=generator)
    return "".join(alphabet[i] for i in places.tolist())


def pick(options: Sequence, generator: torch.Generator):
    """Draw one of the options."""
    return options[integer(0, len(options) - 1, generator)]
