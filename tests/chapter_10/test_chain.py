"""From raw text to a model that has been taught, judged, shrunk and asked: each script reads what the one before wrote.
从原始文本到对齐、压缩后的模型：每个脚本都读得懂前一个脚本写出的文件。
"""

import json

import pytest
import torch

from chapter_10_llm_modern_components import (
    adapt,
    biography,
    chat,
    distill,
    dpo,
    evaluate,
    grpo,
    ppo,
    pretrain,
    quantize,
    reward,
    sft,
    visualize_alignment,
)
from chapter_10_llm_modern_components.dialogue import encode_prompt, visible
from chapter_10_llm_modern_components.shipped import load_chat, load_reward_model

from matplotlib.colors import to_rgba

FAMILIES = "--families", "arithmetic", "composition"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folder of a whole story in small: every stage has read the files of those before it."""
    folder = tmp_path_factory.mktemp("story")
    base, tuned = folder / "toy.pth", folder / "sft.pth"

    def call(script, *flags):
        script.main(["--dry_run", "--device", "cpu", "--out_dir", str(folder), *map(str, flags)])

    call(pretrain, "--length", 350, "--n_layers", 2)
    call(sft, "--model_path", base, *FAMILIES)
    call(evaluate, "--model_path", tuned, "--reference", base, *FAMILIES)
    call(reward, "--model_path", tuned, *FAMILIES)
    call(dpo, "--model_path", tuned, *FAMILIES)
    call(grpo, "--model_path", tuned, *FAMILIES)
    call(adapt, "--model_path", tuned)
    call(ppo, "--model_path", base)
    call(quantize, "--model_path", tuned)
    call(distill, "--model_path", tuned, *FAMILIES)
    made = "--base", base, "--sft", tuned, "--dpo", folder / "dpo.pth", "--grpo", folder / "grpo.pth"
    call(biography, *made, "--student", folder / "taught.pth", "--stages", *biography.STAGES)
    return folder


def final(out, name):
    return json.loads((out / f"{name}.json").read_text(encoding="utf-8"))["final"]


def test_each_stage_leaves_its_results(out):
    wanted = {
        "sft": "exact_match exact_match_base exact_match_with_calculator calculator_called perplexity perplexity_before"
        " exact_match_unseen",
        "lora": "ratio_to_full ratio_to_full_4bit forgotten_full forgotten_lora forgotten_lora_4bit trained_share_lora",
        "grpo": "gain gain_std gain_sft exact_match_before best_of_n kl_to_reference length_before length"
        " train_seconds steps_sft",
        "dpo": "preferred_before preferred exact_match_lost exact_match_asked exact_match_asked_without_calculator",
        "ppo": "score_before gain_bounded praise_gain_bounded kl_bounded kl_free gain_free different_words_free"
        " reference_loss_free",
        "quantization": "cost_int8 cost_int4_4 bytes_int8 tokens_per_second_nf4_4",
        "distillation": "exact_match_taught exact_match_alone loss_taught loss_alone loss_teacher",
        "biography": "right_base right_sft right_dpo right_grpo right_int4 right_student",
        "reward": "pair_accuracy picked_by_the_judge",
    }
    for name, keys in wanted.items():
        found = final(out, name)
        missing = set(keys.split()) - found.keys()
        # a model that has learned nothing is never right, and then there is nothing to be a share of
        assert missing <= ({"ratio_to_full", "ratio_to_full_4bit"} if not found.get("exact_match_full") else set())
    rows = json.loads((out / "grpo.json").read_text(encoding="utf-8"))["per_seed"]
    assert [row["seed"] for row in rows] == [0, 1]


def test_what_a_stage_has_trained_is_used(out, capsys):
    """An adapter, a rounded base, a judge, a student: all of them are not the fine-tuned model any more."""
    plain = load_chat(out / "sft.pth", CPU)
    ids = torch.tensor([plain.tokenizer.encode("What is 2 plus 3?")])
    with torch.no_grad():
        logits = {"plain": plain.model(ids)}
        for name in ("dpo", "lora"):  # of GRPO nothing is sure: where no answer is right, nothing is learned
            logits[name] = load_chat(out / "sft.pth", CPU, out / f"{name}.pth").model(ids)
        logits["int4"] = load_chat(out / "sft.pth", CPU, None, "int4").model(ids)
        logits["on int4"] = load_chat(out / "sft.pth", CPU, out / "lora_4bit.pth", "int4").model(ids)
        logits["student"] = load_chat(out / "taught.pth", CPU).model(ids)
        judge = load_reward_model(out / "reward.pth", load_chat(out / "sft.pth", CPU).model)
        assert judge(ids, torch.tensor([ids.shape[1]])).item() != 0
    found = list(logits.values())
    assert not [(i, j) for i in range(len(found)) for j in range(i) if torch.equal(found[i], found[j])]
    flags = ["--device", "cpu", "--model_path", str(out / "sft.pth"), "--out_dir", str(out / "judged"), "--count", "2"]
    evaluate.main([*flags, *FAMILIES, "--judge", str(out / "reward.pth"), "--n", "2"])
    assert 0 <= final(out / "judged", "evaluate")["judge_of_n"] <= final(out / "judged", "evaluate")["best_of_n"]
    capsys.readouterr()
    chat.main([*flags[:4], "--adapter", str(out / "dpo.pth"), "--quantize", "nf4", "--prompt", "Hi", "--n_tokens", "2"])
    assert capsys.readouterr().out


def test_the_biography_is_what_the_stages_say(out):
    rows = json.loads((out / "biography.json").read_text(encoding="utf-8"))["history"]
    assert len(rows) == 10 and all(row.keys() == {"prompt", "right", *biography.STAGES, "student"} for row in rows)
    writer = load_chat(out / "sft.pth", CPU)
    ids = biography.prompt_ids(writer, "sft", rows[4]["prompt"], False)
    assert encode_prompt(writer.tokenizer, [biography.Message("user", rows[4]["prompt"])]) == ids
    assert [biography.ask(writer, ids, 8, 0.7, 4, False) for _ in range(2)] == [rows[4]["sft"]] * 2
    row = {"prompt": "2 + 3?", "right": "5", "base": "4", "sft": "<|call|>2+3<|result|>5", "grpo": "2 + 3 is\n5"}
    axes = biography.side_by_side([row]).axes[0]
    filled = [box.get_facecolor() != to_rgba("none") for box in axes.patches]
    assert filled == [False, False, True, True] and visible(row["sft"]) == "5"
    assert {"2 + 3?\n→ 5", "[2+3] 5", "2 + 3 is\n5"} <= {text.get_text() for text in axes.texts}


def test_a_long_reply_is_cut_off():
    """Ten rows of whole replies would be a picture too large to ship."""
    row = {"prompt": "and so on " * 30, "right": "", "base": "once upon a time " * 20}
    _, _, prompt, base = (text.get_text().splitlines() for text in biography.side_by_side([row]).axes[0].texts)
    assert (len(prompt), len(base)) == (5, 4) and base[-1].endswith("…")


def test_curves_are_told_apart_by_seed_and_arm(out):
    assert list(visualize_alignment.read_histories([out / "ppo.json"])) == ["ppo, arm bounded", "ppo, arm free"]
    assert list(visualize_alignment.read_histories([out / "grpo.json"])) == ["grpo, seed 0", "grpo, seed 1"]
