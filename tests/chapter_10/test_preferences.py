"""Preferences: log-probabilities of the assistant's tokens alone, Bradley-Terry, DPO, SimPO, a reward model; and KL.
偏好学习：只算助手词元的对数概率，Bradley-Terry、DPO、SimPO 与奖励模型；以及蒸馏的 KL。
"""

import math

import pytest
import torch
from torch.nn import functional as F

from chapter_10_llm_modern_components.alignment import (
    RewardModel,
    bradley_terry_loss,
    dpo_loss,
    implicit_reward,
    pair_accuracy,
    sequence_logps,
    simpo_loss,
    token_logps,
)
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.model_compression import distillation_loss, token_kl, with_fewer_layers
from tests.chapter_09.parity import check_equal, random


def tiny(n_tokens=7):
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(n_tokens, d_model=16, n_layers=1, n_heads=2, d_ff=24, max_length=16))


def awkward_mask(b, t):
    """The first row has no assistant, the second one from the very beginning, the others any."""
    mask = torch.rand(b, t) < 0.5
    mask[0], mask[min(1, b - 1)] = False, b > 1
    return mask


@pytest.mark.parametrize("b,t", [(1, 1), (2, 2), (3, 6)])
def test_log_probabilities_are_a_plain_loops(b, t):
    logits, ids, mask = random(b, t, 5), torch.randint(5, (b, t)), awkward_mask(b, t)
    expected = torch.zeros(b, dtype=torch.float64)
    for row in range(b):
        for place in range(1, t):  # place 0 is predicted by nothing, whatever its mask
            if mask[row, place]:
                chances = logits[row, place - 1].exp() / logits[row, place - 1].exp().sum()
                expected[row] = expected[row] + chances[ids[row, place]].log()
    if mask[:, 1:].any():
        check_equal(sequence_logps(logits, ids, mask), expected, [logits])
    assert torch.equal(sequence_logps(logits, ids, mask)[~mask[:, 1:].any(dim=1)], expected[~mask[:, 1:].any(dim=1)])
    assert token_logps(logits.bfloat16(), ids).dtype == torch.float32


def test_padding_behind_an_answer_changes_nothing():
    model, ids = tiny(), torch.randint(7, (2, 5))
    mask = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 1, 1, 1]]).bool()
    padded, longer = F.pad(ids, (0, 3), value=4), F.pad(mask, (0, 3))
    torch.testing.assert_close(sequence_logps(model(padded), padded, longer), sequence_logps(model(ids), ids, mask))
    rated = RewardModel(model)
    torch.nn.init.normal_(rated.head.weight)
    lengths = torch.tensor([3, 5])
    torch.testing.assert_close(rated(padded, lengths), rated(ids, lengths))
    torch.testing.assert_close(rated(padded, lengths)[0], rated(ids[:1, :3], lengths[:1])[0])


def test_bradley_terry_is_the_likelihood_of_the_choices():
    chosen, rejected = random(4), random(4)
    chances = chosen.exp() / (chosen.exp() + rejected.exp())
    check_equal(bradley_terry_loss(chosen, rejected), -chances.log().mean(), [chosen, rejected])
    assert bradley_terry_loss(chosen, chosen).item() == pytest.approx(math.log(2))
    assert bradley_terry_loss(torch.tensor([-500.0]), torch.tensor([500.0])).item() == 1000  # no overflow
    assert pair_accuracy(torch.tensor([2.0, 1, 0, 3]), torch.tensor([1.0, 1, 5, -2])) == 2.5 / 4


def test_a_reward_model_begins_at_nothing_and_learns_who_wins():
    """Texts with more 1s are better, wherever they stand."""
    model = RewardModel(tiny())
    lengths = torch.randint(3, 9, (64, 2))
    ids = torch.randint(3, (64, 2, 8))
    counts = ((ids == 1) & (torch.arange(8) < lengths[..., None])).sum(dim=2)  # (64, 2)
    different = counts[:, 0] != counts[:, 1]
    order = counts.argsort(dim=1, descending=True)[different]
    texts = [ids[different].gather(1, order[..., None].expand(-1, -1, 8)).unbind(1)]
    (chosen, rejected), (n_chosen, n_rejected) = texts[0], lengths[different].gather(1, order).unbind(1)
    assert not model(chosen, n_chosen).any()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(60):
        loss = bradley_terry_loss(model(chosen, n_chosen), model(rejected, n_rejected))
        assert step or loss.item() == pytest.approx(math.log(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert pair_accuracy(model(chosen, n_chosen), model(rejected, n_rejected)) > 0.9


def test_dpo_begins_at_ln_2_and_has_the_papers_gradient():
    chosen, rejected, reference_chosen, reference_rejected = (random(5) for _ in range(4))
    assert dpo_loss(chosen, rejected, chosen, rejected).item() == pytest.approx(math.log(2))
    beta = 0.3
    loss = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta)
    rewards = [beta * (chosen - reference_chosen), beta * (rejected - reference_rejected)]
    check_equal(loss, -(rewards[0] - rewards[1]).sigmoid().log().mean(), [chosen, rejected])
    torch.testing.assert_close(implicit_reward(chosen, reference_chosen, beta), rewards[0])
    weight = beta * (rewards[1] - rewards[0]).sigmoid() / 5  # below equation 7: more where the order is still wrong
    torch.testing.assert_close(torch.autograd.grad(loss, (chosen, rejected)), (-weight, weight))


def test_dpo_finds_the_best_policy_of_its_reward():
    """Over three answers: where people choose as rewards say, the optimum is p_reference exp(reward / beta) / Z."""
    reward, beta = torch.tensor([1.0, 0.0, -0.5], dtype=torch.float64), 0.5
    reference = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    logits = reference.clone().requires_grad_()
    first, second = (index.flatten() for index in torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij"))
    wins = (reward[first] - reward[second]).sigmoid()  # (9,)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure():
        p = logits.log_softmax(0)
        each = [dpo_loss(p[i : i + 1], p[j : j + 1], reference[i : i + 1], reference[j : j + 1], beta)
                for i, j in zip(first, second, strict=True)]  # fmt: skip
        optimizer.zero_grad()
        loss = (wins * torch.stack(each)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(logits.softmax(0), (reference + reward / beta).softmax(0), rtol=0, atol=1e-5)


def test_simpo_compares_means_with_a_margin():
    chosen, rejected, n, m = random(4), random(4), torch.tensor([1, 2, 3, 9]), torch.tensor([4, 1, 3, 2])
    expected = -(1.5 * (chosen / n - rejected / m) - 0.4).sigmoid().log().mean()
    check_equal(simpo_loss(chosen, rejected, n, m, beta=1.5, gamma=0.4), expected, [chosen, rejected])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_kl_is_pytorchs(temperature):
    p, q = random(2, 3, 5), random(2, 3, 5)
    log_p, log_q = ((t / temperature).log_softmax(-1) for t in (p, q))
    check_equal(token_kl(p, q, temperature), F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1), [p, q])
    assert (token_kl(p, p, temperature).abs() < 1e-15).all() and (token_kl(p, q) > 0).all()


def test_distillation_is_a_plain_loop_over_the_masked_places():
    student, teacher, labels, mask = random(3, 4, 5), random(3, 4, 5), torch.randint(5, (3, 4)), awkward_mask(3, 4)
    soft, hard = [], []
    for row, place in mask.nonzero():
        p, q = (x[row, place].div(2.0).softmax(-1) for x in (teacher, student))
        soft.append(4 * (p * (p / q).log()).sum())
        hard.append(-student[row, place].softmax(-1)[labels[row, place]].log())
    expected = 0.7 * torch.stack(soft).mean() + 0.3 * torch.stack(hard).mean()
    loss = distillation_loss(student[mask], teacher[mask], labels[mask], temperature=2.0, soft_weight=0.7)
    check_equal(loss, expected, [student])
    assert torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)


def test_a_student_has_some_of_the_layers():
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(7, d_model=16, n_layers=5, n_heads=2, d_ff=24, max_length=16))
    student, ids = with_fewer_layers(model, 3), torch.tensor([[1, 2, 3]])
    assert student.config.n_layers == 3 and LanguageModel(student.config).load_state_dict(student.state_dict())
    x = model.embedding(ids)
    for i in (0, 2, 4):
        x = model.blocks[i](x, (model.cos[:3], model.sin[:3]), None, None)
    torch.testing.assert_close(student(ids), model.head(model.norm(x)))
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in student.parameters()}
    with pytest.raises(ValueError, match="fewer layers"):
        with_fewer_layers(model, 5)


def test_at_high_temperatures_distillation_fits_the_logits():
    """Hinton et al. 2015, equation 4: the gradient tends to (z - v) / V, for logits that are 0 on average."""
    student, teacher = (t - t.mean() for t in (random(1, 6), random(1, 6)))
    loss = distillation_loss(student, teacher, torch.zeros(1).long(), temperature=1e4, soft_weight=1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(gradient, (student - teacher) / 6, rtol=0, atol=1e-3)
