"""Words, pieces and numbers: what was split can be joined, and merges are those of the plain algorithm.
词、片段与编号：拆开的能拼回，合并结果与朴素算法一致。
"""

from collections import Counter

import pytest

from chapter_07_attention_mechanism.vocab import UNK_ID, Vocabulary, join, learn_merges, merge_pair, split_words

TEXTS = [
    "ein Hund läuft, ein Hund schläft.",
    "low lower lowest, newer newest wider; new low",
    "猫坐在垫子上。 猫睡了！",
    "3.5 e-mails (don't) aaaa aaa",
]


def merges_by_definition(words, count):
    """Sennrich et al.'s algorithm as it stands: count all pairs anew before each merge."""
    pieces, merges = {word: tuple(word) for word in words}, []
    while len(merges) < count:
        pairs = Counter()
        for word, parts in pieces.items():
            for pair in zip(parts, parts[1:], strict=False):
                pairs[pair] += words[word]
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {word: merge_pair(parts, best) for word, parts in pieces.items()}
    return merges


def test_merges_are_those_of_the_definition():
    words = Counter(word for text in TEXTS for word in split_words(text))
    for count in (0, 1, 7, 1000):
        assert learn_merges(words, count) == merges_by_definition(words, count)
    assert learn_merges(Counter({"aaaa": 2, "aaab": 1}), 2) == [("a", "a"), ("aa", "aa")]


def test_pairs_are_merged_from_left_to_right():
    assert merge_pair("aaa", ("a", "a")) == ("aa", "a")
    assert merge_pair("abcab", ("a", "b")) == ("ab", "c", "ab")


@pytest.mark.parametrize("text", TEXTS)
def test_what_was_split_can_be_joined(text):
    vocabulary = Vocabulary.of_subwords(TEXTS, size=60)
    pieces = vocabulary.split(text)
    assert join(pieces) == text == join(split_words(text))
    assert vocabulary.decode(vocabulary.encode(pieces)) == pieces


def test_rare_words_fall_apart_and_frequent_ones_do_not():
    vocabulary = Vocabulary.of_subwords(["ein Hund", "ein Hund", "ein Hundehaus"], size=40)
    assert vocabulary.split("ein Hund") == ["▁ein", "▁Hund"]
    assert vocabulary.split("Hundehaus")[0] == "▁Hund" and len(vocabulary.split("Hundehaus")) > 1
    assert vocabulary.encode(["▁Katze"]) == [UNK_ID]


def test_words_that_occur_once_are_unknown():
    vocabulary = Vocabulary.of_words(["a b", "b a c b"])
    assert vocabulary.pieces[4:] == ["▁b", "▁a"]  # three times, twice
    assert vocabulary.encode(split_words("c a")) == [UNK_ID, 5]


def test_characters_are_pieces():
    vocabulary = Vocabulary.of_characters(["ba", "c"])
    assert vocabulary.decode(vocabulary.encode("abc?")) == ["a", "b", "c", "<unk>"]


def test_the_same_vocabulary_comes_back_from_what_is_stored():
    vocabulary = Vocabulary.of_subwords(TEXTS, size=60)
    again = Vocabulary.of_plain(vocabulary.plain())
    assert all(again.encode(again.split(t)) == vocabulary.encode(vocabulary.split(t)) for t in TEXTS)
