"""Decoding against exhaustive search, and against itself one sequence at a time.
解码：与穷举搜索对照，并与逐条解码对照。
"""

import itertools

import pytest
import torch

from chapter_07_attention_mechanism.decoding import beam_search, greedy, select

EOS = 0


def model(vocabulary, seed, sequences=1, sharpness=2.0):
    """A step function whose log-probabilities depend on all the tokens before: a table for each sequence."""
    table = {}

    def step(tokens, state):
        rows, state = [], [(*past, token) for past, token in zip(state, tokens.tolist(), strict=True)]
        for past in state:
            if past not in table:
                generator = torch.Generator().manual_seed(hash((seed, past)) % 2**31)
                table[past] = (sharpness * torch.randn(vocabulary, generator=generator)).log_softmax(0)
            rows.append(table[past])
        return torch.stack(rows), Pasts(state)

    return step, Pasts([(i,) for i in range(sequences)])


class Pasts(list):
    """A state that remembers whole sequences; wrapped so that `select` sees one thing with an index."""


@pytest.fixture(autouse=True)
def _select_pasts(monkeypatch):
    def pick(state, index):
        return Pasts(state[i] for i in index.tolist()) if isinstance(state, Pasts) else select(state, index)

    monkeypatch.setattr("chapter_07_attention_mechanism.decoding.select", pick)


def exhaustive(step, state, vocabulary, max_length, length_penalty):
    """Every sequence that ends, or has max_length tokens, with its score; return the best."""
    best = (-torch.inf, None)
    for length in range(1, max_length + 1):
        for middle in itertools.product(range(1, vocabulary), repeat=length - 1):
            for last in range(vocabulary) if length == max_length else [EOS]:
                past, token, total = state, 5, 0.0
                for following in (*middle, last):
                    log_p, past = step(torch.tensor([token]), past)
                    total, token = total + log_p[0, following].item(), following
                score = total / ((5 + length) / 6) ** length_penalty
                answer = [token for token in (*middle, last) if token != EOS]
                best = max(best, (score, answer))
    return best


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_full_beam_is_exhaustive_search(seed, length_penalty):
    vocabulary, max_length = 3, 4
    step, state = model(vocabulary, seed)
    score, answer = exhaustive(step, state, vocabulary, max_length, length_penalty)
    found, scores = beam_search(step, state, torch.tensor([5]), EOS, max_length, vocabulary**max_length, length_penalty)
    assert found == [answer] and scores.item() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_beam_of_one_is_greedy(length_penalty):
    start = torch.full((20,), 5)
    step, state = model(6, seed=7, sequences=20)
    expected = greedy(step, state, start, EOS, 9)
    assert beam_search(step, state, start, EOS, 9, 1, length_penalty)[0] == expected
    assert len({len(answer) for answer in expected}) > 3  # some end early, some not at all


@pytest.mark.parametrize("beam", [2, 5])
def test_sequences_do_not_disturb_one_another(beam):
    step, state = model(8, seed=3, sequences=6)
    together, scores = beam_search(step, state, torch.full((6,), 5), EOS, 7, beam)
    for i in range(6):
        alone, score = beam_search(step, Pasts([state[i]]), torch.tensor([5]), EOS, 7, beam)
        assert alone[0] == together[i] and score.item() == pytest.approx(scores[i].item(), abs=1e-5)


def test_a_wider_beam_finds_likelier_sequences():
    step, state = model(8, seed=1, sequences=40, sharpness=1.0)
    start = torch.full((40,), 5)
    means = [beam_search(step, state, start, EOS, 6, beam, 0.0)[1].mean().item() for beam in (1, 4, 16)]
    assert means == sorted(means) and means[0] < means[-1]


def test_nothing_to_decode():
    step, state = model(4, seed=0, sequences=2)
    assert greedy(step, state, torch.tensor([5, 5]), EOS, 0) == [[], []]
    assert beam_search(step, state, torch.tensor([5, 5]), EOS, 0)[0] == [[], []]


def test_select_reaches_into_nested_states():
    state = {"h": (torch.arange(3), [torch.arange(6).view(3, 2), None])}
    h, [cache, nothing] = select(state, torch.tensor([2, 0]))["h"]
    assert h.tolist() == [2, 0] and cache.tolist() == [[4, 5], [0, 1]] and nothing is None
