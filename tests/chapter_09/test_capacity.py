"""What a memory holds: the experiment's parts join to the whole, and a memory that suffices does recall.
记忆能装下什么：分开运行的两部分合并后与整体一致；足够大的记忆确实能回忆。
"""

import json

import pytest
import torch
from tqdm import tqdm

from chapter_09_efficient_attention import capacity, visualize
from chapter_09_efficient_attention.capacity_tasks import IGNORED, guessed_recall
from utils.errors import UserError

TINY = ["--dry_run", "--device", "cpu", "--mechanisms", "local", "hybrid"]


def test_the_most_frequent_value_is_a_guess():
    targets = torch.tensor([[IGNORED, 3, 5, 3, 3], [IGNORED, 1, 2, 4, 5]])
    assert guessed_recall(targets) == (3 + 1) / 8


def test_parts_join_to_the_whole(tmp_path, monkeypatch, capsys):
    def final(folder):
        found = json.loads((folder / "capacity.json").read_text())["final"]
        return {name: value for name, value in found.items() if "seconds" not in name}

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    capacity.main([*TINY, "--out_dir", str(whole)])
    for part in ("parity", "recall"):
        capacity.main([*TINY, "--out_dir", str(parts), "--part", part])
        assert not (parts / "capacity.json").exists()
    monkeypatch.setattr(capacity.Trainings, "train", None)  # nothing is left to be trained
    capacity.main([*TINY, "--out_dir", str(parts), "--resume"])
    assert final(parts) == final(whole)

    kept = final(whole)
    assert kept["recall_hybrid_2_heads_3_bytes"] - kept["recall_hybrid_2_heads_2_bytes"] == 4 * 2 * 2 * 32  # a layer's
    with pytest.raises(UserError, match="recall_state.pth.*--recall_steps 2"):
        capacity.main([*TINY, "--out_dir", str(parts), "--recall_steps", "3", "--resume"])
    args = capacity.parse([*TINY, "--out_dir", str(parts), "--recall_steps", "3", "--resume"])
    assert capacity.Trainings("parity", args, tqdm(disable=True)).rows  # which the other task's flags do not touch
    capsys.readouterr()
    arguments = ["--parts", "capacity", "quality", "--results_dir", str(whole), "--out_dir", str(tmp_path / "drawn")]
    visualize.main(arguments)
    shown = capsys.readouterr().out
    assert (tmp_path / "drawn" / "capacity.png").exists() and "quality.json is not there: chapter_09" in shown


def test_flags_that_do_not_fit_are_named(complaint, tmp_path):
    to = [*TINY, "--out_dir", tmp_path]
    assert "multiple of 16" in complaint(capacity.main, *to, "--d_model", "24", "--parity_heads", "8")
    assert "--long 8: " in complaint(capacity.main, *to, "--bits", "4", "8")
    assert "--n_keys 4: 5 pairs" in complaint(capacity.main, *to, "--pairs", "5")
    assert "holds no state" in complaint(capacity.main, *to, "--resume")
    for text in ("{}", '{"final": {}}', '{"final": 1}', "[]", "{"):
        (tmp_path / "capacity.json").write_text(text)
        unreadable = complaint(visualize.main, "--parts", "capacity", "--results_dir", tmp_path, "--out_dir", tmp_path)
        assert "capacity.json cannot be read" in unreadable, text


@pytest.mark.parametrize("mechanism", ["mha", "signed_delta"])
def test_a_memory_that_suffices_recalls(mechanism, tmp_path):
    arguments = ["--pairs", "2", "3", "--n_keys", "4", "--n_values", "4", "--recall_tokens", "288", "--d_model", "32"]
    args = capacity.parse([*arguments, "--device", "cpu", "--out_dir", str(tmp_path), "--test_size", "100"])
    trainings = capacity.Trainings("recall", args, tqdm(disable=True))
    row = trainings(capacity.Setting(mechanism, 2, 2e-2, 0, 100))
    assert row["accuracy"]["3"] > 0.8  # by chance 0.25, with the most frequent value about 0.5
