"""Sentence pairs: what is tested on was not learned from, and files that are not what they should be are refused.
句对：测试句子没有在训练中出现，内容不对的文件会被拒绝。
"""

import random
from zipfile import ZipFile

import pytest

from chapter_08_transformer_vanilla import dataset
from chapter_08_transformer_vanilla.dataset import (
    PAIRS,
    bare,
    linked,
    load_pairs,
    read_tatoeba,
    split_pairs,
    tatoeba,
)
from utils.data import default_data_root
from utils.errors import UserError

DATA = default_data_root()
LINES = "Hi.\t嗨。\tCC-BY 2.0 (France)\nHi!\t你好。\nRun.\t跑！\tsomebody\n\nHi.\t嗨。\tsomebody else\n"


def needs(name):
    return pytest.mark.skipif(not (DATA / name).exists(), reason=f"{name} is not here")


def assert_unlinked(first, second):
    """No two pairs of the parts share a sentence, on either side, even in another case or with other marks."""
    for side in (0, 1):
        assert not {bare(pair[side]) for pair in first} & {bare(pair[side]) for pair in second}


def made_up_pairs(count=600):
    """Pairs of few sentences, so that many are linked."""
    draw = random.Random(0)
    return list({(f"句{draw.randrange(300)}。", f"No. {draw.randrange(900)}") for _ in range(count)})


def test_parts_share_no_sentence():
    pairs = made_up_pairs()
    train, validation, test = split_pairs(pairs, n_test=50, n_validation=20)
    assert sorted(train + validation + test) == sorted(pairs) and len(test) == 50 and len(validation) == 20
    for parts in ((train, test), (train, validation), (validation, test)):
        assert_unlinked(*parts)


def test_sentences_that_differ_in_marks_alone_are_linked():
    pairs = [
        ("你好。", "Hello."),
        ("你好！", "Good day."),
        ("再见", "GOOD  day"),
        ("ＡＢ", "x"),
        ("ab", "y"),
        ("？", "?"),
    ]
    groups = sorted(map(sorted, linked(pairs)), key=len)
    assert [len(group) for group in groups] == [1, 2, 3] and groups[0] == [("？", "?")]


def test_more_pairs_hardly_change_the_parts():
    pairs = made_up_pairs()
    _, _, before = split_pairs(pairs, 50, 20)
    _, _, after = split_pairs([*pairs, *((f"新{i}", f"new {i}") for i in range(30))], 50, 20)
    assert len(set(before) & set(after)) >= 45


@needs("cmn_eng")
def test_tatoebas_test_sentences_occur_nowhere_in_training():
    train, validation, test = load_pairs("zh-en", "full", DATA)
    assert len(test) == 1000 and len(validation) == 500 and len(train) > 20_000
    for parts in ((train, test), (train, validation), (validation, test)):
        assert_unlinked(*parts)
    assert all(dataset.CHINESE.search(chinese) for chinese, _ in test[:100])


@needs("multi30k")
@pytest.mark.parametrize("pair", ["de-en", "en-de"])
def test_multi30k_is_read_in_both_directions(pair):
    train, validation, test = load_pairs(pair, "full", DATA)
    assert (len(train), len(validation), len(test)) == (29_000, 1_014, 1_000)
    german = "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
    english = "Two young, White males are outside near many bushes."
    assert train[0] == ((german, english) if pair == "de-en" else (english, german))
    assert not set(train) & {*validation, *test}
    assert not {text for pair in train for text in pair} & {text for pair in test for text in pair}


@pytest.mark.parametrize("pair", PAIRS)
def test_toy_pairs_need_no_files(pair, tmp_path):
    train, validation, test = load_pairs(pair, "toy", tmp_path)
    assert len(train) == 2000 and not set(train) & {*validation, *test} and min(len(validation), len(test)) > 20
    assert all(("。" in source) == (pair == "zh-en") for source, _ in train)


def test_the_toy_grammar_says_the_same_in_three_languages():
    german, chinese = load_pairs("de-en", "toy", None)[0], load_pairs("zh-en", "toy", None)[0]
    assert [english for _, english in german] == [english for _, english in chinese]
    assert german[0][0] == "Eine alte Frau mag oft einen jungen Hund."
    assert german[0][1] == "An old woman likes a young dog often."
    assert chinese[0][0] == "一个老女人经常喜欢一只年轻的狗。"
    assert german[1][0].startswith("Heute sieht") and chinese[1][0].startswith("今天")


def test_tatoebas_file_is_read(tmp_path):
    (tmp_path / "cmn.txt").write_text("\ufeff" + LINES, encoding="utf-8")
    assert read_tatoeba(tmp_path / "cmn.txt", least=3) == [("嗨。", "Hi."), ("你好。", "Hi!"), ("跑！", "Run.")]


def test_tatoebas_archive_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "read_tatoeba", lambda path: read_tatoeba(path, least=1))
    (tmp_path / "cmn_eng").mkdir()
    with ZipFile(tmp_path / "cmn_eng" / "cmn-eng.zip", "w") as archive:
        archive.writestr("cmn.txt", LINES)
    assert len(tatoeba(tmp_path)) == 3 and (tmp_path / "cmn_eng" / "cmn.txt").exists()


@pytest.mark.parametrize(
    "content,message",
    [
        (LINES.encode(), "has 3 pairs, not at least 20000"),
        (b"Hi.\t\n", "line 1: not an English sentence, a tab"),
        (LINES.encode() + b"no tab\n", "line 6: not an English sentence, a tab"),
        ("嗨。\tHi.\n".encode(), "1 lines are not English first"),
        (b"Hi.\tHallo.\n", "is it Tatoeba's cmn.txt"),
        ("Hi.\t嗨。".encode("gb18030"), "no text in UTF-8"),
    ],
)
def test_files_that_hold_something_else_are_refused(content, message, tmp_path):
    (tmp_path / "cmn.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_tatoeba(tmp_path / "cmn.txt")


def test_what_is_missing_and_cannot_be_fetched_is_named(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("utils.file_io_util.urlopen", refuse)
    with pytest.raises(UserError, match="cmn-eng.zip.*--dataset toy needs no download"):
        load_pairs("zh-en", "full", tmp_path)
    with pytest.raises(UserError, match="train.en.*--dataset toy needs no download"):
        load_pairs("en-de", "full", tmp_path)
    (tmp_path / "cmn_eng" / "cmn-eng.zip").write_bytes(b"<html>")
    with pytest.raises(UserError, match="cmn-eng.zip is damaged or another file"):
        tatoeba(tmp_path)
