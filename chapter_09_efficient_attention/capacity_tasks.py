"""Two tasks that ask what a memory can hold: recalling pairs, and keeping count of parity.
检验记忆能力的两个任务：回忆键值对，以及跟踪奇偶性。

Each function draws a batch of inputs and targets (B, T); where nothing is to be answered the target is IGNORED.
"""

import torch
from torch import Tensor

IGNORED = -100  # what `F.cross_entropy` leaves out


def recall_batch(
    batch_size: int, n_pairs: int, n_keys: int, n_values: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw multi-query associative recall (Arora et al. 2024, Zoology): "a 7 c 9 b 2", then "b c a", asks for 2 9 7.

    Keys are the tokens from 0, no two of a sequence the same, and values the `n_values` tokens after the keys. First
    come the pairs, then each key once more, in another order; its value is the target there. T is 3 n_pairs.

    Raises:
        ValueError: there are fewer keys than pairs.
    """
    if n_keys < n_pairs:
        raise ValueError(f"{n_pairs} pairs need as many different keys: there are {n_keys}")
    keys = torch.rand(batch_size, n_keys, generator=generator).argsort(dim=1)[:, :n_pairs]  # (B, N)
    values = n_keys + torch.randint(n_values, (batch_size, n_pairs), generator=generator)  # (B, N)
    order = torch.rand(batch_size, n_pairs, generator=generator).argsort(dim=1)  # (B, N)
    pairs = torch.stack([keys, values], dim=2).flatten(1)  # (B, N, 2) -> (B, 2 N)
    inputs = torch.cat([pairs, keys.gather(1, order)], dim=1)  # (B, 3 N)
    targets = torch.cat([torch.full_like(pairs, IGNORED), values.gather(1, order)], dim=1)  # (B, 3 N)
    return inputs, targets


def parity_batch(batch_size: int, length: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw bits (B, T); the target at each place is whether the ones so far are odd in number."""
    bits = torch.randint(2, (batch_size, length), generator=generator)
    return bits, bits.cumsum(dim=1) % 2


def guessed_recall(targets: Tensor) -> float:
    """Return the share of right answers of who always says the sequence's most frequent value; targets (B, T)."""
    rows = [row[row != IGNORED] for row in targets]
    return sum((row == row.mode().values).sum().item() for row in rows) / sum(map(len, rows))
