"""Alignment as a whole: tries become rewards and pairs, killed and resumed equals uninterrupted, GRPO learns.
对齐流程整体：尝试变成奖励与偏好对；中断后恢复与不中断结果一致；GRPO 确实能学会。
"""

import json
import math

import pytest
import torch
from torch.nn import functional as F

from chapter_10_llm_modern_components import adapt, distill, dpo, grpo, ppo, reward, visualize_alignment
from chapter_10_llm_modern_components.alignment import (
    clipped_losses,
    group_advantages,
    kl_k3,
    log_probabilities,
    sum_of_tokens,
    token_logps,
)
from chapter_10_llm_modern_components.answers import Reply, rollouts
from chapter_10_llm_modern_components.answers.story_endings import beginnings, load_judge, write_endings
from chapter_10_llm_modern_components.dialogue import as_chat, encode_chat
from chapter_10_llm_modern_components.figures import rewards, tuning
from chapter_10_llm_modern_components.generation import Sampler
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.model_compression import nf4_levels
from chapter_10_llm_modern_components.packing import Text
from chapter_10_llm_modern_components.pretraining import bits_per_byte, mean_loss, perplexity
from chapter_10_llm_modern_components.shipped import untrained
from chapter_10_llm_modern_components.tasks import example_set
from utils.errors import UserError

from matplotlib.collections import LineCollection

CPU = torch.device("cpu")


@pytest.fixture
def writer():
    torch.manual_seed(0)
    return untrained(CPU)


def say(monkeypatch, texts):
    """Let the model reply with these texts, in turn."""

    def answer(model, tokenizer, prompts, sampler, generator, n_tokens, calculator):
        written = [tokenizer.encode(text) for text in texts]
        tokens = [Text(p + w, [False] * len(p) + [True] * len(w)) for p, w in zip(prompts, written, strict=True)]
        return [Reply(*pair) for pair in zip(texts, tokens, strict=True)]

    monkeypatch.setattr(rollouts, "answer", answer)


def test_right_replies_are_rewarded(writer, monkeypatch):
    examples = example_set(["arithmetic"], "train", 2)
    first, second = (example.answer for example in examples)
    say(monkeypatch, [first, "no", first + "!", "none", second, " " + second])
    batch = rollouts.roll_out(writer.model, writer.tokenizer, examples, 3, 9, Sampler(), torch.Generator())
    assert batch.rewards.tolist() == [[1, 0, 0], [0, 1, 1]]
    written = [[i for i, chosen in zip(*text, strict=True) if chosen] for text in batch.texts]
    assert [writer.tokenizer.decode(ids) for ids in written] == [first, "no", first + "!", "none", second, " " + second]


def test_pairs_are_a_right_reply_and_a_wrong_one(writer, monkeypatch):
    examples = example_set(["arithmetic"], "train", 3)
    a, b, c = (example.answer for example in examples)
    say(monkeypatch, ["?", a, "!", a, b, b, "x", "y", "z"])
    options = writer.model, writer.tokenizer, examples, 3, 9, Sampler(), torch.Generator()
    both, none = rollouts.find_pairs(*options)[::2]
    say_all = [writer.tokenizer.decode([i for i, own in zip(*text, strict=True) if own]) for text in both[:2]]
    assert say_all == [a, "?"] and both.own
    assert not none.own and none.chosen == encode_chat(writer.tokenizer, as_chat(examples[2]))


def test_calls_of_the_calculator_are_preferred(writer, monkeypatch):
    """With right answers to choose by, both replies would be good; here only the one that has asked is."""
    helped = example_set(["arithmetic"], "train", 1)
    assert dpo.asked("calls", helped + example_set(["reverse"], "train", 2)) == helped
    preferred, calculator = dpo.preference("calls", writer)
    called = encode_chat(writer.tokenizer, as_chat(helped[0], calculator))
    plain = encode_chat(writer.tokenizer, as_chat(helped[0], calculator, call=False))
    replies = [Reply(helped[0].answer, text) for text in (plain, called)]
    monkeypatch.setattr(rollouts, "answer", lambda *arguments: replies)
    options = writer.model, writer.tokenizer, helped, 2, 9, Sampler(), torch.Generator()
    assert rollouts.find_pairs(*options, preferred, calculator) == [rollouts.Pair(called, plain, True)]
    with pytest.raises(UserError, match="every reply was good"):
        rollouts.find_pairs(*options)
    with pytest.raises(UserError, match="in none of --families"):
        dpo.asked("calls", example_set(["reverse"], "train", 2))


def test_bits_a_byte_are_a_perplexity(writer):
    documents = ["the cat sat on the mat", "on the hill"]
    bits = bits_per_byte(writer.model, writer.tokenizer, documents, 8)
    end = writer.tokenizer.special["<|endoftext|>"]
    texts = [torch.tensor([end, *writer.tokenizer.encode(document)]) for document in documents]
    loss = mean_loss(writer.model, texts, 8)
    assert perplexity(bits, writer.tokenizer, documents) == pytest.approx(math.exp(loss), rel=1e-5)


@pytest.mark.parametrize("row", [4, 16])
def test_log_probabilities_of_packed_texts_are_those_of_each_alone(writer, monkeypatch, row):
    """Also where a tool's token lies between learned ones; in two rows, and in one."""
    monkeypatch.setattr(log_probabilities, "ROW", row)
    texts = [Text([1, 2, 3, 4], [False, True, False, True]), Text([5, 6], [False, True]), Text([7, 8, 9], [False] * 3)]
    first, second, _ = (token_logps(writer.model(x), x)[0] for x in (torch.tensor([text.ids]) for text in texts))
    wanted = torch.stack([first[[0, 2]], F.pad(second, (0, 1)), torch.zeros(2)])
    logps, mask, logits = log_probabilities.learned_logps(writer.model, texts)
    torch.testing.assert_close(logps, wanted)
    assert mask.tolist() == [[True, True], [True, False], [False, False]] and len(logits) == 3
    parameters = list(writer.model.parameters())
    ours, theirs = (torch.autograd.grad((x * x).sum(), parameters, retain_graph=True) for x in (logps, wanted))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    logps, lengths = rollouts.logps_of(writer.model, texts)
    torch.testing.assert_close(logps, wanted.sum(dim=1))
    assert lengths.tolist() == [2, 1, 0]


def test_endings_are_what_the_model_chose(writer):
    prompts = beginnings(writer.tokenizer, ["the cat sat on the mat\n\nthe dog", "on\nthe hill the king"], 4)
    assert [len(prompt) for prompt in prompts] == [4, 4, 4]
    ids, mask, endings = write_endings(writer, prompts, 5, Sampler(), torch.Generator().manual_seed(0))
    for row, chosen, prompt, ending in zip(ids, mask, prompts, endings, strict=True):
        assert row[:4].tolist() == prompt and writer.tokenizer.decode(row[1:][chosen].tolist()) == ending
    scores = load_judge(CPU).scores(["a warm and wonderful film .", "dull , stupid and boring ."])
    assert scores[0] > 1 and scores[1] < -1


def test_a_beginning_needs_a_paragraph_that_goes_on(complaint):
    assert "lower --n_prompt" in complaint(ppo.main, "--dry_run", "--n_prompt", 300)


SCRIPTS = {
    "grpo": (grpo, "grpo", "grpo_1"),
    "dpo": (dpo, "dpo", "dpo"),
    "reward": (reward, "reward", "reward"),
    "ppo": (ppo, "ppo", "ppo_free"),
    "distill": (distill, "distillation", "taught"),
    "adapt": (adapt, "lora", "lora_4bit"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_killed_and_resumed_equals_uninterrupted(name, tmp_path, monkeypatch):
    script, results, model = SCRIPTS[name]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    script.main(["--dry_run", "--out_dir", str(whole)])
    save = script.save_state

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(script, "save_state", save_and_stop)
        script.main(["--dry_run", "--out_dir", str(parts)])
    script.main(["--dry_run", "--out_dir", str(parts), "--resume"])
    weights = [torch.load(folder / f"{model}.pth", weights_only=True)["weights"] for folder in (whole, parts)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items())
    ours, theirs = (json.loads((folder / f"{results}.json").read_text(encoding="utf-8")) for folder in (whole, parts))
    for found in (ours, theirs):
        for row in (*found["history"], found["final"]):
            for key in [key for key in row if "seconds" in key or "sft" in key]:  # what the clock decides
                del row[key]
    assert ours["history"] == theirs["history"] and ours["final"] == theirs["final"]


def test_grpo_learns_what_is_rewarded():
    """Of 8 tokens only number 5 has a reward: by chance one in eight texts begins with it."""
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(8, d_model=16, n_layers=1, n_heads=2, d_ff=24, max_length=4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    ids, mask = torch.zeros(32, 2, dtype=torch.long), torch.ones(32, 1, dtype=torch.bool)
    shares = []
    for _ in range(60):
        with torch.no_grad():
            p = model(ids[:, :1])[:, -1].softmax(dim=-1)  # (32, V)
            ids[:, 1] = torch.multinomial(p, 1).squeeze(1)
            old = token_logps(model(ids), ids)
        rewards = (ids[:, 1] == 5).float()
        advantages = group_advantages(rewards.view(4, 8)).view(32, 1)
        for _ in range(2):
            losses = clipped_losses(token_logps(model(ids), ids), old, advantages)
            loss = sum_of_tokens(losses, mask, longest=1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        shares.append(rewards.mean().item())
    assert sum(shares[:5]) / 5 < 0.4 and sum(shares[-5:]) / 5 > 0.95


def test_only_the_kl_leads_back_from_a_collapse():
    """Too high a rate, and a policy may be stuck where nothing is rewarded: then all advantages are 0, for ever. One
    term more, the KL to the reference, has a gradient there, too."""
    assert reward_after_collapse(kl=0.0) == 0
    assert reward_after_collapse(kl=0.05) > 0.8


def reward_after_collapse(kl):
    """Return the last mean reward of a policy that begins stuck at token 3; its reference knows nothing."""
    reference, everything = torch.zeros(8), torch.ones(32, 1, dtype=torch.bool)
    logits = torch.nn.Parameter(torch.zeros(8).index_fill(0, torch.tensor([3]), 15.0))
    optimizer, generator = torch.optim.Adam([logits], lr=0.1), torch.Generator().manual_seed(0)
    for _ in range(400):
        p = logits.detach().softmax(dim=0)
        tokens = torch.multinomial(p, 32, replacement=True, generator=generator)  # (B,)
        logps, reference_logps = (z.log_softmax(dim=0)[tokens, None] for z in (logits, reference))  # (B, 1)
        rewards = (tokens == 5).float()
        advantages = group_advantages(rewards.view(4, 8)).view(32, 1)
        losses = clipped_losses(logps, logps.detach(), advantages)
        losses = losses + kl * kl_k3(logps, reference_logps)
        optimizer.zero_grad()
        sum_of_tokens(losses, everything, longest=1).backward()
        optimizer.step()
    return rewards.mean().item()


def heights(axes):
    return [bar.get_height() for bar in axes.patches]


def test_pictures_show_what_is_computed():
    reference, products, best = map(heights, rewards.tilt().axes)
    assert reference == [0.2, 0.5, 0.3] and products == [0.8, 0.5, 0.3]
    assert best == pytest.approx([0.5, 0.3125, 0.1875])
    plain, divided = map(heights, rewards.groups().axes)
    assert plain == [0.75, -0.25, -0.25, -0.25]
    assert divided == pytest.approx([3**0.5, *[-(3**-0.5)] * 3], abs=1e-3)
    assert heights(rewards.doubts().axes[1]) == pytest.approx([0.665, 0.245, 0.090], abs=5e-4)
    (axes,) = tuning.levels().axes
    int4, nf4 = ([line[0][0] for line in c.get_segments()] for c in axes.collections if isinstance(c, LineCollection))
    assert int4 == pytest.approx([k / 7 for k in range(-7, 8)]) and nf4 == pytest.approx(nf4_levels().tolist())
    texts = {text.get_text() for draw in (tuning.own_lines, tuning.lora) for text in draw().axes[0].texts}
    assert {"mean of all: 1.61", "mean of what is learned: 0.40", "y = (5, 9)"} <= texts
    texts = [text.get_text() for axes in rewards.bradley_terry().axes for text in axes.texts]
    assert texts == ["0.500", "0.731", "0.693", "0.313"]


def test_curves_compare_trainings(tmp_path, monkeypatch, complaint):
    paths = [tmp_path / variant / "grpo.json" for variant in ("dr_grpo", "dapo")]
    for path in paths:
        flags = "--variant", path.parent.name, "--seeds", "1", "--sft_lr", "0", "--out_dir", str(path.parent)
        grpo.main(["--dry_run", *flags])
    histories = visualize_alignment.read_histories(paths)
    assert list(histories) == ["dr_grpo, seed 0", "dapo, seed 0"]
    columns = visualize_alignment.common_columns(histories)
    assert columns == ["reward", "length", "mixed_groups", "entropy", "kl"]
    *panels, empty = rewards.training_curves(histories, columns).axes  # two rows of three
    assert not empty.axison
    for axes, column in zip(panels, columns, strict=True):
        assert [list(line.get_ydata()) for line in axes.lines[::2]] == [
            [row[column] for row in rows] for rows in histories.values()
        ]
    monkeypatch.setattr(visualize_alignment, "PICTURES", {})
    visualize_alignment.main(["--out_dir", str(tmp_path), "--results", *map(str, paths)])
    assert (tmp_path / "curves_dr_grpo_dapo.png").exists()
    flags = ["--out_dir", tmp_path, "--results"]
    assert "missing.json: no such file" in complaint(visualize_alignment.main, *flags, tmp_path / "missing.json")
    (tmp_path / "other.json").write_text("[]", encoding="utf-8")
    assert "no results of a training" in complaint(visualize_alignment.main, *flags, tmp_path / "other.json")
