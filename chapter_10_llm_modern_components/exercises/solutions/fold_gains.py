"""Solution: W (gamma * y) = (W diag(gamma)) y, so each column of W takes the gain of the number that it reads.
解答：W (gamma * y) = (W diag(gamma)) y，所以 W 的每一列乘上它所读的那个数的增益。
"""

import torch
from torch import nn

from chapter_10_llm_modern_components.model import LanguageModel


@torch.no_grad()
def fold_(norm: nn.Module, linear: nn.Linear) -> None:
    """Multiply the columns of a matrix (O, D) by the gains (D), which become 1."""
    linear.weight.mul_(norm.weight)
    norm.weight.fill_(1)


def fold_gains_(model: LanguageModel) -> None:
    """Fold all gains but those in front of a matrix that embeds tokens as well."""
    for block in model.blocks:
        fold_(block.norm1, block.attention.qkv_proj)
        fold_(block.norm2, block.feed_forward.gate_up_proj)
    if not model.config.tied:
        fold_(model.norm, model.head)
