"""Decoding: with a cache as without, side by side as one by one, speculative as plain; filters, and text that stops.
解码：有缓存与无缓存一致，并行与逐条一致，投机与普通一致；各种过滤，以及在该停处停下的文本。
"""

import pytest
import torch

from chapter_10_llm_modern_components.generation import (
    Sampler,
    TextStream,
    accept,
    generate,
    keep_min_p,
    penalize_repetition,
    speculate,
)
from chapter_10_llm_modern_components.generation.fast_step import FastStep, make_step, transpose_weights_
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig

TINY = {"n_tokens": 13, "d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 24, "max_length": 24}
GREEDY = Sampler(temperature=0)
PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6]]


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    model = LanguageModel(ModelConfig(**TINY | options))
    model.initialize_(0.4)
    return model.eval()


def written(steps):
    """The tokens of each sequence, of what `generate` yields."""
    return [[token for token in row if token is not None] for row in zip(*steps, strict=True)]


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [{}, {"window": 3}, {"n_experts": 4}, {"positions": "learned", "norm": "layer"}, {"qk_norm": True}],
    ids=str,
)
def test_cached_tokens_are_those_of_reading_it_all_again(options):
    model = tiny(**options)
    together = written(generate(model, PROMPTS, 12, GREEDY))
    assert len(set(sum(together, []))) > 3
    for prompt, found in zip(PROMPTS, together, strict=True):
        ids = torch.tensor([prompt])
        for _ in range(12):
            ids = torch.cat([ids, model(ids)[:, -1:].argmax(-1)], dim=1)
        assert found == ids[0, len(prompt) :].tolist()


@torch.no_grad()
@pytest.mark.parametrize("options", [{"n_kv_heads": None, "tied": False}, {"window": 2, "d_head": 6}], ids=str)
def test_a_fast_step_is_the_models(options):
    model, ids = tiny(**options).double(), torch.randint(13, (3, 9))
    caches, others = model.new_caches(9), model.new_caches(9)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    transpose_weights_(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.blocks[0].attention.qkv_proj.weight.stride(0) == 1
    assert (model.head.weight is model.embedding.weight) == model.config.tied
    step = make_step(model, caches)
    assert isinstance(step, FastStep)
    for i in range(9):
        torch.testing.assert_close(step(ids[:, i]), model(ids[:, i : i + 1], others)[:, 0], rtol=0, atol=1e-9)
    for ours, theirs in zip(caches, others, strict=True):
        assert ours.length == theirs.length
        torch.testing.assert_close(ours.k, theirs.k, rtol=0, atol=1e-9)
        torch.testing.assert_close(ours.v, theirs.v, rtol=0, atol=1e-9)


def test_a_sequence_ends_at_an_end_token_where_told_and_where_the_context_does():
    model = tiny()
    whole = written(generate(model, PROMPTS, 12, GREEDY))
    end = whole[1][4]
    cut = [row[: row.index(end) + 1] if end in row else row for row in whole]
    assert written(generate(model, PROMPTS, 12, GREEDY, end_tokens=[end])) == cut and cut != whole
    seen = []
    steps = generate(model, PROMPTS, 12, GREEDY, running=lambda row: row != 1 or len(seen) < 3)
    for step in steps:
        seen.append(step)
    assert written(seen) == [whole[0], whole[1][:3], whole[2]]
    filled = written(generate(model, PROMPTS[:1], 1000, GREEDY))[0]
    assert filled[:12] == whole[0] and len(filled) == 24 - 5 + 1  # the last one was predicted, and needs no place


@pytest.mark.parametrize("n_guesses", [1, 4])
@pytest.mark.parametrize("draft", ["itself", "another", "smaller context"])
def test_greedy_speculation_writes_the_same_tokens(draft, n_guesses):
    model = tiny()
    other = {"itself": model, "another": tiny(1, n_layers=1), "smaller context": tiny(1, max_length=20)}[draft]
    prompt = PROMPTS[draft == "another"]  # one of several tokens, or one of a single token
    rounds = list(speculate(model, other, prompt, 14, GREEDY, n_guesses))
    found = [token for tokens in rounds for token in tokens]
    assert found == written(generate(model, [prompt], 14, GREEDY))[0]
    if draft == "itself":
        assert all(len(tokens) == n_guesses + 1 for tokens in rounds[:-1])  # nothing falls
    penalized = Sampler(temperature=0, repetition_penalty=1.5)
    found = [token for tokens in speculate(model, other, prompt, 14, penalized, n_guesses) for token in tokens]
    assert found == written(generate(model, [prompt], 14, penalized))[0]
    end = found[6]
    found = [
        token
        for tokens in speculate(model, other, prompt, 14, penalized, n_guesses, end_tokens=[end])
        for token in tokens
    ]
    assert found.index(end) == len(found) - 1


def chi_squared(counts, p):
    """How far counts are from what probabilities make expect."""
    expected = p * counts.sum()
    return ((counts - expected).square() / expected).sum().item()


def test_what_stands_or_comes_instead_is_distributed_as_the_large_models():
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(2, 4)
    p, q = torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 3), torch.tensor([[0.4, 0.1, 0.45, 0.05], [0.25] * 4])
    p[1] = torch.tensor([0.7, 0.1, 0.1, 0.1])
    stood = 0
    for _ in range(2000):
        guesses = [int(torch.multinomial(row, 1, generator=generator)) for row in q]
        n, token = accept(p, q, guesses, generator)
        tokens = [*guesses[:n], token]
        counts[0, tokens[0]] += 1
        stood += n > 0
        if n > 0:
            counts[1, tokens[1]] += 1
    assert chi_squared(counts[0], p[0]) < 16.3 and chi_squared(counts[1], p[1]) < 16.3  # 0.1 % of 3 degrees of freedom
    assert stood / 2000 == pytest.approx(0.55, abs=0.05)  # sum of min(p, q)


def test_sampled_speculation_has_the_models_distribution():
    """Of the first two tokens, over a vocabulary of three."""
    model, draft = tiny(n_tokens=3, n_layers=1), tiny(1, n_tokens=3, n_layers=1)
    sampler, generator, counts = (
        Sampler(temperature=1.5, top_p=0.95),
        torch.Generator().manual_seed(0),
        torch.zeros(3, 3),
    )
    for _ in range(300):
        tokens = [token for some in speculate(model, draft, [2, 1], 2, sampler, 2, generator) for token in some]
        counts[tuple(tokens)] += 1
    with torch.no_grad():
        first = sampler.probabilities(model(torch.tensor([[2, 1]]))[0, -1])  # (V,)
        second = torch.stack([sampler.probabilities(model(torch.tensor([[2, 1, i]]))[0, -1]) for i in range(3)])
        other = sampler.probabilities(draft(torch.tensor([[2, 1]]))[0, -1])
    p = first[:, None] * second  # (V, V)
    possible = p > 0
    assert counts[~possible].sum() == 0
    assert chi_squared(counts[possible], p[possible]) < 26.1  # 0.1 % of 8 degrees of freedom
    assert chi_squared(counts.sum(1)[other > 0], other[other > 0]) > 30  # which the draft's own would not pass


def test_a_draft_of_other_tokens_is_refused():
    with pytest.raises(ValueError, match="the draft knows 12 tokens, the model 13"):
        next(speculate(tiny(), tiny(n_tokens=12), [1], 2, GREEDY))


def test_filters():
    logits = torch.tensor([0.5, 0.25, 0.2, 0.05]).log()
    assert keep_min_p(logits, 0.39).isfinite().tolist() == [True, True, True, False]
    assert keep_min_p(logits, 0.45).isfinite().tolist() == [True, True, False, False]
    assert keep_min_p(logits, 1.0).isfinite().sum() == 1 and torch.equal(keep_min_p(logits, 0.0), logits)
    signed = torch.tensor([2.0, -2.0, 1.0])
    assert penalize_repetition(signed, [0, 1, 1], 2.0).tolist() == [1.0, -4.0, 1.0]
    assert torch.equal(penalize_repetition(signed, [], 2.0), signed)
    some = Sampler(temperature=0.5, top_k=3, top_p=0.8).probabilities(logits)  # 0.25, 0.0625, 0.04 before top-p
    torch.testing.assert_close(some, torch.tensor([0.8, 0.2, 0.0, 0.0]))
    all_filters = Sampler(temperature=0.5, top_k=3, top_p=0.8, min_p=0.3)  # 0.2 is less than 0.3 of 0.8
    assert all_filters.probabilities(logits).tolist() == [1, 0, 0, 0]
    assert Sampler(temperature=0).probabilities(logits.bfloat16()).tolist() == [1, 0, 0, 0]
    for wrong in (lambda: keep_min_p(logits, 1.5), lambda: penalize_repetition(logits, [0], 0.0)):
        with pytest.raises(ValueError, match="not"):
            wrong()


BYTES = [bytes([byte]) for byte in range(256)]


def streamed(data, stops=()):
    stream = TextStream(BYTES, stops)
    return [*(stream.feed(byte) for byte in data), stream.finish()]


def test_characters_come_whole():
    parts = streamed("né 你😀".encode())
    assert [part for part in parts if part] == ["n", "é", " ", "你", "😀"]
    assert "".join(streamed("é".encode()[:1] + b"a")) == "\ufffda"  # not UTF-8
    assert "".join(streamed("你".encode()[:2])) == "\ufffd"  # and cut off


@pytest.mark.parametrize("text,stops,shown", [
    ("abc STOP def", ["STOP"], "abc "), ("aaab", ["aab"], "a"), ("abab", ["abc"], "abab"), ("xyz", ["yz", "xy"], ""),
    ("one\n\ntwo", ["\n\n"], "one"), ("你好。再见", ["。再"], "你好"), ("abc", [""], "abc"),
])  # fmt: skip
def test_of_a_stop_string_nothing_is_shown(text, stops, shown):
    parts, seen = streamed(text.encode(), stops), ""
    for part in parts:
        seen += part
        assert shown.startswith(seen)
    assert seen == shown
