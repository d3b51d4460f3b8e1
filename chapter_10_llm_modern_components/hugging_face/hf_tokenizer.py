"""Reads tokenizer.json, the file of Hugging Face's `tokenizers`, where it holds a byte-level BPE such as GPT-2's.
读取 Hugging Face `tokenizers` 的文件 tokenizer.json，只要里面是 GPT-2 那样的字节级 BPE。

What it says is what `bpe` does: cut a text into chunks, write each as bytes, merge the pairs that were learned first.
Only the numbers of the tokens are others, and the bytes are written as characters that can be printed.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from chapter_08_transformer_vanilla.tokenizer import split_word
from chapter_10_llm_modern_components.bpe.split import byte_characters, ranges
from chapter_10_llm_modern_components.hugging_face.hf_compat import read_json
from utils.errors import UserError

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # what ByteLevel cuts with
CACHED = 2**16  # chunks whose numbers are remembered


class HfTokenizer:
    """A tokenizer of somebody else's model, used like `ByteTokenizer`.

    `tokens` has the bytes of each number, `special` the numbers of the special ones, `start` those before each text.
    """

    def __init__(self, vocab: dict[str, int], merges: list[tuple[str, str]], patterns: list[str], whole_first: bool):
        """`vocab` and `merges` write each byte as the character of that number.

        Args:
            whole_first: a chunk that is a token is not put together from merges.

        Raises:
            ValueError: a byte or what a merge makes is no token.
        """
        needed = [chr(byte) for byte in range(256)] + [a + b for a, b in merges]
        if missing := [token for token in needed if token not in vocab]:
            raise ValueError(f"{missing[0]!r} is not in its vocabulary")
        self.vocab, self.whole_first = vocab, whole_first
        self.rank = {pair: i for i, pair in reversed(list(enumerate(merges)))}  # of equals the first counts
        self.patterns = [re.compile(python_pattern(pattern)) for pattern in patterns]
        self.composed = False  # whether letters and their accents are put together first
        self.special: dict[str, int] = {}
        self.start: list[int] = []
        self.tokens = [b""] * (max(vocab.values()) + 1)
        for token, number in vocab.items():
            self.tokens[number] = token.encode("latin-1")
        self._ids_of = lru_cache(CACHED)(self._encode_chunk)

    def __len__(self) -> int:
        return len(self.tokens)

    def add_special(self, name: str, number: int) -> None:
        self.special[name] = number
        self.tokens += [b""] * (number + 1 - len(self.tokens))
        self.tokens[number] = name.encode()

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> list[int]:
        """Return the numbers of a text; a special token's name is text like any other, unless it is allowed."""
        names = sorted(allowed_special, key=len, reverse=True)
        parts = re.split("(" + "|".join(map(re.escape, names)) + ")", text) if names else [text]
        ids: list[int] = []
        for i, part in enumerate(parts):
            part = unicodedata.normalize("NFC", part) if self.composed else part
            ids += [self.special[part]] if i % 2 else [n for chunk in self._chunks(part) for n in self._ids_of(chunk)]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of numbers; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.tokens[i] for i in ids).decode("utf-8", "replace")

    def _chunks(self, text: str) -> list[str]:
        parts = [text] if text else []
        for pattern in self.patterns:
            parts = [chunk for part in parts for chunk in isolated(pattern, part)]
        return parts

    def _encode_chunk(self, chunk: str) -> tuple[int, ...]:
        characters = byte_characters(chunk)
        if self.whole_first and characters in self.vocab:
            return (self.vocab[characters],)
        return tuple(self.vocab[piece] for piece in split_word(characters, self.rank))


def read_tokenizer(path: Path) -> HfTokenizer:
    """Read a tokenizer.json.

    Raises:
        UserError: it is missing or damaged, or not a byte-level BPE.
    """
    there = read_json(path)
    try:
        return _tokenizer(there)
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError, re.error) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: this kind of tokenizer is not supported, only byte-level BPE is: {reason}") from error


def _tokenizer(there: dict) -> HfTokenizer:
    model, normalizer = there["model"], there.get("normalizer")
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback"):
        raise ValueError(f"it is {'SentencePiece BPE' if model.get('byte_fallback') else model['type']}")
    if normalizer is not None and normalizer["type"] != "NFC":
        raise ValueError(f"it normalises texts by {normalizer['type']}")
    steps = list(pre_tokenizers(there.get("pre_tokenizer")))
    if not any(step["type"] == "ByteLevel" for step in steps):
        raise ValueError("its chunks are not made of bytes")
    byte_of = {character: byte for byte, character in enumerate(printable_bytes())}
    added = {token["content"]: token["id"] for token in there.get("added_tokens") or []}
    vocab = {
        "".join(chr(byte_of[character]) for character in token): number
        for token, number in model["vocab"].items()
        if token not in added
    }
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    merges = [tuple("".join(chr(byte_of[character]) for character in part) for part in (a, b)) for a, b in pairs]
    patterns = [pattern for step in steps for pattern in _patterns(step)]
    tokenizer = HfTokenizer(vocab, merges, patterns, bool(model.get("ignore_merges")))
    tokenizer.composed = normalizer is not None
    for name, number in added.items():
        tokenizer.add_special(name, number)
    tokenizer.start = start_tokens(there.get("post_processor"))
    return tokenizer


def printable_bytes() -> list[str]:
    """Return GPT-2's character for each byte: itself where it can be printed, else the next one from U+0100 on."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printed else next(others)) for byte in range(256)]


def pre_tokenizers(step: dict | None) -> Iterator[dict]:
    """Yield the steps, one after another, that cut a text into chunks."""
    if step is None:
        return
    if step["type"] == "Sequence":
        for part in step["pretokenizers"]:
            yield from pre_tokenizers(part)
    else:
        yield step


def _patterns(step: dict) -> list[str]:
    """Return what a step cuts with; a step without such a pattern only writes bytes as characters."""
    kind = step["type"]
    if kind == "ByteLevel":
        if step.get("add_prefix_space"):
            raise ValueError("it puts a space before each text")
        return [GPT2] if step.get("use_regex", True) else []
    if kind == "Digits":
        return [r"\p{N}" if step["individual_digits"] else r"\p{N}+"]
    if kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        return [step["pattern"]["Regex"]]
    raise ValueError(f"it cuts texts by {kind}")


def start_tokens(processor: dict | None) -> list[int]:
    """Return the tokens that stand before each text."""
    if processor is None or processor["type"] == "ByteLevel":
        return []
    if processor["type"] == "Sequence":
        return [number for part in processor["processors"] for number in start_tokens(part)]
    if processor["type"] != "TemplateProcessing":
        raise ValueError(f"it ends texts by {processor['type']}")
    found: list[int] = []
    for part in processor["single"]:
        if "Sequence" in part:
            break
        found += processor["special_tokens"][part["SpecialToken"]["id"]]["ids"]
    return found


def python_pattern(pattern: str) -> str:
    r"""Write \p{L} and its like, and \s, as ranges, which Python's `re` reads.

    Raises:
        ValueError: a class of which no ranges are known here.
    """
    written, inside = [], False
    for part in re.findall(r"\\p\{\w+\}|\\.|.", pattern, re.DOTALL):
        kind = part[3:-1] if part.startswith(r"\p{") else "Z" if part in (r"\s", r"\S") else None
        if kind is None:
            inside = part == "[" or (inside and part != "]")
            written.append(part)
        elif kind not in ("L", "M", "N", "P", "S", "Z") or (inside and part == r"\S"):
            raise ValueError(f"its pattern has {part}")
        else:
            members = ranges(kind) + (r"\u0009-\u000D\u0085" if part in (r"\s", r"\S") else "")
            without = "^" if part == r"\S" else ""
            written.append(members if inside else f"[{without}{members}]")
    return "".join(written)


def isolated(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """Yield what the pattern finds in a text, and what lies in between."""
    place = 0
    for match in pattern.finditer(text):
        if place < match.start():
            yield text[place : match.start()]
        if match.group():
            yield match.group()
        place = match.end()
    if place < len(text):
        yield text[place:]
