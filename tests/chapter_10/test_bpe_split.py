"""The classes of characters are Unicode's, for every code point, and a text is cut where words, digits and spaces end.
每个码位的字符类都与 Unicode 一致；文本在单词、数字与空白的边界处切开。
"""

import random
import re
from unicodedata import category

import pytest

from chapter_10_llm_modern_components.bpe import chunks, gpt_pattern
from chapter_10_llm_modern_components.bpe.split import byte_characters

WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
WHITE_SPACE += "\u2028\u2029\u202f\u205f\u3000"  # the property White_Space of Unicode's PropList.txt
PATTERN = re.compile(gpt_pattern())


def cut(text):
    return list(chunks(text, PATTERN))


def expected_chunks(character, kind):
    """Of "a?b!?b\n" with the character for both question marks."""
    if character == " ":
        return ["a", " b", "!", " b", "\n"]
    if character in WHITE_SPACE or kind == "N":
        return ["a", character, "b", "!", character, "b", "\n"]
    if kind == "L":
        return [f"a{character}b", "!", f"{character}b", "\n"]
    if kind == "M" or character in "'’":  # they stay with the letter, or with the sign, that they follow
        return [f"a{character}b", f"!{character}", "b", "\n"]
    return ["a", character, "b", f"!{character}", "b", "\n"]


def test_each_code_point_goes_where_its_category_says():
    """All that are assigned, as letter, mark, digit, space or sign; the others wait for a later Unicode."""
    kinds = {chr(code): category(chr(code)) for code in range(0x110000)}
    assigned = {character: kind[0] for character, kind in kinds.items() if kind != "Cn"}
    expected = [chunk for character, kind in assigned.items() for chunk in expected_chunks(character, kind)]
    found = PATTERN.findall("".join(f"a{character}b!{character}b\n" for character in assigned))
    wrong = next((pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), None)
    assert wrong is None and len(found) == len(expected)


def test_pythons_own_classes_are_others():
    """Why the ranges are spelled out: a superscript is no letter, a vowel sign ends no word, U+001C is no space."""
    assert re.fullmatch(r"[^\W\d_]", "²") and cut("x²") == ["x", "²"]
    assert not re.fullmatch(r"\w", "\u093f") and cut("हिन्दी") == ["हिन्दी"]
    assert re.fullmatch(r"\s", "\x1c") and cut("-\x1c-") == ["-\x1c-"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Don't go, 42!", ["Don't", " go", ",", " ", "4", "2", "!"]),
        ("'so it’s said'", ["'", "so", " it’s", " said", "'"]),
        ("def f(x):\n    return x_1", ["def", " f", "(", "x", "):", "\n   ", " return", " x", "_", "1"]),
        ("a  \n\n b \t", ["a", "  \n\n", " b", " \t"]),
        ("我喜欢猫。I do", ["我喜欢猫", "。", "I", " do"]),
        ("e\u0301te ❤\ufe0f 👩‍👩‍👧!", ["e\u0301te", " ❤\ufe0f", " 👩‍👩‍👧!"]),
        (b"caf\xe9 \xe4\xbd", ["caf", "\udce9", " ", "\udce4", "\udcbd"]),
        ("\ud83d", ["\udced", "\udca0", "\udcbd"]),
    ],
)
def test_texts_are_cut(text, expected):
    assert cut(text) == expected


def test_chunks_hold_every_byte():
    draw = random.Random(0)
    for _ in range(300):
        data = bytes(draw.choices([0x20, 0x27, 0x61, 0xC3, 0xA9, 0xE4, 0xBD, 0xA0, 0xF0, 0xFF], k=draw.randrange(30)))
        assert "".join(map(byte_characters, cut(data))).encode("latin-1") == data


def test_a_pattern_that_forgets_something_is_refused():
    with pytest.raises(ValueError, match="leaves out"):
        list(chunks("ab1", re.compile("[a-z]+")))
