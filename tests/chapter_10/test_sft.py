"""Fine-tuning: a tiny model learns a few answers, a resumed run is the same run, and an adapter leaves its base alone.
微调：小模型能学会几个回答，恢复训练与不中断完全一致，适配器不改动底座。
"""

import json

import pytest
import torch
from torch.nn import functional as F

from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_10_llm_modern_components import adapt
from chapter_10_llm_modern_components import sft as script
from chapter_10_llm_modern_components.alignment import RewardModel
from chapter_10_llm_modern_components.answers import Reply, answer, grading, try_out
from chapter_10_llm_modern_components.answers.grading import (
    GREEDY,
    answer_examples,
    calibration,
    confidences,
    exact_match,
    has_called,
    kl_to_reference,
    question_prompts,
    rewards_of_texts,
    several_answers,
)
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.dialogue import CHAT_TOKENS, as_chat, draw_chats, encode_chat, encode_prompt
from chapter_10_llm_modern_components.generation import Sampler
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.packing import pack
from chapter_10_llm_modern_components.shipped import load_chat
from chapter_10_llm_modern_components.tasks import example_set
from utils.checkpoint import save_state
from utils.errors import UserError


def trained_on(examples, calculator, steps):
    torch.manual_seed(0)
    tokenizer = ByteTokenizer([], CHAT_TOKENS)
    model = LanguageModel(ModelConfig(len(tokenizer), d_model=48, n_layers=2, n_heads=4, d_ff=96, max_length=300))
    packed = pack([encode_chat(tokenizer, as_chat(example, calculator)) for example in examples], 300)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        logits = model(packed.ids, texts=packed.texts)
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), packed.targets.flatten(), ignore_index=IGNORED).backward()
        optimizer.step()
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def learned():
    """A model that has learned six answers by heart, three of them with a call."""
    examples = example_set(["arithmetic", "shorten"], "train", 3)
    return examples, *trained_on(examples, calculator=True, steps=80)


def test_a_tiny_model_learns_answers_by_heart(learned):
    examples, model, tokenizer = learned
    assert exact_match(model, tokenizer, examples, calculator=True) == {"arithmetic": 1.0, "shorten": 1.0}
    replies, _ = answer_examples(model, tokenizer, examples, calculator=True)
    called = [reply for reply in replies if tokenizer.special["<|call|>"] in reply.tokens.ids]
    assert len(called) == 3
    for reply, example in zip(called, examples, strict=False):
        assert reply.tokens == encode_chat(tokenizer, as_chat(example, calculator=True))  # also what was learned


def test_side_by_side_is_one_by_one(learned):
    examples, model, tokenizer = learned
    prompts = question_prompts(tokenizer, examples, calculator=True)
    together = answer(model, tokenizer, prompts, GREEDY, calculator=True)
    assert together == [answer(model, tokenizer, [prompt], GREEDY, calculator=True)[0] for prompt in prompts]


def test_where_there_is_no_calculator_a_call_brings_nothing(learned):
    """This model always calls: with a calculator it is right, without one it reads "error" where the sum would be."""
    examples, model, tokenizer = learned
    prompts = question_prompts(tokenizer, examples[:3], calculator=True)
    replies = answer(model, tokenizer, prompts, GREEDY)
    assert all(has_called(tokenizer, reply) and reply.text.startswith("error") for reply in replies)
    with_one = answer(model, tokenizer, prompts, GREEDY, calculator=True)
    assert [reply.text for reply in with_one] == [example.answer for example in examples[:3]]
    tried = try_out(model, tokenizer, examples[:3], 2, 40, Sampler(0), torch.Generator(), calculator=True)
    assert [reply.text for reply in tried[::2]] == [example.answer for example in examples[:3]]


def test_several_answers_at_temperature_zero_are_the_greedy_one(learned):
    examples, model, tokenizer = learned
    found = several_answers(model, tokenizer, examples, 2, Sampler(0))
    assert len(set(found.values())) == 1
    assert found["one_of_n"] == sum(exact_match(model, tokenizer, examples).values()) / 2


def test_a_judge_picks_one_of_several(learned, monkeypatch):
    examples, model, tokenizer = learned
    judge = RewardModel(model)
    torch.nn.init.normal_(judge.head.weight)
    texts = [encode_chat(tokenizer, as_chat(example)) for example in examples]
    assert rewards_of_texts(judge, texts) == pytest.approx([rewards_of_texts(judge, [text])[0] for text in texts])
    said = [Reply(text, texts[0]) for example in examples for text in ("?", example.answer)]
    monkeypatch.setattr(grading, "answer", lambda *arguments: said)
    for rewards, wanted in (([0.0, 1.0], 1), ([1.0, 0.0], 0)):
        monkeypatch.setattr(grading, "rewards_of_texts", lambda *arguments, rewards=rewards: rewards * len(examples))
        found = several_answers(model, tokenizer, examples, 2, Sampler(), judge=judge)
        assert found == {"best_of_n": 1, "majority_of_n": 0, "one_of_n": 0.5, "judge_of_n": wanted}


@torch.no_grad()
def test_confidence_and_kl_are_the_probabilities(learned):
    examples, model, tokenizer = learned
    prompts = question_prompts(tokenizer, examples[:4], calculator=True)
    replies = answer(model, tokenizer, prompts, GREEDY, calculator=True)
    for reply, found in zip(replies, confidences(model, replies), strict=True):
        logps = model(torch.tensor([reply.tokens.ids]))[0, :-1].log_softmax(-1)
        pairs = zip(reply.tokens.ids[1:], reply.tokens.learned[1:], strict=True)
        wanted = sum(logps[t, token].item() for t, (token, chosen) in enumerate(pairs) if chosen)
        assert found == pytest.approx(torch.tensor(wanted).exp().item(), rel=1e-4) and found > 0.5
    assert kl_to_reference(model, model, replies) == 0
    torch.manual_seed(1)
    other = LanguageModel(model.config).eval()
    total = count = 0
    for reply in replies:
        ids, chosen = torch.tensor([reply.tokens.ids]), torch.tensor(reply.tokens.learned[1:])
        p, q = (m(ids)[0, :-1].log_softmax(-1)[chosen] for m in (model, other))
        total, count = total + F.kl_div(q, p, reduction="sum", log_target=True).item(), count + len(p)
    assert kl_to_reference(model, other, replies) == pytest.approx(total / count, rel=1e-4)


def test_calibration_is_the_distance_between_saying_and_being_right():
    error, rows = calibration([0.85, 0.85, 0.15, 1.0], [True, False, False, True])
    assert error == pytest.approx((0.35 * 2 + 0.15 + 0) / 4)
    assert [row["count"] for row in rows] == [1, 2, 1]
    assert calibration([1.0] * 5, [True] * 5)[0] == 0


FLAGS = ["--dry_run", "--device", "cpu", "--families", "shorten", "membership"]


def weights_of(folder, name="sft.pth"):
    return torch.load(folder / name, weights_only=True)["weights"]


def test_resumed_is_uninterrupted(tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    script.main([*FLAGS, "--out_dir", str(whole)])

    def save_and_stop(*arguments):
        save_state(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(script, "save_state", save_and_stop)
        script.main([*FLAGS, "--out_dir", str(parts)])
    script.main([*FLAGS, "--out_dir", str(parts), "--resume"])
    first, second = weights_of(whole), weights_of(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)
    final = json.loads((whole / "sft.json").read_text())["final"]
    wanted = {"exact_match", "exact_match_base", "exact_match_majority", "bits_per_byte", "bits_per_byte_before"}
    assert wanted <= final.keys() and final["by_family"].keys() == {"shorten", "membership"}


def test_what_is_answered_wrong_is_drawn_more_often():
    history = [{"validation_shorten": 0.75, "validation_membership": 0.0, "seconds": 1.0}]
    assert script.shares_of(["shorten", "membership"], history, 4.0) == [2, 5]
    assert script.shares_of(["shorten", "membership"], [], 4.0) == [5, 5]
    tokenizer, generator = ByteTokenizer([], CHAT_TOKENS), torch.Generator().manual_seed(0)
    chats = draw_chats(tokenizer, ["shorten", "membership"], 60, 200, generator, shares=[0.0, 1.0])
    endings = chats.ids[(chats.targets == tokenizer.special["<|end|>"])]
    assert {chr(i) for i in endings.tolist()} == {"s", "o"}  # yes, no


def test_an_adapter_leaves_its_base_alone(tmp_path, complaint):
    script.main([*FLAGS, "--out_dir", str(tmp_path)])
    base = tmp_path / "sft.pth"
    flags = ["--dry_run", "--device", "cpu", "--model_path", str(base), "--lr", "0.1", "--trial_steps", "0"]
    adapt.main([*flags, "--arms", "lora", "--out_dir", str(tmp_path)])
    assert json.loads((tmp_path / "lora.json").read_text())["final"]["trained_share_lora"] < 0.5
    plain, adapted = (load_chat(base, torch.device("cpu"), path) for path in (None, tmp_path / "lora.pth"))
    ids = torch.tensor([encode_prompt(plain.tokenizer, as_chat(example_set(["shorten"], "test", 1)[0])[:1])])
    first, second = plain.model(ids), adapted.model(ids)
    assert (first - second).abs().max() > 1e-6
    assert torch.equal(plain.model.embedding.weight, adapted.model.embedding.weight)
    assert {name.rpartition(".")[2] for name in weights_of(tmp_path, "lora.pth")} == {"a", "b"}
    assert "--length 9999" in complaint(script.main, *FLAGS, "--length", 9999)
    assert "--rank 1000" in complaint(adapt.main, *flags, "--rank", 1000)


def test_each_way_has_as_many_trials_of_its_rate(tmp_path, monkeypatch):
    """And a trial that diverges is the worst, but not the end."""
    calls = []

    def train(args, writer, lr, n_steps, path):
        calls.append((sum(p.requires_grad for p in writer.model.parameters()), lr, n_steps))
        if lr > 0.01:
            raise UserError("loss became nan")
        return [{"step": 1, "loss": 1.0}], 1.0

    monkeypatch.setattr(adapt, "train", train)
    monkeypatch.setattr(adapt, "score", lambda *arguments: calls[-1][1] if calls else 0.0)
    adapt.main(["--dry_run", "--device", "cpu", "--out_dir", str(tmp_path)])
    final = json.loads((tmp_path / "lora.json").read_text())["final"]
    assert {len(scores) for scores in final["trials"].values()} == {5}
    assert final["lr_full"] == final["lr_lora"] == 0.008 and final["trials"]["lora"]["0.016"] is None
    assert [steps for _, _, steps in calls[-3:]] == [4, 4, 4] and len({n for n, _, _ in calls}) == 2
