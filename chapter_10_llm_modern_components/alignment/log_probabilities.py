"""How likely a model finds given texts: token by token, or an assistant's answer as a whole.
模型认为给定文本有多大可能：逐个词元，或把助手的整段回答加在一起。

Token 0 has nothing before it to be predicted from, so texts of T tokens have T - 1 log-probabilities.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.packing import Text, pack

ROW = 256  # tokens of a row, into which texts are packed


def token_logps(logits: Tensor, ids: Tensor) -> Tensor:
    """Return log p(token | all tokens before it) of all tokens but the first: (B, T-1) of (B, T, V) and (B, T).

    In at least float32, whatever the logits are in.
    """
    logits = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32))  # (B, T-1, V)
    return logits.log_softmax(dim=-1).gather(-1, ids[:, 1:, None]).squeeze(-1)  # (B, T-1)


def sequence_logps(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the log-probability (B,) of the tokens where `mask` (B, T) is True: those that the assistant wrote.

    What the user wrote, and padding, was not chosen by the model and says nothing about it. A text without an assistant
    has a log-probability of 0.
    """
    return token_logps(logits, ids).masked_fill(~mask[:, 1:], 0).sum(dim=1)


def learned_logps(model: LanguageModel, texts: Sequence[Text]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log-probabilities (B, L) of each text's learned tokens, with zeros behind the last.

    An answer is short beside its question, and questions differ in length: so texts are packed instead of padded, and
    the head, which costs as much as one and a half layers, rates nothing but what is learned.

    Returns:
        Besides these, (B, L) which of them there are, and the logits (N, V) of all N.
    """
    device, longest = model.head.weight.device, max(len(text.ids) for text in texts)
    packed = pack(texts, min(model.config.max_length, max(ROW, longest)))
    ids, targets, numbers = (x.to(device) for x in packed)  # (R, T) each
    learned = targets != IGNORED
    logits = model.head(model.hidden(ids, texts=numbers)[learned])  # (N, V)
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logps = precise.log_softmax(dim=-1).gather(-1, targets[learned][:, None]).squeeze(-1)  # (N,)
    counts = torch.tensor([sum(text.learned[1:]) for text in texts], device=device)  # (B,)
    mask = torch.arange(int(counts.max()), device=device) < counts[:, None]  # (B, L)
    return torch.zeros(mask.shape, dtype=logps.dtype, device=device).masked_scatter(mask, logps), mask, logits
