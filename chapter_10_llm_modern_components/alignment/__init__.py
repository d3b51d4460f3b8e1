"""Learning from what people or programs prefer: log-probabilities, reward model, DPO and SimPO, PPO and GRPO.
从人或程序的偏好中学习：对数概率、奖励模型、DPO 与 SimPO、PPO 与 GRPO。
"""

from chapter_10_llm_modern_components.alignment.log_probabilities import learned_logps, sequence_logps, token_logps
from chapter_10_llm_modern_components.alignment.policy import (
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
    whiten,
)
from chapter_10_llm_modern_components.alignment.preference import dpo_loss, implicit_reward, simpo_loss
from chapter_10_llm_modern_components.alignment.reward_model import (
    AdaptedJudge,
    RewardModel,
    bradley_terry_loss,
    pair_accuracy,
)

__all__ = [
    "ActorCritic",
    "AdaptedJudge",
    "RewardModel",
    "adapted_beta",
    "bradley_terry_loss",
    "clipped_losses",
    "clipped_value_losses",
    "dpo_loss",
    "gae",
    "group_advantages",
    "implicit_reward",
    "kl_k3",
    "learned_logps",
    "mean_of_sequences",
    "mean_of_tokens",
    "pair_accuracy",
    "rewards_with_kl",
    "sequence_logps",
    "simpo_loss",
    "sum_of_tokens",
    "token_entropy",
    "token_logps",
    "whiten",
]
