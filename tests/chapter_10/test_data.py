"""The stream on disk holds the documents and notices damage; windows come in an order that depends on nothing but seed.
磁盘上的词元流完整保存文档并能发现损坏；窗口的顺序只取决于随机种子。
"""

import itertools

import numpy as np
import pytest
import torch

from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.pretraining import data
from chapter_10_llm_modern_components.pretraining.corpora import toy
from chapter_10_llm_modern_components.pretraining.data import Windows, cached_stream, cached_tokenizer, split_validation
from utils.errors import UserError

DOCUMENTS = ["ab", "", "<|endoftext|>cd", "e"]


@pytest.fixture
def tokenizer():
    return ByteTokenizer([(97, 98)], data.SPECIAL)


def test_the_stream_is_the_documents_between_ends_and_is_encoded_once(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(data, "SHARD", 7)
    end = tokenizer.special["<|endoftext|>"]
    expected = [end, *itertools.chain(*([*tokenizer.encode(text), end] for text in DOCUMENTS))]
    shards = cached_stream(DOCUMENTS, tokenizer, tmp_path)
    assert np.concatenate(shards).tolist() == expected and {len(shard) for shard in shards[:-1]} == {7}
    assert expected.count(end) == 5, "the name of the token in a text is text"
    monkeypatch.setattr(data, "_write_shards", None)
    assert np.concatenate(cached_stream(DOCUMENTS, tokenizer, tmp_path)).tolist() == expected
    with pytest.raises(TypeError):
        cached_stream(["ab", "<|endoftext|>cd", "e", ""], tokenizer, tmp_path)  # others, so these have to be encoded


@pytest.mark.parametrize("damage", ["byte", "short", "missing", "index", "unfinished"])
def test_a_damaged_stream_is_made_anew(tmp_path, tokenizer, capsys, damage):
    expected = np.concatenate(cached_stream(DOCUMENTS, tokenizer, tmp_path)).tolist()
    [shard], [index] = tmp_path.glob("*/0000.bin"), tmp_path.glob("*/index.json")
    content = shard.read_bytes()
    if damage == "byte":
        shard.write_bytes(content[:4] + b"x" + content[5:])
    elif damage == "short":
        shard.write_bytes(content[:-2])
    elif damage == "missing":
        shard.unlink()
    elif damage == "index":
        index.write_text('{"kind": "<u2"}')
    else:
        index.unlink()
    assert np.concatenate(cached_stream(DOCUMENTS, tokenizer, tmp_path)).tolist() == expected
    assert ("damaged" in capsys.readouterr().out) == (damage != "unfinished")


def test_a_tokenizer_is_learned_once(tmp_path, monkeypatch, capsys):
    first = cached_tokenizer(["abab abab"], 270, tmp_path)
    assert [*first.special] == data.SPECIAL
    monkeypatch.setattr(data, "train_tokenizer", lambda *_: pytest.fail("learned again"))
    assert cached_tokenizer(["abab abab"], 270, tmp_path).tokens == first.tokens
    monkeypatch.undo()
    [path] = tmp_path.iterdir()
    path.write_text("{")
    assert cached_tokenizer(["abab abab"], 270, tmp_path).tokens == first.tokens
    assert "learned anew" in capsys.readouterr().out


def test_every_window_comes_once_in_an_epoch():
    """Over two shards of which the second is too short; what follows each token is the input's next one."""
    windows = Windows([np.arange(100, 143), np.arange(9)], 5, seed=3)
    assert len(windows) == 43 // 5 - 1
    inputs, targets = windows.batch(0, 2 * len(windows))
    assert inputs.dtype == torch.int64 and torch.equal(targets, inputs + 1)
    for epoch in inputs.split(len(windows)):
        starts = sorted(epoch[:, 0].tolist())
        assert starts == list(range(starts[0], starts[0] + 5 * len(windows), 5)) and starts[0] < 105
    assert not torch.equal(*inputs.split(len(windows)))
    with pytest.raises(UserError, match="--length"):
        Windows([np.arange(9)], 5, seed=0)


def test_a_batch_depends_on_seed_and_number_alone():
    shards = [np.arange(60), np.arange(60, 200)]
    whole, _ = Windows(shards, 4, seed=1).batch(0, 120)
    again = Windows(shards, 4, seed=1)
    for first in (96, 0, 48, 40):  # forwards, backwards, over the borders of epochs
        assert torch.equal(again.batch(first, 24)[0], whole[first : first + 24])
    assert not torch.equal(Windows(shards, 4, seed=2).batch(0, 120)[0], whole)


def test_validation_is_of_whole_documents_and_leaks_nothing():
    documents = toy().train
    learned, validation = split_validation(documents, share=0.05)
    assert sorted(learned + validation) == sorted(documents) and not set(learned) & set(validation)
    size = sum(map(len, documents))
    assert 0.05 * size <= sum(map(len, validation)) < 0.05 * size + max(map(len, documents))
    lines = {line for document in learned for line in document.splitlines()}
    held_out = [line for document in validation + toy().held_out for line in document.splitlines()]
    assert not lines.intersection(held_out)
    with pytest.raises(UserError, match="too few"):
        split_validation(["one"])
