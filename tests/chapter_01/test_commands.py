"""Every command with flags that the chapter's READMEs print runs small, and a printed training ends well above chance.
本章 README 中带参数的每条命令都能小规模跑完；其中的训练命令，结果远好于随机猜测。
"""

import json
import re

import pytest

from chapter_01_tensor_autograd import train
from tests.conftest import ROOT, load_script
from tests.test_scripts import commands

CHAPTER = ROOT / "chapter_01_tensor_autograd"
SHORT = re.compile(r"`(\w+\.py) (--[^`]+)`")  # as in a table: `train.py --dataset spirals`


def printed():
    for readme in (ROOT / "README.md", *CHAPTER.glob("README*.md")):
        text = readme.read_text(encoding="utf-8")
        yield from ((name, *words) for name, words in commands(text) if name.startswith(CHAPTER.name))
        if readme.parent == CHAPTER:
            yield from ((f"{CHAPTER.name}/{name}", *flags.split()) for name, flags in SHORT.findall(text))


PRINTED = sorted({command for command in printed() if len(command) > 1})  # those without flags run in test_scripts.py
TRAININGS = sorted({words for name, *words in PRINTED if name.endswith("/train.py") for words in [tuple(words)]})


def test_commands_are_found():
    assert ("chapter_01_tensor_autograd/data_parallel_demo.py", "--processes", "4") in PRINTED
    assert ("--dataset", "spirals") in TRAININGS and len(TRAININGS) >= 3


@pytest.mark.parametrize("command", PRINTED, ids=" ".join)
def test_a_printed_command_runs_with_dry_run_appended(command, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a dry run downloads nothing")

    monkeypatch.setattr("utils.file_io_util.urlopen", refuse)
    monkeypatch.setenv("DLFS_DATA", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    name, *words = command
    load_script(ROOT / name).main([*words, "--dry_run", "--out_dir", str(tmp_path / "out")])
    assert any((tmp_path / "out").iterdir())


@pytest.mark.parametrize("words", [words for words in TRAININGS if {"spirals", "two_moons"} & set(words)], ids=" ".join)
def test_a_printed_training_on_built_in_data_ends_well_above_chance(words, tmp_path):
    train.main([*words, "--out_dir", str(tmp_path)])
    (results,) = tmp_path.glob("train_*.json")
    assert json.loads(results.read_text(encoding="utf-8"))["final"]["test_accuracy"] > 0.97  # chance: 1/3 and 1/2
