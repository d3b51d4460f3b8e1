"""The experiments on scaling can be resumed, foretell before they measure, and give every arm the same budget.
规模实验能从中断处继续，先预测后测量，并让每个实验组花费同样多的运算。
"""

import json

import pytest
import torch

from chapter_10_llm_modern_components import ablation, scaling_laws
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.pretraining.small_training import Trainings
from chapter_10_llm_modern_components.scaling import muon_operations, training_operations

QUICK = ["--dry_run", "--device", "cpu"]


def final(path):
    return json.loads(path.read_text(encoding="utf-8"))["final"]


@pytest.mark.parametrize("script,name", [(scaling_laws, "scaling_laws"), (ablation, "ablation")])
def test_rates_are_chosen_on_validation_and_what_is_finished_is_resumed(script, name, tmp_path, monkeypatch):
    """With as many rates for each arm, and on documents that are not reported on; resumed without a training."""
    script.main([*QUICK, "--out_dir", str(tmp_path)])
    first = final(tmp_path / f"{name}.json")
    rows = torch.load(tmp_path / f"{name}_state.pth", weights_only=True)["history"]
    splits = {row["setting"]["seed"] >= script.TUNING_SEED: row["setting"]["split"] for row in rows}
    assert splits == {True: "validation", False: "held_out"}
    tried = [len(value) for key, value in first.items() if key.endswith("_tuning") and key != "lr_tuning"]
    assert len(tried) > 2 and len(set(tried)) == 1
    monkeypatch.setattr(Trainings, "run", lambda self, missing: iter(missing))  # a training would be no pair
    monkeypatch.setattr(Trainings, "timed", None)
    script.main([*QUICK, "--out_dir", str(tmp_path), "--resume"])
    assert final(tmp_path / f"{name}.json") == first


def test_the_forecast_is_on_disk_before_the_training_that_checks_it(tmp_path, monkeypatch):
    run, seen = Trainings.run, []

    def note(self, settings):
        seen.append((tmp_path / "prediction.json").exists())
        return run(self, settings)

    monkeypatch.setattr(Trainings, "run", note)
    scaling_laws.main([*QUICK, "--out_dir", str(tmp_path)])
    assert seen == [False] * (len(seen) - 1) + [True]
    wanted, found = json.loads((tmp_path / "prediction.json").read_text()), final(tmp_path / "scaling_laws.json")
    assert found["predicted_loss"] == wanted["loss"]
    assert found["prediction_error"] == pytest.approx(abs(wanted["loss"] / found["measured_loss"] - 1))


def test_the_chain_adds_one_part_at_a_time_and_ends_at_ours():
    arms = ablation.arms(ablation.parse(["--device", "cpu"]))
    configs = list(arms.values())
    changes = [{k for k in a if a[k] != b[k]} - {"d_ff"} for a, b in zip(configs, configs[1:], strict=False)]
    assert changes[:-2] == [{"norm"}, {"positions"}, {"activation"}, {"n_kv_heads"}, {"qk_norm"}, {"bias"}]
    assert changes[-2:] == [{"tied"}, {"tied"}] and configs[-1] == arms[ablation.OURS]
    sizes = {arm: sum(p.numel() for p in LanguageModel(ModelConfig(**arms[arm])).parameters()) for arm in arms}
    assert sizes["swiglu"] == pytest.approx(sizes["rope"], rel=0.01)  # an exchange of equal size


def test_every_arm_costs_the_budget():
    args = ablation.parse(["--device", "cpu"])
    for arm, config in ablation.arms(args).items():
        setting = ablation.setting(arm, 1e-3, args.budget, 0, args)
        model, steps = LanguageModel(ModelConfig(**config)), setting.n_tokens / (args.batch_size * args.length)
        cost = setting.n_tokens * training_operations(model, args.length)
        cost += steps * muon_operations(model) if arm == "muon" else 0
        assert cost == pytest.approx(args.budget, rel=1e-3) and steps == round(steps)
