"""A language model learns from rewards: PPO with a value head, GRPO without, and what was later mended in GRPO.
语言模型从奖励中学习：带价值头的 PPO、不需要价值头的 GRPO，以及后人对 GRPO 的修正。

All functions take one number for each token that could be an action, (B, T), and a mask (B, T), True where the policy
chose it: prompts, padding and the results of tools are not its doing.
"""

import torch
from torch import Tensor, nn

from chapter_10_llm_modern_components.model import LanguageModel

# ---- what was good: advantages ----


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """Return the advantages (B, T) of actions, 0 where there is none (Schulman et al. 2016, equation 16).

    A_t = sum_k (gamma lam)^k delta_{t+k} with delta_t = r_t + gamma V_{t+1} - V_t, where t counts actions alone, and
    after the last of them there is nothing to come: V = 0. lam = 1: the whole rest as it came, right on average and
    noisy; lam = 0: the next value stands for it, calm and as wrong as the values. The values' targets are advantages
    plus values.
    """
    next_advantage, next_value = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])  # (B,)
    advantages = torch.zeros_like(rewards)
    for t in reversed(range(rewards.shape[1])):
        chose = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = torch.where(chose, delta + gamma * lam * next_advantage, next_advantage)
        next_value = torch.where(chose, values[:, t], next_value)
        advantages[:, t] = next_advantage.masked_fill(~chose, 0)
    return advantages


def whiten(x: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """Return x (B, T) with a mean of 0 and a standard deviation of 1 over the places of the mask, and 0 elsewhere."""
    std, mean = torch.std_mean(x[mask], correction=0)
    return ((x - mean) / (std + eps)).masked_fill(~mask, 0)


def group_advantages(rewards: Tensor, divide_by_std: bool = False, eps: float = 1e-4) -> Tensor:
    """Return (N, G): by how much each of the G answers to a question was better than their mean.

    Shao et al. 2024 (GRPO) also divide by the standard deviation. That makes questions that nearly all answers fail, or
    pass, count for more than those in between: Liu et al. 2025 (Dr. GRPO) leave it out.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, correction=0, keepdim=True) + eps) if divide_by_std else centred


# ---- the step: ratio, clipping, KL ----


def clipped_losses(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, clip_low: float = 0.2, clip_high: float = 0.2
) -> Tensor:
    """Return -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), (B, T) (Schulman et al. 2017, equation 7).

    r = p / p_old is 1 before the first step. An action stops being pushed when it has become so much likelier, or less
    likely, than when it was drawn. With both limits 0.2 a token of probability 0.01 can only rise to 0.012: a higher
    upper limit lets rare tokens grow (Yu et al. 2025, DAPO).
    """
    ratio = (logps - old_logps).exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)


def clipped_value_losses(values: Tensor, old_values: Tensor, targets: Tensor, clip: float = 0.2) -> Tensor:
    """Return half the squared errors (B, T) of the values, or of what is within `clip` of the old ones, if larger.

    As the ratio in the policy's loss: a value that has moved far since the texts were drawn is not pushed on.
    """
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.max((values - targets).square(), (near - targets).square()) / 2


def kl_k3(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Return r - 1 - log r with r = p_reference / p, (B, T): on average KL(p || p_reference), and never negative.

    For tokens drawn from p (Schulman 2020, http://joschu.net/blog/kl-approx.html). -log r alone has the same mean, but
    a wider spread, as half of its values are negative. As a part of a loss its gradient is not that of this KL, for the
    tokens' own chances depend on p as well: it is on average the gradient of the other one, KL(p_reference || p).
    """
    log_ratio = reference_logps - logps
    return log_ratio.exp() - 1 - log_ratio


def token_entropy(logits: Tensor) -> Tensor:
    """Return the entropy (...) in nats of the distributions of logits (..., V): at 0 there is nothing left to try."""
    logps = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    return -(logps.exp() * logps).sum(dim=-1)


# ---- one number for the batch ----


def mean_of_sequences(x: Tensor, mask: Tensor) -> Tensor:
    """Return () the mean over texts of each text's mean over its tokens, as in GRPO (Shao et al. 2024, equation 3).

    A token of a long answer counts less than one of a short answer: long wrong answers are punished less a token. A
    text without an action counts as 0.
    """
    return (x.masked_fill(~mask, 0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()


def mean_of_tokens(x: Tensor, mask: Tensor) -> Tensor:
    """Return () the mean over all tokens of the batch, each of which counts the same (Yu et al. 2025, equation 8)."""
    return x.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def sum_of_tokens(x: Tensor, mask: Tensor, longest: int) -> Tensor:
    """Return () the mean over texts of each text's sum, over a constant: no length is divided by (Liu et al. 2025).

    Args:
        longest: the most tokens that an answer may have; it only sets the size of the step.
    """
    return x.masked_fill(~mask, 0).sum() / (len(x) * longest)


# ---- PPO's own parts ----


class ActorCritic(nn.Module):
    """A policy, and beside its head a second one that says how much reward is still to come (Ziegler et al. 2019)."""

    def __init__(self, policy: LanguageModel):
        super().__init__()
        self.policy = policy
        self.value_head = nn.Linear(policy.config.d_model, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids (B, T) -> logits (B, T, V) of the next token, and the value (B, T) of the text up to each."""
        hidden = self.policy.hidden(ids)  # (B, T, D)
        return self.policy.head(hidden), self.value_head(hidden).squeeze(-1)


def rewards_with_kl(scores: Tensor, logps: Tensor, reference_logps: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Return the reward (B, T) of each action: -beta log(p / p_reference), and at a text's last one its score (B,).

    Ziegler et al. 2019, equation 2. What makes the text unlike the reference's costs where it happens.
    """
    rewards = (-beta * (logps - reference_logps)).masked_fill(~mask, 0)
    steps = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * (steps + 1)).argmax(dim=1)  # (B,)
    return rewards + (steps == last[:, None]) * mask * scores[:, None]


def adapted_beta(beta: float, kl: float, target: float, gain: float = 0.1) -> float:
    """Return KL's price for the next batch: dearer if the KL was above its target (Ziegler et al. 2019, sec. 2.2)."""
    return beta * (1 + gain * max(-0.2, min(0.2, kl / target - 1)))
