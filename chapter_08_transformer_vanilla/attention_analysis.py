"""What heads look at, and how far a layer's output goes back to each token.
各个注意力头看什么，以及某层的输出可以追溯到每个词元多少。
"""

from collections.abc import Sequence

import torch
from torch import Tensor

ROLES = ["itself", "the one before", "the one after", "the first", "the last"]


def head_roles(weights: Tensor, lengths: Tensor) -> Tensor:
    """Return (5, H): the mean weight that each head gives to the tokens of ROLES.

    A token counts for each role it plays: the first one is also the one before the second. The mean is over all real
    queries; one that has no token in that role, as the first has none before it, is left out.

    Args:
        weights: (B, H, T, T), of self-attention; padding behind `lengths` (B,).
    """
    n_places = weights.shape[-1]
    place = torch.arange(n_places, device=weights.device)
    query, key = place[:, None], place[None, :]  # (T, 1), (1, T)
    last = lengths[:, None, None] - 1  # (B, 1, 1)
    roles = torch.stack(
        [
            (key == query).expand(len(lengths), -1, -1),
            (key == query - 1).expand(len(lengths), -1, -1),
            (key == query + 1) & (key <= last),
            (key == 0).expand(len(lengths), n_places, n_places),
            (key == last).expand(-1, n_places, -1),
        ]
    )  # (5, B, T, T)
    roles = (roles & (query <= last)).to(weights.dtype)
    counts = roles.amax(dim=-1).sum(dim=(1, 2))  # (5,): the queries that have such a token
    return torch.einsum("rbts,bhts->rh", roles, weights) / counts[:, None]


def rollout(maps: Sequence[Tensor]) -> Tensor:
    """Return (B, T, T): how much of each place's output goes back to each token (Abnar and Zuidema 2020, section 3).

    A layer adds what its heads find to what was there: half of it is counted as the heads' mean, half as the place
    itself; the product of all layers adds up every path. Feed-forward and the sizes of values are left out of account.

    Args:
        maps: each layer's weights (B, H, T, T), the first layer first.
    """
    identity = torch.eye(maps[0].shape[-1]).to(maps[0])
    total = identity
    for weights in maps:
        total = (weights.mean(dim=1) + identity) / 2 @ total  # (B, T, T) @ (B, T, T)
    return total
