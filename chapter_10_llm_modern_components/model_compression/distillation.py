"""Distillation: a small model learns from a large one's probabilities, which say more than the right answer alone.
知识蒸馏：小模型学习大模型的概率分布，它比正确答案本身包含更多信息。
"""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_06_rnn_lstm_seq.sampling import with_temperature
from chapter_10_llm_modern_components.model import LanguageModel


def with_fewer_layers(model: LanguageModel, n_layers: int) -> LanguageModel:
    """Return a copy that has only so many of the layers, evenly spaced from the first on (Sanh et al. 2019, section 3).

    It does badly, but begins with all that the others knew; training it mends what is missing between them.

    Raises:
        ValueError: the model has no more than so many.
    """
    if n_layers >= model.config.n_layers:
        raise ValueError(f"a student has fewer layers than its teacher's {model.config.n_layers}, not {n_layers}")
    student = deepcopy(model)
    chosen = torch.linspace(0, model.config.n_layers - 1, n_layers).round().int().tolist()
    student.blocks = nn.ModuleList(student.blocks[i] for i in chosen)
    student.config = replace(model.config, n_layers=n_layers)
    return student


def token_kl(p_logits: Tensor, q_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(p || q) (...) of the distributions at a temperature, from logits (..., V), in at least float32.

    With the teacher as p the student must find likely all that the teacher does; with the student as p it must leave
    out what the teacher finds unlikely, which suits texts that the student wrote itself (Agarwal et al. 2024).
    """
    precise = torch.promote_types(p_logits.dtype, torch.float32)
    p, q = (with_temperature(t.to(precise), temperature).log_softmax(dim=-1) for t in (p_logits, q_logits))
    return (p.exp() * (p - q)).sum(dim=-1)


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 2.0, soft_weight: float = 0.9
) -> Tensor:
    """Return () the teacher's softened probabilities' part and the labels' part (Hinton et al. 2015, section 2).

    At temperature tau gradients are about 1 / tau^2 as large: so much more the soft part counts, and `soft_weight`
    means the same at each temperature.

    Args:
        student, teacher: logits (N, V) of all tokens that count; nothing is learned by the teacher.
        labels: (N,), the token that comes.
        soft_weight: from 0, labels alone, to 1, the teacher alone.
    """
    student = student.to(torch.promote_types(student.dtype, torch.float32))
    soft = temperature**2 * token_kl(teacher.detach(), student, temperature).mean()
    return soft_weight * soft + (1 - soft_weight) * F.cross_entropy(student, labels)
