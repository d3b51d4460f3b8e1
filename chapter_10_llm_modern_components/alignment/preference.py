"""Learning from preferences without a reward model: DPO, and SimPO, which needs no reference model either.
不用奖励模型，直接从偏好中学习：DPO，以及连参考模型也不要的 SimPO。

All log-probabilities (N,) are those of whole answers, see log_probabilities.py; N pairs of a chosen and a rejected one.
"""

from torch import Tensor

from chapter_10_llm_modern_components.alignment.reward_model import bradley_terry_loss


def implicit_reward(logps: Tensor, reference_logps: Tensor, beta: float) -> Tensor:
    """Return beta log(p(answer) / p_reference(answer)), (N,): the reward for which this policy would be the best one.

    Up to a number that depends on the question alone, and cancels between two answers to it (Rafailov et al. 2023,
    equation 5).
    """
    return beta * (logps - reference_logps)


def dpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float = 0.1
) -> Tensor:
    """Return the Bradley-Terry loss () of the implicit rewards (Rafailov et al. 2023, equation 7).

    Before the first step policy and reference are one, all rewards 0, and the loss is ln 2.

    Args:
        beta: how dear it is to move away from the reference; the smaller, the further the policy may go.
    """
    return bradley_terry_loss(
        implicit_reward(chosen, reference_chosen, beta), implicit_reward(rejected, reference_rejected, beta)
    )


def simpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    n_chosen: Tensor,
    n_rejected: Tensor,
    beta: float = 2.0,
    gamma: float = 1.0,
) -> Tensor:
    """Return the Bradley-Terry loss () of mean log-probabilities a token (Meng et al. 2024, equation 6).

    No reference holds the policy, and a sum would favour short answers: so each is divided by its tokens.

    Args:
        n_chosen, n_rejected: tokens of each answer (N,), at least 1.
        gamma: by how much a chosen answer's reward should exceed the rejected one's.
    """
    return bradley_terry_loss(beta * chosen / n_chosen, beta * rejected / n_rejected, margin=gamma)
