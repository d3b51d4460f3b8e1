"""Models that go on with a text: any prompt, side by side, and one line for a user's mistake.
续写文本的模型：任意的开头、并排比较，以及用户出错时的一行说明。
"""

import json

import pytest
import torch

from chapter_09_efficient_attention import inference
from chapter_09_efficient_attention.shipped import UNTRAINED, load_language_models
from utils.checkpoint import round_to_half, save_model

TINY = ["--model_dir", "untrained", "--length", "12", "--device", "cpu", "--temperature", "0"]


def texts(folder, *flags):
    inference.main([*TINY, *flags, "--out_dir", str(folder)])
    return json.loads((folder / "inference.json").read_text(encoding="utf-8"))["final"]["texts"]


def test_any_prompt_goes_on(tmp_path, capsys):
    for prompt in ("", "the cat", "猫 the 狗", "the cat sees " * 50):
        rows = texts(tmp_path, "--prompt", prompt, "--attention", "local", "mha")
        assert [len(row["text"]) for row in rows] == [12, 12]
        shown = capsys.readouterr()
        assert ("leaves out" in shown.err) == ("猫" in prompt) and rows[0]["text"] in shown.out
    assert rows[0]["cache_bytes"] < rows[1]["cache_bytes"] and rows[1]["cache_tokens"] == 13 * 50 + 12


def test_texts_stand_side_by_side(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    alone, beside = (texts(tmp_path / name, *flags) for name, flags in (("a", []), ("b", ["--compare"])))
    assert [row["text"] for row in alone] == [row["text"] for row in beside]
    assert "--- mha" in capsys.readouterr().out
    lines = inference.side_by_side({"x": "one two " * 9, "y": "three\n\nfour", "z": "five", "w": "six"})
    assert lines[0].split() == ["---", "x", "---", "y", "---", "z"] and lines[1].split()[-1] == "five"
    assert any(line.split() == ["---", "w"] for line in lines) and max(map(len, lines)) <= 80


def test_mistakes_are_one_line(complaint, tmp_path):
    to = ["--device", "cpu", "--out_dir", tmp_path / "out", "--model_dir"]
    assert "holds no weights: chapter_09_efficient_attention/train.py" in complaint(inference.main, *to, tmp_path)
    assert "no attention is called softmax" in complaint(inference.main, *to, "untrained", "--attention", "softmax")
    model, _ = load_language_models(UNTRAINED, ["mha"], torch.device("cpu"))["mha"]
    round_to_half(model)
    save_model(tmp_path / "mha.pth", model, model.config, {})
    assert "holds no gqa, but mha" in complaint(inference.main, *to, tmp_path, "--attention", "mha", "gqa")
    assert "does not say which characters" in complaint(inference.main, *to, tmp_path)
    (tmp_path / "mha.pth").write_bytes(b"x")
    assert "mha.pth is damaged" in complaint(inference.main, *to, tmp_path)


@pytest.mark.parametrize("flags", [["--temperature", "-1"], ["--length", "0"], ["--top_k", "-1"]], ids=" ".join)
def test_numbers_that_make_no_sense_are_refused(flags, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        inference.main([*flags, "--out_dir", str(tmp_path)])
    assert stop.value.code == 2 and flags[0] in capsys.readouterr().err
