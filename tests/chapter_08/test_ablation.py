"""The ablation changes one thing at a time, under equal conditions, and an interrupted one loses nothing.
消融实验每次只改一处、条件相同；中断之后不丢失已完成的训练。
"""

import json

import pytest
import torch

from chapter_08_transformer_vanilla import ablation as script
from chapter_08_transformer_vanilla.figures.ablation import LABELS, draw_arms
from chapter_08_transformer_vanilla.tasks.translate import Translate

QUICK = ["--dry_run", "--device", "cpu", "--muon_lr", "0.01", "--adamw_lr", "0.002"]  # one rate each: no trials


def read(folder):
    return json.loads((folder / "ablation.json").read_text(encoding="utf-8"))


def without_times(results):
    rows = [{k: v for k, v in row.items() if k != "train_seconds"} for row in results["per_seed"]]
    return rows, {k: v for k, v in results["final"].items() if "seconds" not in k}


def test_each_arm_changes_one_thing():
    def changed(arm, other):
        return [a for a, b, c in zip(script.Recipe._fields, arm, other, strict=True) if b != c]

    arms = dict(script.ARMS)
    assert changed(arms.pop("post_norm_no_warmup"), arms["post_norm"]) == ["warmup"]
    base, found = arms.pop("base"), []
    for arm in arms.values():
        assert len(changed(arm, base)) == 1
        found += changed(arm, base)
    assert set(found) == set(script.Recipe._fields), "what a recipe has is taken away, or changed, in some arm"
    assert list(LABELS) == list(script.ARMS)


def test_all_arms_of_a_seed_see_the_same_batches(tmp_path, monkeypatch):
    """Although a model with dropout draws random numbers between them, and each arm has another model."""
    seen, batch = [], Translate.batch

    def recorded(task):
        seen.append(batch(task))
        return seen[-1]

    monkeypatch.setattr(Translate, "batch", recorded)
    arms = ["base", "layers_1", "no_positions"]
    script.main([*QUICK, "--runs", "1", "--dropout", "0.3", "--arms", *arms, "--out_dir", str(tmp_path)])
    sources = [inputs[0] for inputs, _ in seen]
    assert len(sources) == 6 and not torch.equal(sources[0], sources[1])
    assert all(torch.equal(sources[i], sources[i % 2]) for i in range(6))


def test_a_resumed_ablation_equals_a_whole_one(tmp_path, monkeypatch):
    """One that was interrupted in its third training begins that one anew, and no other."""
    flags = [*QUICK, "--arms", "post_norm", "no_average", "--out_dir"]
    script.main([*flags, str(tmp_path / "whole")])
    train, calls = script.Trainings.train, []

    def counted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*args)

    monkeypatch.setattr(script.Trainings, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        script.main([*flags, str(tmp_path / "parts")])
    script.main([*flags, str(tmp_path / "parts"), "--resume"])
    assert len(calls) == 5, "two arms of two seeds, and the interrupted one again; no_average costs no training"
    assert without_times(read(tmp_path / "parts")) == without_times(read(tmp_path / "whole"))


def test_rates_are_tried_equally_often_and_the_average_costs_no_training(tmp_path):
    script.main(["--dry_run", "--device", "cpu", "--runs", "1", "--out_dir", str(tmp_path)])
    results = read(tmp_path)
    final, rows = results["final"], {row["arm"]: row for row in results["per_seed"]}
    trials = {name: [rate for rate, _ in final[f"{name}_tuning"]] for name in ("muon", "adamw")}
    assert len(trials["muon"]) == len(trials["adamw"]) >= 2
    assert all(final[f"{name}_lr"] in rates for name, rates in trials.items())
    assert final["trainings"] == len(trials["muon"]) + len(trials["adamw"]) + 3  # base, post_norm, adamw
    assert rows["no_average"]["loss"] == rows["base"]["last_loss"] != rows["base"]["loss"]
    assert rows["adamw"]["lr"] == final["adamw_lr"] and final["base_bleu_gain"] == 0


def test_gains_are_between_trainings_of_one_seed():
    def row(arm, seed, bleu, loss):
        return {"arm": arm, "seed": seed, "bleu": bleu, "loss": loss, "train_seconds": 1.0, "n_parameters": 5}

    rows = [row("base", 0, 10.0, 3.0), row("post_norm", 0, 12.0, 2.5), row("base", 1, 20.0, 2.0)]
    rows.append(row("post_norm", 1, 18.0, 2.25))
    final = script.summarise(rows)
    assert (final["post_norm_bleu_gain"], final["post_norm_loss_gain"]) == (0.0, -0.125)
    assert final["post_norm_bleu_gain_std"] == pytest.approx(8**0.5) and final["base_bleu"] == 15.0
    bleu, loss = draw_arms(rows).axes
    assert [text.get_text() for text in bleu.get_yticklabels()] == ["base", "post-norm"]
    for axes, name in ((bleu, "bleu"), (loss, "loss")):
        dots = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"]
        assert dots == [[row[name] for row in rows if row["arm"] == arm] for arm in ("base", "post_norm")]
