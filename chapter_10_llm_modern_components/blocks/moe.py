"""A mixture of experts: many feed-forward networks, of which a router picks a few for each token.
混合专家：有许多前馈网络，由路由器为每个词元挑选其中几个。

The model has the weights of all experts, but a token pays for those that it is sent to. Nothing by itself makes the
router use them all: the ones that are better at first get more tokens, learn more, and get still more. `balance_loss`
works against that.
"""

import torch
from torch import Tensor, nn

from chapter_10_llm_modern_components.blocks.feed_forward import SwiGLU


def balance_loss(p: Tensor, chosen: Tensor) -> Tensor:
    """Return E sum_i f_i P_i: 1 where all E experts get equally much, up to E where one gets all (Fedus et al. 2022).

    f_i is the share of the choices that fell on expert i, P_i its mean probability (equations 4 to 6). The f cannot be
    differentiated, but they say which of the P are to shrink.

    Args:
        p, chosen: (N, E) and (N, k): each token's probabilities, and the experts that it goes to.
    """
    n_experts = p.shape[1]
    f = chosen.flatten().bincount(minlength=n_experts) / chosen.numel()  # (E,)
    return n_experts * (f * p.mean(dim=0)).sum()


class MixtureOfExperts(nn.Module):
    """y = sum of w_i expert_i(x) over the k likeliest experts, whose probabilities w are scaled to add up to 1.

    Jiang et al. 2024 (Mixtral), section 2.1. In training `balance` holds the last batch's `balance_loss`.

    Raises:
        ValueError: a token cannot be sent to more experts than there are, or to none.
    """

    def __init__(self, d_model: int, d_ff: int, n_experts: int, n_active: int, bias: bool = False):
        super().__init__()
        if not 1 <= n_active <= n_experts:
            raise ValueError(f"a token cannot be sent to {n_active} of {n_experts} experts")
        self.n_active = n_active
        self.router = nn.Linear(d_model, n_experts, bias=False)
        self.experts = nn.ModuleList(SwiGLU(d_model, d_ff, bias) for _ in range(n_experts))
        self.balance: Tensor | None = None

    def route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return for tokens (N, D) the weights (N, k) of the experts that they go to, and which these are (N, k)."""
        logits = self.router(tokens)  # (N, E)
        p = logits.softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        weights, chosen = p.topk(self.n_active, dim=-1)  # (N, k) each
        self.balance = balance_loss(p, chosen) if self.training else None
        return weights / weights.sum(dim=-1, keepdim=True), chosen

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., D).

        The N k pairs of a token and an expert are sorted by expert, so that each expert reads its tokens in one piece.
        """
        tokens = x.reshape(-1, x.shape[-1])  # (N, D)
        weights, chosen = self.route(tokens)
        order = chosen.flatten().argsort(stable=True)  # (N k,)
        counts = chosen.flatten().bincount(minlength=len(self.experts)).tolist()
        token = order // self.n_active  # (N k,): whose turn it is
        parts = tokens[token].split(counts)  # E of (n_i, D)
        outputs = torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True) if len(part)])
        weighted = (outputs * weights.flatten()[order, None]).to(x.dtype)  # (N k, D)
        return torch.zeros_like(tokens).index_add(0, token, weighted).view_as(x)
