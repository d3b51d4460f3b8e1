"""Inference on whatever people type: nothing, 500 words, mixed scripts, unknown words, another task's file.
对各种输入做推断：空句、500 个词、混合文字、未知词、别的任务的模型文件。
"""

import json

import pytest
import torch

from chapter_07_attention_mechanism import inference, models
from chapter_07_attention_mechanism.answering import Answer, answer_numbers, answer_text, whole_words
from chapter_07_attention_mechanism.decoder import DecoderConfig
from chapter_07_attention_mechanism.sorter import Sorter, SorterConfig
from chapter_07_attention_mechanism.tasks.sort import sort_vocabulary
from utils.checkpoint import round_to_half, save_model
from utils.errors import UserError

CPU = torch.device("cpu")
AWKWARD = {
    "nothing": "",
    "spaces": " \t\n ",
    "mixed": "Ein 猫 und قطة, кот & $x_1$ 😀 \u0301 \x07 <unk> <pad>",
    "long": "ein Hund und " * 167,
    "no UTF-8": "ein \udc80 Hund",
    "one word": "Donaudampfschifffahrtsgesellschaftskapitän" * 20,
}


def answers(folder, *flags):
    inference.main(["--dry_run", "--device", "cpu", "--out_dir", str(folder), *flags])
    [path] = folder.glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))["final"]["answers"]


@pytest.mark.parametrize("task", ["translate", "dates"])
def test_any_text_gets_an_answer(task, tmp_path):
    rows = answers(tmp_path, "--task", task, "--input", *AWKWARD.values())
    assert [row["answer"] == "" for row in rows][:2] == [True, True]
    assert "nothing to read" in rows[0]["note"] and "nothing to read" in rows[1]["note"]
    assert "unknown" in rows[2]["note"] and "猫" in rows[2]["note"]


def test_numbers_are_read_or_refused(tmp_path):
    assert inference.read_numbers(" 5,3  9, ") == [5, 3, 9] and inference.read_numbers("") == []
    for text in ("5 x", "-1", "32", "3.5", "٣", "9" * 5000, "²"):
        with pytest.raises(UserError, match="is no whole number from 0 to 31"):
            inference.read_numbers(text)
    rows = answers(tmp_path, "--task", "sort", "--input", "", "7 " * 100)
    assert rows[0]["answer"] == "" and rows[1]["input"].startswith("7 7")


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("no picture")
    for name in ("note.txt", "missing.png"):
        with pytest.raises(UserError, match=name):
            inference.main(["--dry_run", "--device", "cpu", "--task", "caption", "--input", str(tmp_path / name)])


def test_another_tasks_model_is_refused(tmp_path):
    model, vocabulary = models.untrained("dates", CPU)
    round_to_half(model)
    about = vocabulary.plain() | {"task": "dates"}
    save_model(tmp_path / "dates.pth", model, model.config, about)
    loaded, known = models.load("dates", tmp_path / "dates.pth", CPU)
    assert known.pieces == vocabulary.pieces and torch.equal(loaded.bias, model.bias)
    with pytest.raises(UserError, match="trained for --task dates, not for translate"):
        models.load("translate", tmp_path / "dates.pth", CPU)
    with pytest.raises(UserError, match="another model"):
        models.load("sort", tmp_path / "dates.pth", CPU)
    with pytest.raises(UserError, match="train.py --task caption makes one"):
        models.load("caption", tmp_path / "caption.pth", CPU)


def test_answers_come_with_a_row_of_weights_for_each_piece():
    model, vocabulary = models.untrained("translate", CPU)
    answer = answer_text(model, vocabulary, vocabulary.split("ein hund sieht 猫"), beam=3, longest=7)
    assert answer.weights.shape == (len(answer.pieces), len(answer.source)) and "猫" in "".join(answer.unknown)
    torch.testing.assert_close(answer.weights.sum(-1), torch.ones(len(answer.pieces)))


def test_pieces_become_words():
    """Read: ein, hund + e, and a comma; written: dogs, of two pieces, and a comma."""
    weights = torch.tensor([[0.1, 0.6, 0.2, 0.1], [0.3, 0.4, 0.2, 0.1], [0.0, 0.0, 0.1, 0.9]])
    answer = whole_words(Answer(["▁ein", "▁hund", "e", ","], ["▁dog", "s", ","], weights, [], True))
    assert answer.source == ["ein", "hunde", ","] and answer.pieces == ["dogs", ","]
    torch.testing.assert_close(answer.weights, torch.tensor([[0.2, 0.7, 0.1], [0.0, 0.1, 0.9]]))


def test_a_model_without_attention_answers_too():
    vocabulary = models.untrained("translate", CPU)[1]
    model = models.BUILDERS["translate"](DecoderConfig(len(vocabulary), 8, 8, "none").__dict__).eval()
    answer = answer_text(model, vocabulary, vocabulary.split("ein hund 猫"), beam=2, longest=5)
    assert len(answer.pieces) <= 5 and answer.weights.eq(0).all()


def test_rows_of_the_sorter_say_where_it_looked_for_the_next_number():
    vocabulary = sort_vocabulary()
    model = Sorter(SorterConfig(len(vocabulary), width=8, n_heads=2, hidden=8)).eval()
    pieces, weights = answer_numbers(model, vocabulary, "reverse", [4, 30, 4])
    assert pieces[:5] == ["<bos>", "4", "30", "4", "reverse"] and len(pieces) <= 9
    assert weights.shape == (2, len(pieces), len(pieces)) and weights.triu(1).eq(0).all()
