"""How likely a model finds given texts: token by token, or an assistant's answer as a whole.
模型认为给定文本有多大可能：逐个词元，或把助手的整段回答加在一起。

Token 0 has nothing before it to be predicted from, so texts of T tokens have T - 1 log-probabilities.
"""

import torch
from torch import Tensor


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
