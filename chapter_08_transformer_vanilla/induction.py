"""Two layers of attention that go on with what they have read once before, built by hand.
手工搭出的两层注意力：读到重复的内容，就照着上一次接下去。

A trained decoder has heads that do this, induction heads (Olsson et al. 2022). The stream holds three parts:

    token (V)   which token stands here; behind the second layer, also which one comes next
    before (V)  which token stood before it, as the first layer notes it down
    position (T)   where it stands
"""

import torch
from torch import Tensor, nn

from chapter_08_transformer_vanilla.layers import DecoderLayer

FIT, NOTHING, LOUDNESS = 20.0, 10.0, 3.0  # scores of what fits and of position 0; how much louder the answer is


def copying_stream(tokens: list[int], n_tokens: int) -> Tensor:
    """Return (1, T, 2V + T), float64: what the first layer reads. Token 0 stands at position 0 and says nothing."""
    token = nn.functional.one_hot(torch.tensor(tokens), n_tokens).double()  # (T, V)
    position = torch.eye(len(tokens), dtype=torch.float64)
    return torch.cat([token, torch.zeros_like(token), position], dim=1)[None]


@torch.no_grad()
def copying_layers(n_tokens: int, n_positions: int) -> list[DecoderLayer]:
    """Return the two layers: attention of one head, no norms, a feed-forward network that adds nothing."""
    width = 2 * n_tokens + n_positions
    rows = torch.eye(width, dtype=torch.float64)  # (D, D)
    token, before, position = rows.split([n_tokens, n_tokens, n_positions])  # (V, D), (V, D), (T, D)
    sharp = FIT * width**0.5  # attention divides by sqrt(D)

    looks_back, asks_who_follows = (DecoderLayer(width, 1, 1, dropout=0.0, cross=False).double() for _ in range(2))
    for layer in (looks_back, asks_who_follows):
        layer.norm1, layer.norm3 = nn.Identity(), nn.Identity()
        layer.feed_forward.linear2.weight.zero_()
        layer.self_attention.out_proj.weight.copy_(torch.eye(width))

    query = sharp * position[:-1].T @ position[1:]  # (D, T-1) @ (T-1, D) -> (D, D): from position t to position t - 1
    value = before.T @ token  # (D, V) @ (V, D) -> (D, D)
    looks_back.self_attention.in_proj_weight.copy_(torch.cat([query, position.T @ position, value]))

    query = sharp * before.T @ token  # my token is sought among those that stood before
    value = LOUDNESS * token[1:].T @ token[1:]  # all tokens but 0
    keys = before.T @ before + torch.outer(position[0], position[0])
    asks_who_follows.self_attention.in_proj_weight.copy_(torch.cat([query, keys, value]))
    asks_who_follows.self_attention.in_proj_bias[:width] = NOTHING / FIT * sharp * position[0]
    return [looks_back, asks_who_follows]
