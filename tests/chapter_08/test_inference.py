"""Inference on whatever people type: nothing, a thousand words, other languages; and files that are not there.
对各种输入做推断：空文本、上千个词、其他语言，以及不存在的文件。
"""

import io
import json
import sys
import time

import pytest
import torch

from chapter_08_transformer_vanilla import inference, shipped, train
from chapter_08_transformer_vanilla.dataset import load_pairs
from chapter_08_transformer_vanilla.shipped import CHECKPOINTS, load_translator, untrained
from chapter_08_transformer_vanilla.translating import Translation

CPU = torch.device("cpu")
UNTRAINED = ["--model_path", "untrained", "--device", "cpu", "--beam", "2"]
AWKWARD = {
    "nothing": "",
    "spaces": " \t\n ",
    "short": "Ein Mann sieht heute eine Katze.",
    "mixed": "Ein 猫 und قطة, кот & $x_1$ 😀 \u0301 \x07 <unk> <pad>",
    "long": "ein Hund und " * 60,
    "one word": "Donaudampfschifffahrtsgesellschaftskapitän" * 5,
    "foreign": "今天一个男人看见一只猫。",
}


@pytest.fixture(autouse=True)
def _small_answers(monkeypatch):
    """An untrained model never ends: let it write little."""
    from chapter_08_transformer_vanilla import translating

    searched = translating.beam_search
    monkeypatch.setattr(
        translating,
        "beam_search",
        lambda step, state, start, eos, longest, *rest: searched(step, state, start, eos, min(longest, 5), *rest),
    )


def rows_of(folder, *flags):
    inference.main([*UNTRAINED, "--out_dir", str(folder), *flags])
    [path] = folder.glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))["final"]["translations"]


def test_any_text_gets_an_answer(tmp_path, capsys):
    rows = rows_of(tmp_path, "--text", *AWKWARD.values())
    rows = dict(zip(AWKWARD, rows, strict=True))
    for name in ("nothing", "spaces"):
        assert rows[name]["translation"] == "" and rows[name]["note"] == "there is nothing to read"
    assert rows["short"]["translation"] and not rows["short"]["note"]
    for name in ("long", "one word"):
        assert "parts: it is longer than anything in training" in rows[name]["note"] and rows[name]["translation"]
    assert "does not look like German" in rows["foreign"]["note"]
    assert capsys.readouterr().out.count("(nothing)") >= 2


def test_a_file_is_translated_line_by_line(tmp_path):
    lines = [source for source, _ in load_pairs("de-en", "toy", None)[0][:130]]
    (tmp_path / "in.txt").write_text("\n".join([*lines, "", "letzte"]), encoding="utf-8")
    out = tmp_path / "out"
    rows = rows_of(out, "--file", str(tmp_path / "in.txt"), "--alignment", "off")
    assert [row["source"] for row in rows] == [*lines, "", "letzte"]
    one_by_one = rows_of(out, "--text", *lines[:3], "--alignment", "off")
    assert [row["translation"] for row in one_by_one] == [row["translation"] for row in rows[:3]]


def test_sentences_can_be_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Ein Mann.\n\n"))
    rows = rows_of(tmp_path)
    assert [row["source"] for row in rows] == ["Ein Mann.", ""]
    assert "German sentences, for instance: Ein Hund" in capsys.readouterr().err


def test_the_alignment_is_a_table_or_a_picture(tmp_path, capsys):
    part = Translation(
        "A dog", ["▁Ein", "▁Hund", "<eos>"], ["▁A", "▁dog"], torch.tensor([[0.7, 0.1, 0.2], [0.05, 0.9, 0.05]])
    )
    assert inference.alignment_lines(part) == ["  ▁A    ▁Ein 0.70   <eos> 0.20  ▁Hund 0.10", "  ▁dog  ▁Hund 0.90"]
    rows_of(tmp_path, "--text", "Ein Mann.", "--alignment", "off")
    assert "▁Ein" not in capsys.readouterr().out and not list(tmp_path.glob("*.png"))
    rows_of(tmp_path, "--text", "Ein Mann.", "", "--alignment", "picture")
    assert "▁Mann" in capsys.readouterr().out and [p.name for p in tmp_path.glob("*.png")] == ["de-en_1_1.png"]


def test_mistakes_are_one_line(complaint, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "CHECKPOINTS", tmp_path / "checkpoints")
    to = ["--device", "cpu", "--out_dir", tmp_path / "out"]
    line = complaint(inference.main, *to, "--pair", "zh-en", "--text", "我喜欢")
    assert "translate_zh_en.pth: no such file; chapter_08_transformer_vanilla/train.py --pair zh-en makes one" in line
    file = [*to, "--model_path", "untrained", "--file"]
    assert "missing.txt: no such file" in complaint(inference.main, *file, tmp_path / "missing.txt")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\xff")
    assert "no text in UTF-8" in complaint(inference.main, *file, tmp_path / "x.txt")
    assert "is damaged" in complaint(inference.main, *to, "--model_path", tmp_path / "x.txt", "--text", "a")
    assert "--top_p 0.0: a share above 0" in complaint(inference.main, *to, "--top_p", "0")


def test_a_model_brings_its_own_pair(tmp_path, capsys):
    """None ships for English to German, so it can only come from a file."""
    train.main(["--dry_run", "--device", "cpu", "--pair", "en-de", "--out_dir", str(tmp_path)])
    path, out = tmp_path / "translate_en_de.pth", tmp_path / "out"
    flags = ["--device", "cpu", "--beam", "1", "--out_dir", str(out), "--alignment", "off"]
    inference.main([*flags, "--model_path", str(path), "--text", "今天一个男人看见一只猫。"])
    final = json.loads((out / "translate.json").read_text(encoding="utf-8"))["final"]
    assert final["pair"] == "en-de" and "does not look like English" in final["translations"][0]["note"]
    with pytest.raises(SystemExit):
        inference.main(["--pair", "en-de"])
    assert "invalid choice" in capsys.readouterr().err


def test_parts_of_a_text_fit_the_model():
    translator = untrained("de-en", load_pairs("de-en", "toy", None)[0][:200], CPU)
    for text in AWKWARD.values():
        parts = translator.parts(text)
        assert "".join(parts) == text
        assert all(len(translator.tokenizer.encode(part)) < translator.longest for part in parts)


@pytest.mark.skipif(not (CHECKPOINTS / "translate_de_en.pth").exists(), reason="translate_de_en is not here yet")
def test_a_sentence_is_translated_within_five_seconds(script, tmp_path):
    start = time.perf_counter()
    done = script("chapter_08_transformer_vanilla/inference.py", "--text", "Ein Hund rennt.", "--out_dir", tmp_path)
    assert done.returncode == 0 and "dog" in done.stdout.lower(), done.stderr
    assert time.perf_counter() - start < 15  # on a busy machine; alone it takes less than five
    assert load_translator("de-en", None, CPU).longest > 30
