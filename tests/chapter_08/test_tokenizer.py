"""Byte-pair encoding: the fast ways equal the definitions, and any text whatever comes back as it was.
字节对编码：快速实现与定义一致，任何文本都能原样还原。
"""

import random
from collections import Counter

import pytest
import torch

from chapter_07_attention_mechanism.vocab import SPECIAL, learn_merges
from chapter_08_transformer_vanilla.tokenizer import (
    BYTES,
    FIRST_BYTE,
    Tokenizer,
    chunks,
    learn_merges_by_definition,
    split_by_definition,
    split_word,
)
from utils.errors import UserError

TEXTS = [
    "Ein Hund läuft, ein Hund schläft. Zwei Hunde laufen.",
    "low lower lowest, newer newest wider; new low newer",
    "我喜欢学习。我们喜欢猫！他们不喜欢学习，我喜欢。",
    "a  b\n\tc (3.5 %) don't",
]
AWKWARD = [
    "",
    " ",
    "  two  spaces  ",
    "\n",
    "\r\n\t\x00\x07\x1f\x7f\x85\u2028\u3000",
    "\ufeffBOM",
    "e\u0301 = é",
    "😀👨‍👩‍👧 🏳️‍🌈 𝒳",
    "\ud800 and \udfff, \ud83d\ude00",
    "<pad> <unk> <bos> <eos> <0x41> ▁",
    "قطة кот แมว 猫",
    "aaaa" * 50,
    "\U0010ffff\U000e0001",
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, size=360, min_count=1)


def random_texts(count, seed=0):
    """Texts of known and unknown characters, of every plane of Unicode, halves of surrogate pairs included."""
    draw = random.Random(seed)
    alphabets = ["ab ", "".join(TEXTS), range(0x250), range(0x3000, 0xA000), range(0x110000), range(0xD7F0, 0xE010)]
    for _ in range(count):
        signs = [draw.choice(draw.choice(alphabets)) for _ in range(draw.randrange(30))]
        yield "".join(sign if isinstance(sign, str) else chr(sign) for sign in signs)


@pytest.mark.parametrize("text", TEXTS + AWKWARD)
def test_a_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text == "".join(chunks(text))[1:]


def test_any_text_comes_back(tokenizer):
    unknowing = Tokenizer("", [])
    for text in random_texts(2000):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and all(i >= len(SPECIAL) for i in ids)
        assert unknowing.decode(unknowing.encode(text)) == text


def test_different_texts_have_different_numbers(tokenizer):
    texts = {*random_texts(500), *TEXTS, *AWKWARD}
    assert len({tuple(tokenizer.encode(text)) for text in texts}) == len(texts)


def test_merges_are_those_of_the_definition():
    draw = random.Random(0)
    for _ in range(100):
        words = {"".join(draw.choices("abc", k=draw.randrange(1, 9))): draw.randrange(1, 5) for _ in range(12)}
        assert learn_merges(Counter(words), 20) == learn_merges_by_definition(words, 20)
    words = Counter(chunk for text in TEXTS for chunk in chunks(text))
    assert learn_merges(words, 1000) == learn_merges_by_definition(words, 1000)
    assert learn_merges_by_definition({"aaaa": 2, "aaab": 1}, 2) == [("a", "a"), ("aa", "aa")]
    assert learn_merges_by_definition({}, 3) == learn_merges_by_definition({"ab": 1}, 3) == []


def test_words_are_split_as_defined():
    """Also by merges that were learned from other words, and by such as no training would learn in that order."""
    draw = random.Random(1)
    for _ in range(300):
        parts, merges = list("abc"), []
        for _ in range(draw.randrange(12)):
            merges.append((draw.choice(parts), draw.choice(parts)))
            parts.append("".join(merges[-1]))
        draw.shuffle(merges)
        rank = {pair: i for i, pair in enumerate(merges)}
        word = "".join(draw.choices("abc", k=draw.randrange(40)))
        assert split_word(word, rank) == split_by_definition(word, rank)


def test_training_words_are_split_as_they_were_merged():
    words = Counter(chunk for text in TEXTS for chunk in chunks(text))
    merges = learn_merges(words, 1000)
    rank = {pair: i for i, pair in enumerate(merges)}
    for word in words:
        parts = [*word]
        for a, b in merges:  # in the order of learning
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == (a, b):
                    parts[i : i + 2] = [a + b]
                i += 1
        assert split_word(word, rank) == parts


def test_a_long_word_takes_no_longer_than_its_length_asks():
    rank = {("a", "a"): 0, ("aa", "aa"): 1, ("aaaa", "aaaa"): 2}
    assert split_word("a" * 100_003, rank) == ["a" * 8] * 12_500 + ["aa", "a"]


def test_spaces_belong_to_the_word_behind_them(tokenizer):
    assert chunks("Ein Hund, ja!\n\n  x_1") == [" Ein", " Hund", ",", " ja", "!", "\n", "\n", " ", " x_1"]
    assert chunks("") == [] and chunks("我喜欢猫。") == [" 我喜欢猫", "。"]
    assert tokenizer.show(tokenizer.encode("Hund Hund")) == ["▁Hund", "▁Hund"], "alike in front and inside"


def test_frequent_words_are_whole_and_unknown_characters_are_bytes(tokenizer):
    assert tokenizer.show(tokenizer.encode("我喜欢学习")) == ["▁", "我", "喜欢学习"]
    assert tokenizer.show(tokenizer.encode("猫é")) == ["▁", "猫", "<0xC3>", "<0xA9>"]
    assert tokenizer.encode("é")[1:] == [FIRST_BYTE + 0xC3, FIRST_BYTE + 0xA9]


def test_rare_characters_have_no_pieces():
    tokenizer = Tokenizer.train(["aaa bbb aab qqq z"], size=300, min_count=2)
    assert set(tokenizer.characters) == set(" abq") and tokenizer.decode(tokenizer.encode("zaz")) == "zaz"
    assert not any("z" in a + b for a, b in tokenizer.merges)


def test_the_size_is_kept(tokenizer):
    assert len(tokenizer) == len(tokenizer.pieces) == len(set(tokenizer.pieces)) <= 360
    assert [*SPECIAL, *BYTES] == tokenizer.pieces[: len(SPECIAL) + 256]
    assert len(Tokenizer.train(TEXTS, size=0, min_count=1)) == len(SPECIAL) + 256 + len({*" ".join(TEXTS)})
    ids = [i for text in random_texts(200) for i in tokenizer.encode(text)]
    assert max(ids) < len(tokenizer)


def test_what_is_no_text_is_shown_as_such(tokenizer):
    assert tokenizer.decode([0, 1, 2, 3]) == ""
    assert tokenizer.decode([*tokenizer.encode("a"), FIRST_BYTE + 0xFF, *tokenizer.encode("b")]) == "a\ufffd b"


def test_it_is_stored_in_a_checkpoint_and_in_a_file(tokenizer, tmp_path):
    torch.save(tokenizer.to_plain(), tmp_path / "about.pth")
    tokenizer.save(tmp_path / "tokenizer.json")
    read = [
        Tokenizer(**torch.load(tmp_path / "about.pth", weights_only=True)),
        Tokenizer.load(tmp_path / "tokenizer.json"),
    ]
    for again in read:
        assert again.pieces == tokenizer.pieces
        assert all(again.encode(text) == tokenizer.encode(text) for text in TEXTS + AWKWARD)


def test_another_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Tokenizer.load(tmp_path / "missing.json")
    for content in (
        "{",
        "[]",
        '{"merges": []}',
        '{"characters": "a", "merges": [["a"]]}',
        '{"characters": 1, "merges": 2}',
    ):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(UserError, match="holds no tokenizer"):
            Tokenizer.load(tmp_path / "x.json")
