"""Our merges and our pattern, loaded into OpenAI's tiktoken, give the same tokens for texts of every sort.
把我们的合并与切分模式装入 OpenAI 的 tiktoken，各类文本得到的词元完全相同。

The text is short, to be quick; TIKTOKEN_BYTES=5000000 in the environment asks for five megabytes.
"""

import os
import random
import re
import string
from pathlib import Path

import pytest

from chapter_10_llm_modern_components.bpe import ByteTokenizer, train_tokenizer

tiktoken = pytest.importorskip("tiktoken", reason="compares with tiktoken: see requirements-dev.txt")

SIZE = int(os.environ.get("TIKTOKEN_BYTES", 150_000))
SPECIAL = ["<|endoftext|>", "<|user|>"]
ENGLISH = "Once upon a time there wasn't a king who’d say 'no' to 1,024 o'clock-watchers — \"never\", he thought; so"
CHINESE = "从前有一个国王，他住在很远的地方。我们喜欢学习，也喜欢猫！一二三〇，第１２章《红楼梦》……"
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧", "❤️", "🏳️‍🌈", "🇨🇳", "½", "Ⅷ", "e\u0301", "हिन्दी", "кот", "ﷺ"]
CODE = Path(__file__).read_text(encoding="utf-8")
SPACES = [" ", "  ", "\n", "\r\n", "\t", "\n    ", " \n\n", "\u3000", "\x1c", "\x85", "\u200b", "        "]


def to_tiktoken(tokenizer):
    ranks = {token: i for i, token in enumerate(tokenizer.tokens[: len(tokenizer) - len(tokenizer.special)])}
    return tiktoken.Encoding("ours", pat_str=tokenizer.pattern, mergeable_ranks=ranks, special_tokens=tokenizer.special)


def tiktokens(encoding, data):
    """tiktoken takes no malformed bytes: those go to it one by one, and the texts between them as they are."""
    ids = []
    for i, part in enumerate(re.split("([\udc80-\udcff])", data.decode("utf-8", "surrogateescape"))):
        if i % 2:
            ids.append(encoding.encode_single_token(part.encode("utf-8", "surrogateescape")))
        else:
            ids += encoding.encode_ordinary(part)
    return ids


def mixed(size, seed):
    """Yield about `size` bytes in documents of English, Chinese, code, emoji, any characters and malformed bytes."""
    draw, done = random.Random(seed), 0
    lines = CODE.splitlines(keepends=True)
    kinds = [
        lambda: " ".join(draw.choices(ENGLISH.split(), k=9)).encode(),
        lambda: "".join(draw.choices(CHINESE, k=20)).encode(),
        lambda: "".join(chr(draw.randrange(0x4E00, 0xA000)) for _ in range(4)).encode(),
        lambda: "".join(draw.choices(lines, k=3)).encode(),
        lambda: "".join(draw.choices(EMOJI, k=4)).encode(),
        lambda: "".join(draw.choices(SPACES, k=3)).encode(),
        lambda: "".join(draw.choices(string.printable, k=9)).encode(),
        lambda: chr(draw.randrange(0x110000)).encode("utf-8", "surrogatepass"),
        lambda: draw.randbytes(3),
        lambda: "学习😀".encode()[: draw.randrange(10)],
        lambda: b"<|user|>",
    ]
    while done < size:
        document = b"".join(draw.choice(kinds)() for _ in range(draw.randrange(40)))
        done += len(document)
        yield document


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(mixed(60_000, seed=1), 1200, SPECIAL)


def test_tokens_are_tiktokens(tokenizer):
    assert len(tokenizer) == 1200
    encoding, size, malformed = to_tiktoken(tokenizer), 0, 0
    for document in mixed(SIZE, seed=0):
        ids = tokenizer.encode(document)
        assert ids == tiktokens(encoding, document), document
        assert tokenizer.decode_bytes(ids) == document == encoding.decode_bytes(ids)
        size += len(document)
        malformed += document.decode("utf-8", "ignore").encode() != document
    assert size >= SIZE and malformed > 50


def test_classes_begin_and_end_where_tiktoken_lets_them():
    """At both ends of every range of the pattern, after a letter, a space, a sign, and before a letter.

    Merges of these with any byte show whether something was cut there.
    """
    merges = [(first, byte) for first in b"a !" for byte in range(256)] + [
        (byte, ord("n")) for byte in range(0x80, 256)
    ]
    tokenizer = ByteTokenizer(merges)
    encoding = to_tiktoken(tokenizer)
    edges = {int(code, 16) for code in re.findall(r"\\[uU]([0-9A-F]+)", tokenizer.pattern)}
    codes = {code + step for code in edges for step in (-1, 0, 1)} - {-1, *range(0xD800, 0xE000)}
    assert len(codes) > 1500 and max(codes) > 0x20000
    for code in codes:
        text = f"a{chr(code)} {chr(code)}!{chr(code)}n"
        assert tokenizer.encode(text) == encoding.encode_ordinary(text), f"U+{code:04X}"


def test_special_tokens_are_tiktokens(tokenizer):
    encoding = to_tiktoken(tokenizer)
    text = "Once<|user|> upon<|endoftext|>a <|end|>"
    for allowed in (set(), {"<|user|>"}, set(SPECIAL)):
        expected = encoding.encode(text, allowed_special=allowed, disallowed_special=())
        assert tokenizer.encode(text, allowed_special=allowed) == expected


def test_merges_that_overlap_are_tiktokens():
    """tiktoken knows a merge by the bytes that it makes, not by its two halves: few letters would show a difference."""
    draw = random.Random(2)
    for _ in range(40):
        words = ["".join(draw.choices("aab", k=draw.randrange(1, 12))) for _ in range(80)]
        tokenizer = train_tokenizer([" ".join(words[:40])], 330)
        text = " ".join(words)
        assert tokenizer.encode(text) == to_tiktoken(tokenizer).encode_ordinary(text)
