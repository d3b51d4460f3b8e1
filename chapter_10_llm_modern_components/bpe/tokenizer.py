"""Any bytes to numbers and back: a vocabulary that begins with the 256 bytes, so that nothing is ever unknown.
任意字节与编号互换：词表从 256 个字节开始，因此没有什么是“未知”的。

Chapter 8 began with characters and wrote the unknown ones as bytes. Here all are bytes from the start, as in GPT-2:
the alphabet is the same for every language, merges may build characters, and what is no text comes back as well.
"""

import json
import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from chapter_07_attention_mechanism.vocab import GLUE
from chapter_08_transformer_vanilla.tokenizer import split_word
from chapter_10_llm_modern_components.bpe.split import byte_characters, chunks, gpt_pattern
from utils.errors import UserError
from utils.file_io_util import write_json

CACHED = 2**16  # chunks whose numbers are remembered
VISIBLE = str.maketrans({" ": GLUE, "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class ByteTokenizer:
    """Tokens 0 to 255 are the bytes, then comes what each merge makes, in the order of learning, then special tokens.

    `tokens` has the bytes of each, `special` the numbers of the special ones.
    """

    def __init__(self, merges: Iterable[Sequence[int]], special: Sequence[str] = (), pattern: str | None = None):
        """`merges` are pairs of earlier tokens; `pattern` cuts texts into chunks, as `gpt_pattern` does by default.

        Raises:
            ValueError: the pattern has groups, a merge is of tokens yet to come, or two tokens are the same.
        """
        self.pattern = gpt_pattern() if pattern is None else pattern
        self.compiled = re.compile(self.pattern)
        if self.compiled.groups:
            raise ValueError("the pattern has groups: write (?:...)")
        self.merges = [(a, b) for a, b in merges]
        self.tokens = [bytes([byte]) for byte in range(256)]
        for a, b in self.merges:
            if min(a, b) < 0:
                raise ValueError(f"the merge of {a} and {b} is of no tokens")
            self.tokens.append(self.tokens[a] + self.tokens[b])
        characters = [token.decode("latin-1") for token in self.tokens]
        self._ids = {token: i for i, token in enumerate(characters)}
        self._rank = {(characters[a], characters[b]): i for i, (a, b) in enumerate(self.merges)}
        self.special = {name: i for i, name in enumerate(special, len(self.tokens))}
        if len(self._ids) < len(self.tokens) or len(self.special) < len(special) or "" in self.special:
            raise ValueError("two tokens are the same, or a special one is empty")
        self.tokens += [name.encode("utf-8", "surrogatepass") for name in self.special]
        self._ids_of = lru_cache(CACHED)(self._encode_chunk)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str | bytes, allowed_special: Collection[str] = ()) -> list[int]:
        """Return the numbers of a text, or of any bytes.

        A special token's name in a text is text like any other, unless it is allowed: what users type commands nothing.

        Raises:
            UserError: a name that is allowed is not one of `special`.
        """
        if unknown := sorted(set(allowed_special) - self.special.keys()):
            raise UserError(f"no special token {' '.join(unknown)}; there are: {' '.join(self.special) or 'none'}")
        if not allowed_special:
            return [i for chunk in chunks(text, self.compiled) for i in self._ids_of(chunk)]
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        names = sorted((self.tokens[self.special[name]] for name in allowed_special), key=len, reverse=True)
        ids: list[int] = []
        for i, part in enumerate(re.split(b"(" + b"|".join(map(re.escape, names)) + b")", data)):
            ids += [self.special[part.decode("utf-8", "surrogatepass")]] if i % 2 else self.encode(part)
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of numbers: what was encoded, to the last bit.

        Raises:
            ValueError: a number is no token's.
        """
        ids = list(ids)
        if ids and not 0 <= min(ids) <= max(ids) < len(self):
            raise ValueError(f"tokens are numbered from 0 to {len(self) - 1}")
        return b"".join(self.tokens[i] for i in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of numbers; bytes that are no UTF-8 become U+FFFD."""
        data = self.decode_bytes(ids)
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:  # a model may write any bytes
            return data.decode("utf-8", "replace")

    def show(self, ids: Iterable[int]) -> list[str]:
        """Return each token as it is shown to people: ["▁Ein", "▁Hund", "\\n", "\\xf0"]."""
        return [self.tokens[i].decode("utf-8", "backslashreplace").translate(VISIBLE) for i in ids]

    def to_plain(self) -> dict:
        """Return what `ByteTokenizer(**plain)` is made of: plain values, for a checkpoint or a file."""
        return {"merges": [list(pair) for pair in self.merges], "special": [*self.special], "pattern": self.pattern}

    def save(self, path: Path) -> None:
        write_json(path, self.to_plain())

    @classmethod
    def load(cls, path: Path) -> "ByteTokenizer":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing or holds something else.
        """
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file") from error
        except (AttributeError, IndexError, TypeError, ValueError, RecursionError, re.error) as error:
            raise UserError(f"{path} holds no tokenizer: {error}") from error

    def _encode_chunk(self, chunk: str) -> tuple[int, ...]:
        return tuple(self._ids[piece] for piece in split_word(byte_characters(chunk), self._rank))
