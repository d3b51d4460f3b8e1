"""What a user gives to inference.py: odd prompts, odd sounds, odd tables, and missing files.
用户交给 inference.py 的各种输入：奇怪的提示、声音、表格，以及缺失的文件。
"""

import struct

import pytest
import torch

from chapter_06_rnn_lstm_seq import inference
from chapter_06_rnn_lstm_seq.shipped import LETTERS, UNTRAINED
from utils.errors import UserError

SMALL = ["--device", "cpu", "--checkpoints", str(UNTRAINED)]


def wav_bytes(samples, channels, rate, bits):
    frame = channels * bits // 8
    header = struct.pack("<HHIIHH", 1, channels, rate, rate * frame, frame, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + header + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("prompt", ["", "my lord", "naïve 你好", "你好"])
def test_any_prompt_is_gone_on_from(prompt, capsys):
    inference.main([*SMALL, "--prompt", prompt, "--length", "30"])
    printed = capsys.readouterr()
    known = "".join(c for c in prompt if c in LETTERS)
    assert printed.out.startswith(known) and len(printed.out) == len(known) + 31
    assert ("left out" in printed.err) == (known != prompt)
    if prompt == "你好":
        assert "'你'" in printed.err and "'好'" in printed.err


def test_the_same_seed_writes_the_same(capsys):
    texts = []
    for seed in ("1", "1", "2"):
        inference.main([*SMALL, "--length", "40", "--seed", seed])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("channels, rate, bits", [(1, 8000, 16), (2, 44100, 16), (1, 44100, 8), (2, 48000, 24)])
def test_any_recording_is_heard(channels, rate, bits, tmp_path, capsys):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (rate // 4 * channels * bits // 8,), generator=generator, dtype=torch.uint8)
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise.numpy().tobytes(), channels, rate, bits))
    inference.main([*SMALL, "--wav", str(tmp_path / "a.wav")])
    assert capsys.readouterr().out.startswith("a.wav")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--wav", "{folder}/short.wav"], "short.wav is cut short: of 1000 bytes of data, 500 are there"),
        (["--wav", "{folder}/nothing.wav"], "cannot be read"),
        (["--csv", "{folder}/gap.csv"], "line 3, column 'x': a gap"),
        (["--csv", "{folder}/few.csv", "--steps", "9"], "column 'x': to forecast 9 steps takes at least 72 values"),
        (["--csv", "{folder}/few.csv", "--column", "y"], "no column 'y'"),
        (["--top_p", "0"], "--top_p"),
        (["--top_p", "1.5"], "--top_p"),
        (["--checkpoints", "{folder}"], "char_lm_lstm.pth: no such file"),
        (["--sentence", "fine", "--checkpoints", "{folder}"], "sentiment.pth: no such file"),
    ],
)
def test_a_mistake_is_named(arguments, message, tmp_path):
    (tmp_path / "short.wav").write_bytes(wav_bytes(b"\0" * 1000, 1, 8000, 16)[:-500])
    (tmp_path / "gap.csv").write_text("t,x\n1,2\n2,\n")
    (tmp_path / "few.csv").write_text("t,x\n" + "".join(f"{i},{i}\n" for i in range(20)))
    with pytest.raises(UserError, match=message):
        inference.main([*SMALL, *(a.format(folder=tmp_path) for a in arguments)])


def test_a_table_is_continued(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("day,sold\n" + "".join(f"{i},{10 + i % 7}\n" for i in range(140)))
    inference.main([*SMALL, "--csv", str(tmp_path / "a.csv"), "--steps", "7"])
    lines = capsys.readouterr().out.splitlines()
    values = [float(line.split()[1]) for line in lines[-7:]]
    assert values == pytest.approx([10 + i % 7 for i in range(140, 147)], abs=0.2)


def test_sentences_are_weighed_one_by_one(capsys):
    inference.main([*SMALL, "--sentence", "a joy", "", "!!!"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("% positive" in line for line in lines)
