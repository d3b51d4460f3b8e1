"""Sampling: each rule against its definition, and the draws against the probabilities they should have.
采样：每条规则对照其定义，抽样频率对照应有的概率。
"""

import itertools
import math

import pytest
import torch

from chapter_06_rnn_lstm_seq.generation import generate, known_part
from chapter_06_rnn_lstm_seq.model import LanguageModel, LanguageModelConfig
from chapter_06_rnn_lstm_seq.sampling import keep_top_k, keep_top_p, sample, with_temperature

LOGITS = torch.randn(40, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def kept(logits):
    return {i for i, value in enumerate(logits.tolist()) if value > -math.inf}


def test_temperature_raises_probabilities_to_a_power():
    p = LOGITS.softmax(-1)
    for temperature in (0.5, 1.0, 3.0):
        powers = p ** (1 / temperature)
        found = with_temperature(LOGITS, temperature).softmax(-1)
        torch.testing.assert_close(found, powers / powers.sum(-1, keepdim=True))
    for temperature in (0, 1e-45, 1e-320):
        cold = with_temperature(LOGITS.float(), temperature).softmax(-1)
        assert torch.equal(cold.argmax(-1), LOGITS.argmax(-1)) and (cold.max(-1).values == 1).all()


@pytest.mark.parametrize("k", [1, 3, 7, 100])
def test_top_k_keeps_the_k_largest(k):
    for row, cut in zip(LOGITS, keep_top_k(LOGITS, k), strict=True):
        assert kept(cut) == set(sorted(range(7), key=lambda i: -row[i])[:k])
    assert kept(keep_top_k(torch.tensor([1.0, 2.0, 2.0, 2.0]), 2)) == {1, 2}


@pytest.mark.parametrize("p", [1e-9, 0.3, 0.8, 0.999, 1.0])
def test_top_p_keeps_the_smallest_set_that_is_large_enough(p):
    for row, cut in zip(LOGITS[:15], keep_top_p(LOGITS[:15], p), strict=True):
        probabilities = row.softmax(-1)
        sets = [s for n in range(1, 8) for s in itertools.combinations(range(7), n)]
        enough = [s for s in sets if probabilities[list(s)].sum() >= p - 1e-12]
        size = min(map(len, enough))
        best = max((s for s in enough if len(s) == size), key=lambda s: probabilities[list(s)].sum())
        assert kept(cut) == set(best)


@pytest.mark.parametrize(
    "rule, value",
    [(keep_top_k, 0), (keep_top_p, 0.0), (keep_top_p, 1.1), (with_temperature, -1.0), (with_temperature, math.nan)],
)
def test_what_makes_no_sense_is_refused(rule, value):
    with pytest.raises(ValueError):
        rule(LOGITS, value)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.6}, {"top_k": 3}, {"top_p": 0.75}, {"top_k": 5, "top_p": 0.8}]
)
def test_draws_follow_the_probabilities(options):
    """Pearson's chi-squared statistic, whose 99.9 % quantile for up to 6 degrees of freedom is 22.5."""
    n, logits = 20_000, LOGITS[0]
    draws = sample(logits.expand(n, -1), **options, generator=torch.Generator().manual_seed(1))
    wanted = with_temperature(logits, options.get("temperature", 1.0))
    wanted = keep_top_k(wanted, options.get("top_k", 7))
    expected = n * keep_top_p(wanted, options.get("top_p", 1.0)).softmax(-1)
    counts = torch.bincount(draws, minlength=7)
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    assert ((counts - expected)[possible].square() / expected[possible]).sum() < 22.5


def test_shapes():
    assert sample(LOGITS[0]).shape == ()
    assert sample(LOGITS.view(4, 10, 7)).shape == (4, 10)


def test_generation_equals_reading_all_again_each_time():
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelConfig(7, "gru", 5, 6)).train()
    prompt = torch.tensor([1, 5, 2])
    tokens = list(generate(model, prompt, 12, temperature=0))
    assert model.training and model.dropout.training
    ids = prompt
    for token in tokens:
        with torch.no_grad():
            assert token == int(model.eval()(ids[None])[0][0, -1].argmax())
        ids = torch.cat([ids, torch.tensor([token])])
    again = [list(generate(model, prompt, 30, generator=torch.Generator().manual_seed(s))) for s in (3, 3, 4)]
    assert again[0] == again[1] != again[2]


def test_unknown_characters_are_named_and_left_out():
    assert known_part("Zoé says: 你好 é", " Zaosy:") == ("Zo says:  ", "é你好")
    assert known_part("", "abc") == ("", "")
