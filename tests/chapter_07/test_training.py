"""Training: tasks whose answers are known, resumed runs equal to whole ones, and what the files hold.
训练：答案已知的任务、恢复后与未中断一致的训练，以及写出的文件。
"""

import json

import pytest
import torch

from chapter_07_attention_mechanism import train as script
from chapter_07_attention_mechanism.dataset.toy_pairs import toy_pairs
from chapter_07_attention_mechanism.tasks.dates import Dates
from chapter_07_attention_mechanism.tasks.translate import Translate, load_pairs, translate

CONFIG = {"embedding": 8, "hidden": 8, "attention": "additive", "copy": False, "dropout": 0.0}
CPU = torch.device("cpu")


def test_a_resumed_training_equals_a_whole_one(tmp_path):
    flags = ["--dry_run", "--task", "translate", "--device", "cpu", "--out_dir"]
    script.main([*flags, str(tmp_path / "whole")])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(script, "save_state", interrupt_after(1, script.save_state))
        script.main([*flags, str(tmp_path / "parts")])
    script.main([*flags, str(tmp_path / "parts"), "--resume"])
    whole, parts = (torch.load(tmp_path / name / "translate_additive.pth") for name in ("whole", "parts"))
    assert whole["weights"].keys() == parts["weights"].keys()
    assert all(torch.equal(whole["weights"][name], parts["weights"][name]) for name in whole["weights"])


def interrupt_after(count, save):
    calls = []

    def interrupted(*args):
        save(*args)
        calls.append(args)
        if len(calls) == count:
            raise KeyboardInterrupt

    return interrupted


def test_results_hold_what_is_reported(tmp_path):
    script.main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path)])
    final = json.loads((tmp_path / "dates_additive.json").read_text())["final"]
    assert {"exact_match", "held_out_format", "alignment_accuracy", "test_count", "train_seconds"} <= final.keys()


def test_toy_pairs_are_german_and_english():
    pairs = toy_pairs(500)
    assert ("Ein Hund sieht heute eine Katze.", "A dog sees a cat today.") in toy_pairs(20000)
    assert all(a[0].isupper() and a.endswith(".") and len(a.split()) >= 6 for a, _ in pairs)
    train, validation, test = load_pairs("toy", None)
    assert not set(train) & set(validation) and not set(train) & set(test) and len(test) > 50


def test_batches_say_what_their_examples_say():
    task = Translate("toy", None, 100, CONFIG, 200, CPU)
    (source, lengths, given), wanted = task.batch()
    assert given[:, 1:].eq(wanted[:, :-1]).all() and source.shape[0] == len(lengths) == len(wanted)
    assert source.numel() <= 200 and lengths.max() == source.shape[1]
    dates = Dates(CONFIG, 5, CPU, test_count=10)
    (source, lengths, given), wanted = dates.batch()
    assert wanted.shape == (5, 11) and given[:, 0].eq(2).all()


def test_nothing_translates_to_nothing():
    task = Translate("toy", None, 100, CONFIG, 200, CPU)
    assert translate(task.build(), task.vocabulary, ["", "   "], CPU) == ["", ""]
