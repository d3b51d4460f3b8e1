"""Batches of sequences, and where their sentences come from.
序列的批处理，以及句子的来源。
"""

import gzip
import hashlib

import pytest
import torch

from chapter_07_attention_mechanism.dataset import multi30k as module
from chapter_07_attention_mechanism.dataset.batching import LengthBuckets, pad, pad_targets
from chapter_07_attention_mechanism.dataset.multi30k import multi30k
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS_ID, PAD_ID
from utils.errors import UserError


def test_padding_fills_up():
    padded, lengths = pad([[5, 6, 7], [8], []])
    assert padded.tolist() == [[5, 6, 7], [8, PAD_ID, PAD_ID], [PAD_ID] * 3] and lengths.tolist() == [3, 1, 0]
    assert pad_targets([[5], []]).tolist() == [[BOS_ID, 5, EOS_ID], [BOS_ID, EOS_ID, PAD_ID]]


def test_batches_keep_to_their_tokens_and_reach_everything():
    torch.manual_seed(0)
    lengths = torch.randint(1, 40, (500,)).tolist()
    buckets = LengthBuckets(lengths, tokens=200)
    seen, padding, total = torch.zeros(500), 0, 0
    for _ in range(3000):
        batch = buckets.draw()
        inside = buckets.lengths[batch]
        assert len(batch.unique()) == len(batch) and len(batch) * inside.max() <= 200
        padding, total = padding + int(len(batch) * inside.max() - inside.sum()), total + int(inside.sum())
        seen[batch] += 1
    assert padding < 0.1 * total
    assert (seen / seen.mean() - 1).abs().max() < 0.5  # about 150 times each: five standard deviations are 0.4


def test_a_sequence_longer_than_a_batch_comes_alone():
    assert len(LengthBuckets([50, 50], tokens=10, n_buckets=1).draw()) == 1


@pytest.fixture
def files(tmp_path, monkeypatch):
    folder, md5 = tmp_path / "multi30k", {}
    folder.mkdir()
    texts = {"val.de": "ein Hund\nzwei Hunde\n", "val.en": "a dog\ntwo dogs\n", "val.fr": "un chien\n"}
    for name, text in texts.items():
        md5[name] = hashlib.md5(text.encode()).hexdigest()
        (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr(module, "MD5", md5)
    return tmp_path


def test_sentences_come_in_pairs(files):
    assert multi30k(files, "val", ("de", "en")) == [("ein Hund", "a dog"), ("zwei Hunde", "two dogs")]
    (files / "multi30k" / "val.de.gz").unlink()
    assert len(multi30k(files, "val", ("en", "de"))) == 2  # the unpacked file is there


def test_files_that_do_not_fit_are_refused(files):
    with pytest.raises(UserError, match="2 and 1 lines"):
        multi30k(files, "val", ("de", "fr"))
    (files / "multi30k" / "val.en.gz").write_bytes(b"a dog")
    with pytest.raises(UserError, match="val.en"):
        multi30k(files, "val", ("de", "en"))
