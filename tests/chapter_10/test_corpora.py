"""Corpora: whole documents are held out, and nothing of them is learned from.
语料：按整篇文档留出，训练时读不到其中任何内容。
"""

import pytest

from chapter_08_transformer_vanilla.books import HELD_OUT, NUMBERS
from chapter_10_llm_modern_components.pretraining.corpora import (
    code,
    is_held_out,
    load_corpus,
    paragraphs,
    stories,
    toy,
    unwrapped,
)
from utils.data import default_data_root
from utils.errors import UserError

HAS_BOOKS = (default_data_root() / "childrens_books").is_dir()


def contents(documents):
    return [" ".join(document.split()) for document in documents]


def no_document_twice(corpus):
    both = contents(corpus.train + corpus.held_out)
    return len(set(both)) == len(both) and all(both)


def test_toy_documents_share_not_even_a_line():
    train, held_out = load_corpus("toy", None)
    lines = [line for document in train + held_out for line in document.splitlines()]
    assert len(set(lines)) == len(lines) > 200 and len(train) > 8 * len(held_out) > 0
    assert toy() == (train, held_out)


def test_the_standard_library_is_split_by_files():
    corpus = code()
    assert no_document_twice(corpus)
    size = [sum(map(len, part)) for part in corpus]
    assert size[0] > 3_000_000 and 0.03 < size[1] / size[0] < 0.3
    import json.decoder  # a file of every Python

    text = open(json.decoder.__file__, encoding="utf-8").read()
    assert text in corpus[is_held_out("json/decoder.py")] and text not in corpus[not is_held_out("json/decoder.py")]


def test_code_leaves_out_tests_copies_and_what_is_no_text(tmp_path):
    for i in range(40):
        (tmp_path / f"module_{i}.py").write_text(f"x = {i}\n", encoding="utf-8")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "inner.py").write_text("secret = 1\n", encoding="utf-8")
    (tmp_path / "a_copy.py").write_text("x  = 3\n\n", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    (tmp_path / "empty.py").write_text("\n", encoding="utf-8")
    corpus = code(tmp_path)
    assert sorted(contents(corpus.train + corpus.held_out)) == sorted(f"x = {i}" for i in range(40))
    assert no_document_twice(corpus)
    held_out = [i for i in range(40) if i != 3 and is_held_out(f"module_{i}.py")]
    assert {f"x = {i}\n" for i in held_out} <= set(corpus.held_out), "by the path, whatever else lies there"
    with pytest.raises(UserError, match="--corpus toy needs none"):
        code(tmp_path / "test")


def test_about_a_tenth_is_held_out():
    assert 0.08 < sum(is_held_out(f"folder/{i}.py") for i in range(3000)) / 3000 < 0.12


def test_books_are_held_out_whole_and_their_lack_is_told(tmp_path, monkeypatch):
    folder = tmp_path / "childrens_books"
    folder.mkdir()
    for number in NUMBERS:
        text = f"catalogue\n*** START OF {number} ***\nBook\nnumber {number}.\n*** END OF {number} ***\n"
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    corpus = stories(tmp_path)
    assert corpus.held_out == [f"Book number {number}.\n" for number in HELD_OUT]
    assert len(corpus.train) == len(NUMBERS) - 2 and no_document_twice(corpus)

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("utils.file_io_util.urlopen", refuse)
    (folder / f"{NUMBERS[0]}.txt").unlink()
    with pytest.raises(UserError, match="put it at .*--corpus toy needs no download"):
        stories(tmp_path)


def test_paragraphs_are_unwrapped_and_verse_is_not():
    book = (
        "\n\nIt was\nthe _best_\nof times. \n\n\n\n“Twas,”\n  a line,\n  a ‘line’\n\n[Illustration: A cat\n on a mat]\n"
    )
    assert unwrapped(book) == "It was the best of times.\n\n\"Twas,\"\n  a line,\n  a 'line'\n"


@pytest.mark.skipif(not HAS_BOOKS, reason="the children's books are not in the data root")
def test_no_paragraph_of_the_held_out_books_is_read():
    corpus = stories(default_data_root())
    assert [len(part) for part in corpus] == [50, 2] and no_document_twice(corpus)
    learned = {line for book in corpus.train for line in book.splitlines()}
    held_out = {line for book in corpus.held_out for line in book.splitlines() if len(line) > 100}
    assert len(held_out) > 1000 and not learned & held_out


def test_a_text_of_ones_own_is_split_by_paragraphs(tmp_path):
    path = tmp_path / "own.txt"
    path.write_bytes(b"one\r\ntwo\r\n\r\nthree\r\n  \r\none\r\ntwo\r\n")
    assert paragraphs(path) == (["three"], ["one\ntwo"])
    for content, message in ((b"one\ntwo\n", "fewer than two paragraphs"), (b"a\n\n\xff", "no text in UTF-8")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            paragraphs(path)
    with pytest.raises(UserError, match="missing.txt: no such file"):
        paragraphs(tmp_path / "missing.txt")
    path.write_bytes(b"")
    with pytest.raises(UserError, match="fewer than two paragraphs"):
        paragraphs(path)
