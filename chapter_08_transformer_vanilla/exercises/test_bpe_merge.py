"""Fails until bpe_merge.py is solved.
在 bpe_merge.py 完成之前，这里的测试不会通过。
"""

from chapter_08_transformer_vanilla.exercises.bpe_merge import best_pair, merge, split
from chapter_08_transformer_vanilla.tokenizer import learn_merges_by_definition, split_word

CORPUS = {"hund": 5, "hunde": 3, "bund": 2, "bunt": 1}


def test_the_most_frequent_pair():
    assert best_pair({tuple(word): n for word, n in CORPUS.items()}) == ("u", "n")
    assert best_pair({("b", "a"): 2, ("a", "b"): 2}) == ("a", "b")
    assert best_pair({("x", "y"): 3, ("a", "b", "a", "b"): 2}) == ("a", "b")


def test_merging_goes_from_left_to_right():
    assert merge(("a", "a", "a"), ("a", "a")) == ("aa", "a")
    assert merge(("a", "b", "c", "a", "b"), ("a", "b")) == ("ab", "c", "ab")
    assert merge(("ab",), ("a", "b")) == ("ab",) and merge((), ("a", "b")) == ()


def test_learning_and_cutting_are_the_modules():
    words, merges = {tuple(word): n for word, n in CORPUS.items()}, []
    for _ in range(5):
        merges.append(best_pair(words))
        words = {merge(parts, merges[-1]): n for parts, n in words.items()}
    assert merges == learn_merges_by_definition(CORPUS, 5)
    rank = {pair: i for i, pair in enumerate(merges)}
    for word in ("hund", "bunde", "hundehund", "tun", "x", ""):
        assert list(split(word, merges)) == split_word(word, rank)
