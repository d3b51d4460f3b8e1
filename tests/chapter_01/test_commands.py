"""A training on built-in data that the chapter's READMEs print ends well above chance.
README 中用自带数据的训练命令，结果远好于随机猜测。
"""

import json

import pytest

from chapter_01_tensor_autograd import train
from tests.test_scripts import printed_commands

TRAININGS = sorted(words for name, words in printed_commands() if name == "chapter_01_tensor_autograd/train.py")


def test_commands_are_found():
    assert ("--dataset", "spirals") in TRAININGS and len(TRAININGS) >= 3


@pytest.mark.parametrize("words", [words for words in TRAININGS if {"spirals", "two_moons"} & set(words)], ids=" ".join)
def test_a_printed_training_on_built_in_data_ends_well_above_chance(words, tmp_path):
    train.main([*words, "--out_dir", str(tmp_path)])
    (results,) = tmp_path.glob("train_*.json")
    assert json.loads(results.read_text(encoding="utf-8"))["final"]["test_accuracy"] > 0.97  # chance: 1/3 and 1/2
