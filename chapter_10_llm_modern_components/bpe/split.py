"""Where a text may be cut before bytes are merged: words, digits, marks and spaces, found by a regular expression.
合并字节之前，文本可以从哪里切开：用正则表达式找出单词、数字、符号与空白。

GPT-2's expression needs \\p{L}, which Python's `re` has not. What it has, \\w and \\s, means other characters in other
engines, and others again in the next version of Python. So the classes are spelled out here, as ranges of code points
that mean the same everywhere, and a tokenizer keeps its expression with its merges.
"""

import re
from collections.abc import Iterator
from functools import cache
from unicodedata import category

MALFORMED = re.compile("([\udc80-\udcff])")  # what "surrogateescape" makes of a byte that is no part of UTF-8


@cache
def code_point_kinds() -> str:
    """Return for each code point the first letter of its general category (Unicode, ch. 4.5), ? if not assigned yet."""
    return "".join("?" if (kind := category(chr(code))) == "Cn" else kind[0] for code in range(0x110000))


def ranges(kinds: str) -> str:
    """Return the inside of a [...] for all code points of some kinds: "N" -> "\\u0030-\\u0039\\u00B2-\\u00B3...".

    Those not assigned yet belong to a range if both its neighbours do: a later letter will stand among letters.
    """
    runs = re.finditer(f"[{kinds}](?:[{kinds}?]*[{kinds}])?", code_point_kinds())
    return "".join(f"{_escaped(run.start())}-{_escaped(run.end() - 1)}" for run in runs)


@cache
def gpt_pattern() -> str:
    """Return the expression, in a syntax that Python's `re` and tiktoken's engine read alike.

    It is GPT-2's (Radford et al. 2019), with three changes: an apostrophe inside a word belongs to it, accents stay
    with their letters, and each digit stands alone, so that its place in a number can be seen.
    """
    letters, letters_and_marks, digits = ranges("L"), ranges("LM"), ranges("N")
    spaces = rf"\u0009-\u000D\u0085{ranges('Z')}"  # Unicode's White_Space; Python's \s has U+001C to U+001F besides
    return "|".join(
        [
            f" ?[{letters}][{letters_and_marks}]*(?:['’][{letters_and_marks}]+)*",  # a word and the space before it
            f"[{digits}]",
            f" ?[^{spaces}{letters}{digits}]+",  # marks and signs
            f"[{spaces}]+(?![^{spaces}])",  # spaces, but for the last one if a word follows: that belongs to the word
            f"[{spaces}]+",
        ]
    )


def chunks(text: str | bytes, pattern: re.Pattern[str]) -> Iterator[str]:
    """Cut a text where no token may go across: "Don't go, 42!" -> "Don't", " go", ",", " ", "4", "2", "!".

    A byte that is no part of UTF-8 is a chunk of its own, U+DC00 plus its value.

    Raises:
        ValueError: the pattern leaves out a part of the text.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    for i, part in enumerate(MALFORMED.split(data.decode("utf-8", "surrogateescape"))):
        found = [part] if i % 2 else pattern.findall(part)
        if "".join(found) != part:
            raise ValueError("the pattern leaves out a part of the text")
        yield from found


def byte_characters(chunk: str) -> str:
    """Write each byte of a chunk as the character of that number: "é" -> "Ã©", for its bytes are C3 A9.

    So what chapters 7 and 8 do with characters is done with bytes.
    """
    return chunk.encode("utf-8", "surrogateescape").decode("latin-1")


def _escaped(code: int) -> str:
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
