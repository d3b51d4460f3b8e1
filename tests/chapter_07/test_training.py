"""Training: tasks whose answers are known, resumed runs equal to whole ones, and what the files hold.
训练：答案已知的任务、恢复后与未中断一致的训练，以及写出的文件。
"""

import json

import pytest
import torch

from chapter_07_attention_mechanism import train as script
from chapter_07_attention_mechanism.dataset.toy_pairs import toy_pairs
from chapter_07_attention_mechanism.tasks.dates import Dates
from chapter_07_attention_mechanism.tasks.translate import (
    Translate,
    bleu_by_length,
    copy_unknown,
    load_pairs,
    translate,
)
from chapter_07_attention_mechanism.vocab import UNK_ID
from utils.errors import UserError

CONFIG = {"embedding": 8, "hidden": 8, "attention": "additive", "copy": False, "dropout": 0.0}
CPU = torch.device("cpu")


def test_a_resumed_training_equals_a_whole_one(tmp_path):
    flags = ["--dry_run", "--task", "translate", "--device", "cpu", "--out_dir"]
    script.main([*flags, str(tmp_path / "whole")])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(script, "save_state", interrupt_after(1, script.save_state))
        script.main([*flags, str(tmp_path / "parts")])
    script.main([*flags, str(tmp_path / "parts"), "--resume"])
    whole, parts = (torch.load(tmp_path / name / "translate.pth") for name in ("whole", "parts"))
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


def final_of(task, folder, *flags):
    script.main(["--dry_run", "--task", task, "--device", "cpu", "--out_dir", str(folder), *flags])
    results = json.loads((folder / f"{task}.json").read_text())
    return results["final"], results


def test_results_hold_what_is_reported(tmp_path):
    final, results = final_of("dates", tmp_path)
    assert {"exact_match", "held_out_format", "alignment_accuracy", "test_count", "train_seconds"} <= final.keys()
    assert final["n_seeds"] == 2 == len(results["per_seed"]) and "exact_match_std" in final
    values = [row["alignment_accuracy"] for row in results["per_seed"]]
    assert final["alignment_accuracy"] == pytest.approx(sum(values) / 2) and final["exact_match_baseline"] > 0.2
    assert {row["seed"] for row in results["history"]} == {0, 1} and results["history"][0]["attention_entropy"] > 0
    assert torch.load(tmp_path / "dates.pth")["about"]["task"] == "dates"


def test_translation_is_measured_with_and_without_attention(tmp_path):
    final, _ = final_of("translate", tmp_path, "--runs", "1", "--hidden", "64")
    assert {"bleu", "bleu_without_attention", "bleu_copied", "by_length", "by_length_without_attention"} <= final.keys()
    assert final["signature"] == final["signature_without_attention"] == "nrefs:1|case:lc|eff:no|tok:13a|smooth:exp"
    assert sum(row["count"] for row in final["by_length"]) == final["test_count"]
    assert final["parameters_without_attention"] == pytest.approx(final["parameters"], rel=0.05)
    assert (tmp_path / "translate.pth").exists() and (tmp_path / "translate_none.pth").exists()


def test_scores_are_compared_at_equal_budgets(tmp_path):
    final, results = final_of("caption", tmp_path, "--attention", "additive", "luong", "--runs", "1")
    assert {"exact_match", "exact_match_luong", "pointing_accuracy_luong"} <= final.keys()
    steps = [(row["attention"], row["step"]) for row in results["history"]]
    assert steps == [("additive", 2), ("additive", 4), ("luong", 2), ("luong", 4)]


def test_sorting_with_and_without_a_shift_can_stand_side_by_side(tmp_path):
    for flags, name in ([], "sort"), (["--shift", "0"], "sort_unshifted"):
        script.main(["--dry_run", "--task", "sort", "--device", "cpu", "--out_dir", str(tmp_path / name), *flags])
        assert {path.name for path in (tmp_path / name).iterdir()} >= {f"{name}.json", f"{name}.pth"}


@pytest.mark.parametrize(
    "flags,message",
    [
        ("--task sort --attention dot", "leave out --attention"),
        ("--task caption --copy", "leave out --copy"),
        ("--task caption --attention additive none", "leave none out"),
        ("--hidden 6", "--hidden 6 cannot be shared by four heads"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        script.main(["--dry_run", *flags.split()])


def test_unknown_words_are_copied_from_where_attention_lies():
    weights = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]])
    assert copy_unknown(["a", "<unk>"], ["x", "y"], weights) == ["a", "x"]
    task = Translate("toy", None, "words", 0, CONFIG, 200, CPU)
    model = task.build().eval()
    torch.nn.init.constant_(model.bias[UNK_ID : UNK_ID + 1], 1e3)  # it can write nothing else
    [answer] = translate(model, task.vocabulary, ["Zyzzyva"], CPU, beam=1)
    assert answer and set(answer.split()) == {"zyzzyva"}


def test_bleu_by_length_counts_every_sentence_once():
    pairs = [("w " * n, "a b c d e") for n in (1, 8, 9, 30)]
    rows = bleu_by_length(["a b c d e", "a b c d e", "x", "a b c d e"], pairs)
    assert [(r["words_from"], r["words_to"], r["count"]) for r in rows] == [(0, 8, 2), (9, 9, 1), (19, 30, 1)]
    assert [r["bleu"] for r in rows] == pytest.approx([100, 0, 100])


def test_toy_pairs_are_german_and_english():
    pairs = toy_pairs(500)
    assert ("Ein Hund sieht heute eine Katze.", "A dog sees a cat today.") in toy_pairs(20000)
    assert all(a[0].isupper() and a.endswith(".") and len(a.split()) >= 6 for a, _ in pairs)
    train, validation, test = load_pairs("toy", None)
    assert not set(train) & set(validation) and not set(train) & set(test) and len(test) > 50


def test_batches_say_what_their_examples_say():
    task = Translate("toy", None, "subwords", 100, CONFIG, 200, CPU)
    (source, lengths, given), wanted = task.batch()
    assert given[:, 1:].eq(wanted[:, :-1]).all() and source.shape[0] == len(lengths) == len(wanted)
    assert source.numel() <= 200 and lengths.max() == source.shape[1]
    dates = Dates(CONFIG, 5, CPU, test_count=10)
    (source, lengths, given), wanted = dates.batch()
    assert wanted.shape == (5, 11) and given[:, 0].eq(2).all()


def test_nothing_translates_to_nothing():
    task = Translate("toy", None, "subwords", 100, CONFIG, 200, CPU)
    assert translate(task.build(), task.vocabulary, ["", "   "], CPU) == ["", ""]
