"""Shipped models beat what needs no learning by a wide margin, and are as good as the results files say.
随附的模型远胜过不需要学习的基线，并与结果文件所写的一致。
"""

import json

import pytest
import torch

from chapter_07_attention_mechanism import models
from chapter_07_attention_mechanism.tasks.caption import Caption
from chapter_07_attention_mechanism.tasks.dates import Dates
from chapter_07_attention_mechanism.tasks.sort import Sort
from tests.conftest import ROOT

CHAPTER = ROOT / "chapter_07_attention_mechanism"
CPU = torch.device("cpu")
MARGINS = {  # a figure, what it must beat, and by how much
    "dates": ("exact_match", "exact_match_baseline", 0.1),
    "caption": ("exact_match", "exact_match_baseline", 0.5),
    "sort": ("exact_match", "exact_match_baseline", 0.5),
    "translate": ("bleu", "bleu_dictionary", 5.0),
}
SHIPPED = [task for task in MARGINS if (CHAPTER / "checkpoints" / f"{task}.pth").exists()]


def measured_again(task, model):
    """Evaluate on a part of the test set; translation would need its data set."""
    config = dict(vars(model.config))
    config.pop("vocabulary")
    if task == "sort":
        again = Sort({"width": config["width"], "hidden": config["hidden"]}, 1, CPU, test_count=110)
    else:
        again = {"dates": Dates, "caption": Caption}[task](config, 1, CPU, test_count=200)
    return again.evaluate(model)


@pytest.mark.parametrize("task", SHIPPED)
def test_a_shipped_model_beats_its_baseline(task):
    final = json.loads((CHAPTER / "results" / f"{task}.json").read_text(encoding="utf-8"))["final"]
    name, baseline, margin = MARGINS[task]
    assert final[name] > final[baseline] + margin
    model, _ = models.load(task, CHAPTER / "checkpoints" / f"{task}.pth", CPU)
    if task != "translate":
        found = measured_again(task, model)
        assert found[name] > final[baseline] + margin and found[name] == pytest.approx(final[name], abs=0.03)
