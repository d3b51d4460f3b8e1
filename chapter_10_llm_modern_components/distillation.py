"""Distillation: a small model learns from a large one's probabilities, which say more than the right answer alone.
知识蒸馏：小模型学习大模型的概率分布，它比正确答案本身包含更多信息。
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_06_rnn_lstm_seq.sampling import with_temperature


def token_kl(p_logits: Tensor, q_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(p || q) (...) of the distributions at a temperature, from logits (..., V), in at least float32.

    With the teacher as p the student must find likely all that the teacher does; with the student as p it must leave
    out what the teacher finds unlikely, which suits texts that the student wrote itself (Agarwal et al. 2024).
    """
    precise = torch.promote_types(p_logits.dtype, torch.float32)
    p, q = (with_temperature(t.to(precise), temperature).log_softmax(dim=-1) for t in (p_logits, q_logits))
    return (p.exp() * (p - q)).sum(dim=-1)


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, mask: Tensor, temperature: float = 2.0, soft_weight: float = 0.9
) -> Tensor:
    """Return () the teacher's softened probabilities' part and the labels' part (Hinton et al. 2015, section 2).

    At temperature tau gradients are about 1 / tau^2 as large: so much more the soft part counts, and `soft_weight`
    means the same at each temperature.

    Args:
        student, teacher: logits (B, T, V); nothing is learned by the teacher.
        labels: (B, T), the token that follows each.
        mask: (B, T), True where it counts; at least once.
        soft_weight: from 0, labels alone, to 1, the teacher alone.
    """
    student, teacher, labels = student[mask], teacher.detach()[mask], labels[mask]  # (N, V), (N, V), (N,)
    soft = temperature**2 * token_kl(teacher, student, temperature).mean()
    return soft_weight * soft + (1 - soft_weight) * F.cross_entropy(student, labels)
