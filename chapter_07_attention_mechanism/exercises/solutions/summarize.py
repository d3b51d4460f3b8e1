"""Solution: unknown words are appended to the vocabulary, and weights are scattered to the words that they lie on.
解答：把未知词接在词表之后，再把注意力权重散布相加到对应的词上。
"""

import torch
from torch import Tensor


def extend(words: list[str], vocabulary: dict[str, int]) -> tuple[list[int], list[str]]:
    """Return the number of each word, and the unknown words."""
    unknown = list(dict.fromkeys(word for word in words if word not in vocabulary))
    numbers = vocabulary | {word: len(vocabulary) + i for i, word in enumerate(unknown)}
    return [numbers[word] for word in words], unknown


def copy_distribution(own: Tensor, weights: Tensor, gate: Tensor, numbers: Tensor, n_unknown: int) -> Tensor:
    """own (T, V), weights (T, S), gate (T, 1), numbers (S,) -> (T, V + n_unknown)."""
    wide = torch.cat([gate * own, own.new_zeros(len(own), n_unknown)], dim=1)  # (T, V + U)
    return wide.scatter_add(1, numbers.expand_as(weights), (1 - gate) * weights)
