"""Learning from rewards: advantages, the clipped ratio, KL estimates and means, against plain loops and whole sums.
从奖励中学习：优势、截断比率、KL 估计与各种平均，与朴素循环和逐项枚举对照。
"""

import itertools

import pytest
import torch

from chapter_10_llm_modern_components.alignment import (
    ActorCritic,
    adapted_beta,
    clipped_losses,
    clipped_value_losses,
    gae,
    group_advantages,
    kl_k3,
    mean_of_sequences,
    mean_of_tokens,
    rewards_with_kl,
    sum_of_tokens,
    token_entropy,
    token_logps,
    whiten,
)
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from tests.chapter_09.parity import check_equal, random

MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 0], [1, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]).bool()


@pytest.mark.parametrize("gamma,lam", [(1.0, 1.0), (1.0, 0.95), (0.9, 0.7), (0.9, 0.0)])
def test_advantages_are_the_sums_of_their_definition(gamma, lam):
    rewards, values = random(5, 5).detach(), random(5, 5).detach()
    found = gae(rewards, values, MASK, gamma, lam)
    for row in range(5):
        places = MASK[row].nonzero().flatten().tolist()  # actions alone count as steps
        r, v = rewards[row, places].tolist(), [*values[row, places].tolist(), 0.0]
        deltas = [r[t] + gamma * v[t + 1] - v[t] for t in range(len(places))]
        expected = torch.zeros(5, dtype=torch.float64)
        for t, place in enumerate(places):
            expected[place] = sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, len(places)))
        torch.testing.assert_close(found[row], expected)


def test_whole_returns_minus_values_with_lambda_1():
    rewards, values = random(5, 5).detach(), random(5, 5).detach()
    to_come = (rewards * MASK).flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(gae(rewards, values, MASK, lam=1.0), (to_come - values).masked_fill(~MASK, 0))


def test_whitened_advantages():
    x = whiten(random(5, 5).detach() * 3 + 2, MASK)
    torch.testing.assert_close(x[MASK].mean().item(), 0.0, rtol=0, atol=1e-12)
    torch.testing.assert_close(x[MASK].std(correction=0).item(), 1.0, rtol=0, atol=1e-6)
    assert not x[~MASK].any()


@pytest.mark.parametrize("divide_by_std", [False, True])
def test_advantages_of_a_group_have_no_mean(divide_by_std):
    rewards = torch.tensor([[0.0, 0, 0, 1], [1, 1, 1, 1], [1, 0, 0, 1], [0.5, 2, -1, 7]], dtype=torch.float64)
    found = group_advantages(rewards, divide_by_std)
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    assert not found[1].any(), "where all answers are equally good nothing is learned"
    if divide_by_std:
        torch.testing.assert_close(found[2].abs(), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-3)
    else:
        assert found[0].tolist() == [-0.25, -0.25, -0.25, 0.75]


def expected_gradient(logits, reward, size, divide_by_std):
    """Of the policy gradient with group advantages, over all groups of `size` actions that can be drawn."""
    total = torch.zeros_like(logits)
    for group in itertools.product(range(len(logits)), repeat=size):
        logps = logits.log_softmax(0)[list(group)]  # (size,)
        advantages = group_advantages(reward[list(group)][None], divide_by_std)[0]
        (gradient,) = torch.autograd.grad((advantages * logps).mean(), logits)
        total += logps.detach().sum().exp() * gradient
    return total


@pytest.mark.parametrize("size", [2, 4])
def test_the_mean_of_the_group_shortens_the_gradient_and_the_spread_bends_it(size):
    logits, reward = random(3), torch.tensor([1.0, 0.2, 0.0], dtype=torch.float64)
    (true,) = torch.autograd.grad(logits.softmax(0) @ reward, logits)
    torch.testing.assert_close(expected_gradient(logits, reward, size, False), true * (size - 1) / size)
    bent = expected_gradient(logits, reward, size, True)
    assert torch.cosine_similarity(bent, true, dim=0) < 1 - 1e-4


@pytest.mark.parametrize("clip_low,clip_high", [(0.2, 0.2), (0.2, 0.28)])
def test_clipping_is_its_cases(clip_low, clip_high):
    logps, old, advantages = random(6, 7), random(6, 7).detach(), random(6, 7).detach()
    expected, stopped = torch.zeros(6, 7, dtype=torch.float64), 0
    for place in itertools.product(range(6), range(7)):
        ratio, a = (logps[place] - old[place]).exp(), advantages[place]
        if a > 0 and ratio > 1 + clip_high:
            expected[place], stopped = -(1 + clip_high) * a, stopped + 1
        elif a < 0 and ratio < 1 - clip_low:
            expected[place], stopped = -(1 - clip_low) * a, stopped + 1
        else:
            expected[place] = -ratio * a
    losses = clipped_losses(logps, old, advantages, clip_low, clip_high)
    check_equal(losses, expected, [logps])
    (gradient,) = torch.autograd.grad(losses.sum(), logps)
    assert (gradient == 0).sum() == stopped > 0


def test_the_first_step_is_the_plain_policy_gradient():
    torch.manual_seed(0)
    model = ActorCritic(LanguageModel(ModelConfig(7, d_model=16, n_layers=1, n_heads=2, d_ff=24, max_length=8)))
    ids, advantages = torch.randint(7, (5, 6)), torch.randn(5, 5)
    logits, values = model(ids)
    assert values.shape == (5, 6) and not values.any()
    torch.testing.assert_close(logits, model.policy(ids), rtol=0, atol=0)
    logps = token_logps(logits, ids)
    losses = clipped_losses(logps, logps.detach(), advantages)
    assert torch.equal(losses, -advantages), "the ratio is 1"
    parameters = list(model.policy.parameters())
    ours = torch.autograd.grad(losses.sum(), parameters, retain_graph=True)
    plain = torch.autograd.grad(-(logps * advantages).sum(), parameters)
    torch.testing.assert_close(ours, plain)


def test_values_that_moved_far_are_not_pushed_on():
    old, targets = torch.zeros(4), torch.tensor([1.0, 1.0, 1.0, -1.0])
    values = torch.tensor([0.1, 0.5, -0.5, 0.5], requires_grad=True)
    losses = clipped_value_losses(values, old, targets)
    torch.testing.assert_close(losses, torch.tensor([0.81, 0.64, 2.25, 2.25]) / 2)
    (gradient,) = torch.autograd.grad(losses.sum(), values)
    torch.testing.assert_close(gradient, torch.tensor([-0.9, 0.0, -1.5, 1.5]))


def test_k3_is_never_negative_and_its_mean_is_the_kl():
    p, q = (random(50, 6).detach().log_softmax(-1) for _ in range(2))
    estimates = kl_k3(p, q)
    assert (estimates >= 0).all() and not kl_k3(p, p).any()
    torch.testing.assert_close((p.exp() * estimates).sum(-1), (p.exp() * (p - q)).sum(-1))  # over all 6 tokens
    spreads = [(p.exp() * x.square()).sum(-1) for x in (kl_k3(p, p + 0.1 * q), 0.1 * -q)]
    assert spreads[0].mean() < spreads[1].mean()


def test_k3_in_a_loss_has_the_other_kls_gradient():
    logits, q = random(4, 6), random(4, 6).detach().log_softmax(-1)
    p = logits.log_softmax(-1)
    (found,) = torch.autograd.grad((p.detach().exp() * kl_k3(p, q)).sum(), logits)  # the draws know no gradient
    (wanted,) = torch.autograd.grad((q.exp() * (q - logits.log_softmax(-1))).sum(), logits)
    torch.testing.assert_close(found, wanted)


def test_entropy_is_highest_where_nothing_is_known():
    entropy = token_entropy(torch.tensor([[0.0, 0.0, 0.0, 0.0], [100.0, 0.0, 0.0, 0.0]]))
    torch.testing.assert_close(entropy, torch.tensor([4.0, 1.0]).log())


def test_means_count_tokens_as_they_say():
    losses = random(5, 5)
    rows = [[losses[i, j] for j in range(5) if MASK[i, j]] for i in range(5)]  # of 5, 2, 3, 0 and 1 tokens
    tokens = [x for row in rows for x in row]
    per_row = [sum(row) / len(row) for row in rows if row]
    check_equal(mean_of_sequences(losses, MASK), sum(per_row) / 5, [losses])
    check_equal(mean_of_tokens(losses, MASK), sum(tokens) / 11, [losses])
    check_equal(sum_of_tokens(losses, MASK, 8), sum(tokens) / 40, [losses])
    assert mean_of_tokens(losses, MASK & False) == 0
    infinite = losses.detach().masked_fill(~MASK, torch.inf)
    assert mean_of_tokens(infinite, MASK).isfinite() and mean_of_sequences(infinite, MASK).isfinite()


def test_the_score_comes_at_the_last_action():
    logps, reference, scores = random(5, 5).detach(), random(5, 5).detach(), torch.arange(1.0, 6, dtype=torch.float64)
    found = rewards_with_kl(scores, logps, reference, MASK, beta=0.1)
    for row, last in enumerate([4, 3, 4, None, 4]):
        expected = torch.where(MASK[row], 0.1 * (reference - logps)[row], 0)
        if last is not None:
            expected[last] += scores[row]
        torch.testing.assert_close(found[row], expected)
    total, kl = found.sum(1), ((logps - reference) * MASK).sum(1)
    torch.testing.assert_close(total, scores * MASK.any(1) - 0.1 * kl)


def test_the_price_of_kl_follows_it():
    assert adapted_beta(0.1, kl=6.0, target=6.0) == pytest.approx(0.1)
    assert adapted_beta(0.1, kl=6.6, target=6.0) == pytest.approx(0.1 * 1.01)
    assert adapted_beta(0.1, kl=60.0, target=6.0) == pytest.approx(0.1 * 1.02)
    assert adapted_beta(0.1, kl=0.0, target=6.0) == pytest.approx(0.1 * 0.98)
