"""Spoken digits: what is read, who is left out, that they can be learnt, and what a sound is taken for.
语音数字：读入的数据、被留出的说话人、能否学会，以及一段声音会被听成什么。
"""

import struct
import wave

import pytest
import torch

from chapter_06_rnn_lstm_seq.baselines.frames import bag_of_frames_accuracy
from chapter_06_rnn_lstm_seq.dataset import spoken_digits
from chapter_06_rnn_lstm_seq.hearing import digit_features, recognize_digit
from chapter_06_rnn_lstm_seq.model import Classifier, ClassifierConfig, pool
from chapter_06_rnn_lstm_seq.tasks import digits as task_module
from chapter_06_rnn_lstm_seq.tasks.shared import Shuffled
from chapter_06_rnn_lstm_seq.toy import toy_digits
from utils.data import default_data_root
from utils.errors import UserError

CPU = torch.device("cpu")
OPTIONS = {"cell": "gru", "bidirectional": True, "hidden_size": 24, "n_layers": 1, "dropout": 0.0, "input_dropout": 0.0}
FSDD = default_data_root() / "fsdd"
needs_fsdd = pytest.mark.skipif(not (FSDD / "recordings").is_dir(), reason="the spoken digits are not here")


@needs_fsdd
def test_the_recordings_are_read_as_they_are(tmp_path):
    (tmp_path / "fsdd").mkdir()
    (tmp_path / "fsdd" / "recordings").symlink_to(FSDD / "recordings")
    recordings = spoken_digits(tmp_path)
    assert (tmp_path / "fsdd" / "digits.npz").exists()
    assert len(recordings.digits) == 3000 and len(recordings.names) == 6
    assert torch.bincount(recordings.digits).tolist() == [300] * 10
    index = 1234
    digit, name, take = recordings.digits[index], recordings.names[recordings.speakers[index]], recordings.takes[index]
    with wave.open(str(FSDD / "recordings" / f"{digit}_{name}_{take}.wav")) as file:
        wanted = struct.unpack(f"<{file.getnframes()}h", file.readframes(-1))
    sounds, lengths = recordings.batch(torch.tensor([index, 0]))
    assert lengths[0] == len(wanted)
    assert torch.equal(sounds[0, : lengths[0]], torch.tensor(wanted) / 2**15)
    assert (sounds[0, lengths[0] :] == 0).all() and (sounds[1, lengths[1] :] == 0).all()


def test_recordings_that_are_not_those_are_refused(tmp_path):
    (tmp_path / "fsdd" / "recordings").mkdir(parents=True)
    (tmp_path / "fsdd" / "recordings" / "0_me_0.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="the 1 recordings are not the 3,000"):
        spoken_digits(tmp_path)


def test_a_damaged_cache_is_named(tmp_path):
    (tmp_path / "fsdd").mkdir()
    (tmp_path / "fsdd" / "digits.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="digits.npz is damaged"):
        spoken_digits(tmp_path)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_splits_share_no_recording(split):
    tasks = task_module.tasks("toy", None, split, OPTIONS, 8, CPU)
    customary, *others = tasks
    takes = customary.recordings.takes
    assert set(takes[customary.measured].tolist()) == set(range(5) if split == "test" else range(5, 10))
    assert not set(range(5)) & set(takes[customary.train].tolist())
    assert all(not set(task.train.tolist()) & set(task.measured.tolist()) for task in tasks)
    for speaker, task in enumerate(others):
        assert set(task.recordings.speakers[task.measured].tolist()) == {speaker}
        assert speaker not in task.recordings.speakers[task.train].tolist()
        assert len(task.train) + len(task.measured) == len(takes)


def test_toy_recordings_differ():
    recordings = toy_digits()
    sounds = [
        tuple(recordings.samples[a:b].tolist()) for a, b in zip(recordings.ends, recordings.ends[1:], strict=False)
    ]
    assert len(set(sounds)) == len(recordings.digits) == 240


def test_it_learns_the_toy_digits():
    torch.manual_seed(0)
    task = task_module.tasks("toy", None, "test", OPTIONS, 32, CPU)[0]
    model = task.build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        inputs, digits = task.batch()
        loss = task.loss(model(*inputs), digits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = task.evaluate(model)
    assert found["accuracy"] > 0.9 and found["count"] == 100
    recordings = task.recordings
    sound = recordings.batch(task.measured[:1])[0][0]
    assert recognize_digit(model, digit_features(), sound, 8000).argmax() == recordings.digits[task.measured[0]]


def test_a_bag_of_frames_learns_what_has_no_order():
    recordings = toy_digits()
    index = torch.arange(240)
    accuracy = bag_of_frames_accuracy(recordings, index[::2], index[1::2])
    assert 0.4 < accuracy < 0.95  # six pairs of tones, heard from either end: half of them cannot be told apart


def test_answers_do_not_depend_on_the_others():
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(80, 10, hidden_size=6, n_layers=2))
    recordings, features = toy_digits(takes=1), digit_features()
    together = task_module.digit_logits(model, features, recordings, torch.arange(20))
    alone = torch.cat([task_module.digit_logits(model, features, recordings, torch.tensor([i])) for i in range(20)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_pooling_by_hand():
    x = torch.tensor([[[1.0, -2.0], [3.0, -4.0], [9.0, 9.0]]])
    assert pool(x, torch.tensor([2])).tolist() == [[2.0, -3.0, 3.0, -2.0]]


def test_a_speech_is_not_a_digit():
    model = Classifier(ClassifierConfig(80, 10, hidden_size=4))
    with pytest.raises(UserError, match="lasts 30 s"):
        recognize_digit(model, digit_features(), torch.zeros(30 * 44100), 44100)


def test_batches_go_through_all_and_can_be_resumed():
    torch.manual_seed(0)
    order = Shuffled(torch.arange(10, 21), 5)
    first = torch.cat([order.next(), order.next()])
    assert len(set(first.tolist())) == 10
    order.next()
    saved, generator = order.state_dict(), torch.get_rng_state()
    rest = [order.next() for _ in range(4)]
    again = Shuffled(torch.arange(10, 21), 5)
    again.load_state_dict(saved)
    torch.set_rng_state(generator)
    assert all(torch.equal(a, again.next()) for a in rest)
