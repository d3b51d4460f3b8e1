"""What heads look at, how sharply, and how far a layer's output goes back to each token.
各个注意力头看什么、看得多集中，以及某一层的输出里各个词元各占多少。
"""

from collections.abc import Sequence

import torch
from torch import Tensor

ROLES = {  # what a head of self-attention may look for, seen from the token that asks
    "itself": "itself",
    "before": "the one before",
    "after": "the one after",
    "word": "rest of its word",
    "mark": "marks",
    "first": "the first",
    "last": "the last",
}
CROSS_ROLES = {"mark": "marks", "last": "the end"}  # what a head of cross-attention may look for


def head_roles(weights: Tensor, lengths: Tensor, words: Tensor, marks: Tensor, causal: bool = False) -> Tensor:
    """Return (7, H): the mean weight that each head of self-attention gives to the tokens of ROLES.

    A token counts for each role it plays: the first one is also the one before the second.

    Args:
        weights: (B, H, T, T); padding stands behind `lengths` (B,).
        words: (B, T), which word each token is a piece of.
        marks: (B, T), bool: punctuation.
        causal: later tokens cannot be looked at, and play no role.
    """
    n_positions = weights.shape[-1]
    position = torch.arange(n_positions, device=weights.device)
    query, key = position[:, None], position[None, :]  # (T, 1), (1, T)
    last = lengths[:, None, None] - 1  # (B, 1, 1)
    roles = [
        key == query,
        key == query - 1,
        key == query + 1,
        (words[:, :, None] == words[:, None, :]) & (key != query),
        marks[:, None, :],
        key == 0,
        key == last,
    ]
    visible = (key <= last) & ((key <= query) | (not causal))  # (B, T, T)
    keys = torch.stack([role & visible for role in roles])  # (7, B, T, T)
    return mean_weight(weights, keys, position < lengths[:, None])


def cross_roles(weights: Tensor, lengths: Tensor, source_lengths: Tensor, marks: Tensor) -> Tensor:
    """Return (2, H): the mean weight that each head of cross-attention gives to the source's marks, and to its end.

    Args:
        weights: (B, H, T, S); padding stands behind `lengths` (B,) and `source_lengths` (B,).
        marks: (B, S), bool: punctuation of the source.
    """
    (batch, _, n_queries, n_keys), device = weights.shape, weights.device
    ends = torch.arange(n_keys, device=device) == source_lengths[:, None] - 1  # (B, S)
    keys = torch.stack([marks, ends])[:, :, None, :].expand(2, batch, n_queries, n_keys)
    return mean_weight(weights, keys, torch.arange(n_queries, device=device) < lengths[:, None])


def mean_weight(weights: Tensor, keys: Tensor, queries: Tensor) -> Tensor:
    """Return (R, H): the mean weight that each head gives to each of R sets of keys.

    The mean is over the queries that have such a key: the first token has none before it, and is left out there.

    Args:
        weights: (B, H, T, S).
        keys: (R, B, T, S), bool.
        queries: (B, T), bool: those that are real.
    """
    keys = (keys & queries[:, :, None]).to(weights.dtype)
    counts = keys.amax(dim=-1).sum(dim=(1, 2))  # (R,): the queries that have such a key
    return torch.einsum("rbts,bhts->rh", keys, weights) / counts.clamp(min=1)[:, None]


def effective_tokens(weights: Tensor, queries: Tensor) -> Tensor:
    """Return (H,): at how many tokens each head looks, on average over the queries (B, T): exp(entropy) of the weights.

    1 for a head that gives all its weight to one token, n for one that gives equal weights to n.
    """
    entropy = torch.special.entr(weights).sum(dim=-1)  # (B, H, T)
    return (entropy.exp() * queries[:, None]).sum(dim=(0, 2)) / queries.sum()


def uniform(allowed: Tensor) -> Tensor:
    """Return (B, 1, T, S): the weights of a head that has learned nothing, equal wherever it may look (B, T, S)."""
    weights = allowed.float()
    return (weights / weights.sum(dim=-1, keepdim=True).clamp(min=1))[:, None]


def attention_received(weights: Tensor, with_class: bool) -> Tensor:
    """Return (B, N): how much each patch of a picture is looked at by what the class is read from.

    Args:
        weights: (B, T, T), of one layer, or `rollout`'s.
        with_class: the class is read from token 0, which is no patch, and else from the mean of all tokens.
    """
    received = weights[:, 0, 1:] if with_class else weights.mean(dim=1)  # (B, N)
    return received / received.sum(dim=1, keepdim=True)


def rollout(maps: Sequence[Tensor]) -> Tensor:
    """Return (B, T, T): how much of each position's output goes back to each token (Abnar and Zuidema 2020, section 3).

    A layer adds what its heads find to what was there: half of it is counted as the heads' mean, half as the position
    itself; the product of all layers adds up every path. Feed-forward and the sizes of values are left out of account.

    Args:
        maps: each layer's weights (B, H, T, T), the first layer first.
    """
    identity = torch.eye(maps[0].shape[-1]).to(maps[0])
    total = identity
    for weights in maps:
        total = (weights.mean(dim=1) + identity) / 2 @ total  # (B, T, T) @ (B, T, T)
    return total
