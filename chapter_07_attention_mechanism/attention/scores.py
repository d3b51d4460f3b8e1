"""How well a query fits a key: the scores of Bahdanau (2015) and Luong (2015), and attention with any of them.
查询与键有多匹配：Bahdanau（2015）与 Luong（2015）的打分函数，以及使用任意打分函数的注意力。
"""

import torch
from torch import Tensor, nn

from chapter_07_attention_mechanism.attention.scaled_dot_product import masked_softmax


class AdditiveScore(nn.Module):
    """score(q, k) = v . tanh(W q + U k + b): a network of one hidden layer (Bahdanau et al. 2015, appendix A.1.2)."""

    def __init__(self, query_size: int, key_size: int, hidden_size: int):
        super().__init__()
        self.query = nn.Linear(query_size, hidden_size, bias=False)
        self.key = nn.Linear(key_size, hidden_size)
        self.v = nn.Linear(hidden_size, 1, bias=False)

    def prepare(self, keys: Tensor) -> Tensor:
        """Return of the keys (B, S, D_k) what does not depend on the query, (B, S, D_h)."""
        return self.key(keys)

    def forward(self, queries: Tensor, prepared: Tensor) -> Tensor:
        """Return the scores (B, T, S) of the queries (B, T, D_q)."""
        hidden = torch.tanh(self.query(queries)[:, :, None] + prepared[:, None])  # (B, T, 1, D_h) + (B, 1, S, D_h)
        return self.v(hidden)[..., 0]  # (B, T, S)


class DotScore(nn.Module):
    """score(q, k) = q . k: no parameters; both have the same width (Luong et al. 2015, section 3.1, "dot").

    Every score is made with the same three sizes; this one and the next have no hidden layer.
    """

    def __init__(self, query_size: int, key_size: int, hidden_size: int | None = None):
        super().__init__()
        if query_size != key_size:
            raise ValueError(f"a dot product needs equal widths: the query has {query_size}, the key {key_size}")

    def prepare(self, keys: Tensor) -> Tensor:
        return keys  # (B, S, D)

    def forward(self, queries: Tensor, prepared: Tensor) -> Tensor:
        return queries @ prepared.transpose(1, 2)  # (B, T, D) @ (B, D, S) -> (B, T, S)


class GeneralScore(nn.Module):
    """score(q, k) = q . W k: the dot product after a linear map (Luong et al. 2015, section 3.1, "general")."""

    def __init__(self, query_size: int, key_size: int, hidden_size: int | None = None):
        super().__init__()
        self.key = nn.Linear(key_size, query_size, bias=False)

    def prepare(self, keys: Tensor) -> Tensor:
        return self.key(keys)  # (B, S, D_q)

    def forward(self, queries: Tensor, prepared: Tensor) -> Tensor:
        return queries @ prepared.transpose(1, 2)  # (B, T, D_q) @ (B, D_q, S) -> (B, T, S)


class ConcatScore(nn.Module):
    """score(q, k) = v . tanh(W [q; k]) (Luong et al. 2015, section 3.1, "concat").

    W [q; k] = W_q q + W_k k, so this is the additive score without its bias, W written as one matrix.
    """

    def __init__(self, query_size: int, key_size: int, hidden_size: int):
        super().__init__()
        self.sizes = query_size, key_size
        self.both = nn.Linear(query_size + key_size, hidden_size, bias=False)
        self.v = nn.Linear(hidden_size, 1, bias=False)

    def prepare(self, keys: Tensor) -> Tensor:
        return keys @ self.both.weight[:, self.sizes[0] :].T  # (B, S, D_k) @ (D_k, D_h) -> (B, S, D_h)

    def forward(self, queries: Tensor, prepared: Tensor) -> Tensor:
        projected = queries @ self.both.weight[:, : self.sizes[0]].T  # (B, T, D_q) @ (D_q, D_h) -> (B, T, D_h)
        return self.v(torch.tanh(projected[:, :, None] + prepared[:, None]))[..., 0]  # (B, T, S)


SCORES = {"additive": AdditiveScore, "dot": DotScore, "luong": GeneralScore, "concat": ConcatScore}


class Attention(nn.Module):
    """Attention with a score of one's choice: the context is the mean of the values, weighted by softmax(scores)."""

    def __init__(self, score: nn.Module):
        super().__init__()
        self.score = score

    def prepare(self, values: Tensor) -> Tensor:
        """Return what does not depend on the queries, for calls that share the values."""
        return self.score.prepare(values)

    def forward(
        self, queries: Tensor, values: Tensor, mask: Tensor | None = None, prepared: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return contexts (B, T, D_v) and weights (B, T, S) for queries (B, T, D_q) over values (B, S, D_v).

        Args:
            mask: broadcastable to (B, T, S), as in `masked_softmax`.
            prepared: `prepare(values)`; None: computed here.
        """
        prepared = self.prepare(values) if prepared is None else prepared
        weights = masked_softmax(self.score(queries, prepared), mask)
        return weights @ values, weights  # (B, T, S) @ (B, S, D_v) -> (B, T, D_v)
