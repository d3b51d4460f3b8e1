"""Byte-level BPE: fast and naive agree, any bytes come back, and what users type commands nothing.
字节级 BPE：快速实现与朴素实现一致，任意字节都能还原，用户输入的文字不会变成指令。
"""

import random
import re

import pytest
import torch

from chapter_10_llm_modern_components.bpe import (
    ByteTokenizer,
    chunks,
    learn_merges_naive,
    merge_counts,
    merge_steps,
    replace_pair,
    train_tokenizer,
)
from utils.errors import UserError

TEXTS = [
    "low lower lowest, newer newest wider; new low newer",
    "Ein Hund läuft, ein Hund schläft. Zwei Hunde laufen.",
    "我喜欢学习。我们喜欢猫！他们不喜欢学习，我喜欢。",
    "for i in range(10):\n    print(i)\nfor j in range(10):\n    print(j)\n",
    "aaaa aaaaa aaa aaaaaaaa !!!! !!! 😀😀😀",
]
SPECIAL = ["<|end|>", "<|end|>!", "<|user|>"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 360, SPECIAL)


def random_bytes(count, seed=0):
    """Byte strings: known words, characters of every plane, single bytes of any value, halves of characters."""
    draw = random.Random(seed)
    for _ in range(count):
        parts = []
        for _ in range(draw.randrange(12)):
            character = chr(draw.choice([draw.randrange(0x800), draw.randrange(0x10000), draw.randrange(0x110000)]))
            data = character.encode("utf-8", "surrogatepass")
            parts += [draw.choice([data, data[:-1], draw.randbytes(1), draw.choice(" ".join(TEXTS).split()).encode()])]
        yield b"".join(parts)


def words_of(texts, tokenizer):
    return [chunk.encode() for text in texts for chunk in chunks(text, tokenizer.compiled)]


def test_the_fast_merges_are_the_naive_ones(tokenizer):
    learned = learn_merges_naive(words_of(TEXTS, tokenizer), 360 - 256 - len(SPECIAL))
    assert len(learned) > 50 and tokenizer.merges == learned
    draw = random.Random(0)
    for _ in range(60):  # few letters: many ties, and pairs that overlap
        text = "".join(draw.choices("aab ", k=draw.randrange(2, 60)))
        fast = train_tokenizer([text], 276)
        assert fast.merges == learn_merges_naive(words_of([text], fast), 20)


def test_ties_go_to_the_first_bytes():
    """Three pairs stand twice each: "ax" comes first, though "zz" and "by" were seen before it."""
    assert learn_merges_naive([b"zz", b"by", b"ax"] * 2, 3) == [(97, 120), (98, 121), (122, 122)]
    assert learn_merges_naive([b"ab", b"cd"], 3) == learn_merges_naive([], 3) == []
    assert learn_merges_naive([b"aaaa"], 5) == [(97, 97)], "then aa aa stands only once"
    assert replace_pair([1, 1, 1, 2, 1, 1], (1, 1), 9) == [9, 1, 2, 9]


def test_codes_are_those_of_the_definition(tokenizer):
    texts = [*TEXTS, "lowest newest aaaaaaaaaaaaa 我们学习 läuft!!!!!", "never seen: ωορδ"]
    for word in words_of(texts, tokenizer):
        steps = merge_steps(word, tokenizer.merges)
        assert tokenizer.encode(word) == steps[-1] and steps[0] == list(word)
        assert all(tokenizer.decode_bytes(ids) == word for ids in steps)
        assert all(len(after) < len(before) for before, after in zip(steps, steps[1:], strict=False))


def test_any_bytes_come_back(tokenizer):
    untrained = ByteTokenizer([])
    seen = {}
    for data in [*random_bytes(1000), bytes(range(256)), b"", b"\xff" * 50, "\r\n\x00\x85\u2028".encode()]:
        ids = tokenizer.encode(data)
        assert tokenizer.decode_bytes(ids) == data and max(ids, default=0) < len(tokenizer) - len(SPECIAL)
        assert untrained.encode(data) == list(data)
        assert seen.setdefault(tuple(ids), data) == data, "two texts have one code"
        text = data.decode("utf-8", "replace")
        assert tokenizer.decode(ids) == text or "\ufffd" in text


@pytest.mark.parametrize("text", [*TEXTS, "", " ", "<|end|>", "\ud800 and \udc80\udfff", "\U0010ffff", "aaaa" * 500])
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_malformed_bytes_stay_single_and_are_shown(tokenizer):
    assert tokenizer.encode(b"low\xff\xfe new") == [*tokenizer.encode("low"), 255, 254, *tokenizer.encode(" new")]
    assert tokenizer.decode([0x61, 255, 0x62]) == "a\ufffdb"
    assert tokenizer.show([*tokenizer.encode(" lo\n"), 255]) == ["▁lo", "\\n", "\\xff"]


def test_users_cannot_type_special_tokens(tokenizer):
    numbers = set(tokenizer.special.values())
    assert numbers == {*range(len(tokenizer) - 3, len(tokenizer))}
    for text in ("<|end|>", "low<|user|>", "<|nonsense|>", b"<|end|>\xff"):
        assert not numbers & {*tokenizer.encode(text)}
    text, end = "low<|end|>!<|user|>new<|end|>", tokenizer.special["<|end|>"]
    ids = tokenizer.encode(text, allowed_special={"<|end|>"})
    assert ids.count(end) == 2 and tokenizer.special["<|user|>"] not in ids and tokenizer.decode(ids) == text
    ids = tokenizer.encode(text, allowed_special=SPECIAL)
    low, new = tokenizer.encode("low"), tokenizer.encode("new")
    assert ids == [*low, tokenizer.special["<|end|>!"], tokenizer.special["<|user|>"], *new, end], (
        "the longest name wins"
    )
    with pytest.raises(UserError, match=r"no special token <\|nonsense\|>; there are: <\|end\|>"):
        tokenizer.encode("low", allowed_special=["<|nonsense|>"])


def test_no_two_tokens_are_the_same():
    """One string of bytes is made by one merge only, so tiktoken can know merges by what they make."""
    draw = random.Random(1)
    for _ in range(40):
        text = " ".join("".join(draw.choices("abc", k=draw.randrange(1, 14))) for _ in range(40))
        tokens = train_tokenizer([text], 400).tokens
        assert len(set(tokens)) == len(tokens) > 256


def test_merges_are_counted(tokenizer):
    assert merge_counts(train_tokenizer(["aab aab aaab"], 259), ["aab aab aaab"])[0] == 3
    counts = merge_counts(tokenizer, TEXTS)
    assert len(counts) == len(tokenizer.merges) and min(counts) >= 1
    n_bytes, n_tokens = (sum(map(len, part)) for part in ([t.encode() for t in TEXTS], map(tokenizer.encode, TEXTS)))
    assert sum(counts) == n_bytes - n_tokens, "each merge leaves one token less"


def test_vocabulary_sizes_that_cannot_be():
    with pytest.raises(UserError, match="258 has no room for 256 bytes and 3 special tokens"):
        train_tokenizer(TEXTS, 258, SPECIAL)
    assert len(train_tokenizer(TEXTS, 259, SPECIAL)) == 259
    assert len(train_tokenizer(["abab"], 1000)) == 257, "nothing else stands twice"
    for nothing in ([], ["", b""]):
        with pytest.raises(UserError, match="the corpus is empty"):
            train_tokenizer(nothing, 300)
    with pytest.raises(ValueError, match="tokens are numbered from 0 to 258"):
        train_tokenizer(TEXTS, 259, SPECIAL).decode([259])
    for special in (["<|a|>", "<|a|>"], [""]):
        with pytest.raises(UserError, match="different names"):
            train_tokenizer(TEXTS, 300, special)


def test_it_is_stored_in_a_checkpoint_and_in_a_file(tokenizer, tmp_path):
    torch.save(tokenizer.to_plain(), tmp_path / "about.pth")
    tokenizer.save(tmp_path / "tokenizer.json")
    for again in (
        ByteTokenizer(**torch.load(tmp_path / "about.pth", weights_only=True)),
        ByteTokenizer.load(tmp_path / "tokenizer.json"),
    ):
        assert again.tokens == tokenizer.tokens and again.special == tokenizer.special
        assert all(again.encode(data) == tokenizer.encode(data) for data in random_bytes(50, seed=1))


def test_its_pattern_is_stored_too(tmp_path):
    """Another Python may know more letters; a stored tokenizer goes on cutting as it did when it was trained."""
    train_tokenizer(["ab ab"], 260, pattern=r"[\s\S]").save(tmp_path / "tokenizer.json")
    again = ByteTokenizer.load(tmp_path / "tokenizer.json")
    assert not again.merges and re.fullmatch(again.pattern, "\n")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"special": []}',
        b'{"merges": [[97]]}',
        b'{"merges": [[97, 256]]}',
        b'{"merges": [[97, -1]]}',
        b'{"merges": [[97, 98], [97, 98]]}',
        b'{"merges": [["a", "b"]]}',
        b'{"merges": [], "special": [1]}',
        b'{"merges": [], "special": ["<|a|>", "<|a|>"]}',
        b'{"merges": [], "pattern": "("}',
        b'{"merges": [], "pattern": "(a)|."}',
        b'{"merges": [], "pattern": 5}',
    ],
)
def test_another_file_is_refused(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match="x.json holds no tokenizer"):
        ByteTokenizer.load(tmp_path / "x.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="missing.json: no such file"):
        ByteTokenizer.load(tmp_path / "missing.json")
