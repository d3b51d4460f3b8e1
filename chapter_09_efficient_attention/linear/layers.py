"""Layers whose past is a matrix for each head: linear attention, with gates, and with the delta rule.
以矩阵为状态的层：线性注意力，以及加门控和 delta 规则的版本。

All make queries, keys and values in the same way and differ in what a token does to the state. They read a sequence in
chunks, and go on from a state by single tokens. Since sums have no fixed size, each head's output is normalised.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_03_optimization_regularization.normalization import RMSNorm
from chapter_09_efficient_attention.kv_cache import Cache, StateCache
from chapter_09_efficient_attention.linear.chunks import at_least_float32
from chapter_09_efficient_attention.linear.delta import chunked_delta_rule
from chapter_09_efficient_attention.linear.gated import chunked_gated_attention
from chapter_09_efficient_attention.linear.kernel import chunked_linear_attention
from chapter_09_efficient_attention.rope import check_pairs, rotary


class RecurrentAttention(nn.Module):
    """Queries, keys and values of each head, a state in between, and a projection that joins the heads.

    Args:
        turned: whether q and k have rotary positions; gates and corrections tell near from far without them.

    Raises:
        ValueError: the heads cannot share the width, or rotary positions an odd head.
    """

    def __init__(self, width: int, n_heads: int, turned: bool = False):
        super().__init__()
        if width % n_heads:
            raise ValueError(f"a width of {width} cannot be shared equally by {n_heads} heads")
        if turned:
            check_pairs(width // n_heads)
        self.turned = turned
        self.n_heads = n_heads
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.norm = RMSNorm(width // n_heads)
        self.out_proj = nn.Linear(width, width, bias=False)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the heads' outputs (B, H, T, d) and the new state.

        Args:
            x: (B, T, D), from which gates are made.
            q, k, v: (B, H, T, d).
            state: that after the tokens before; None: there are none.
        """
        raise NotImplementedError

    def new_cache(self, capacity: int, make: Callable[[int], Cache] | None = None) -> Cache:
        """Return a cache for the state, which needs neither a capacity nor another kind of memory."""
        return StateCache()

    def forward(self, x: Tensor, cache: StateCache | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D); with a cache x goes on where it stopped, and the state in it is replaced."""
        heads = self.qkv_proj(x).unflatten(-1, (3 * self.n_heads, -1)).transpose(1, 2)  # (B, 3 H, T, d)
        first, state = (0, None) if cache is None else (cache.length, cache.state)
        q, k, v = heads.chunk(3, dim=1)
        if self.turned:
            q, k = rotary(q, first), rotary(k, first)
        heads, state = self.attend(x, q, k, v, state)
        if cache is not None:
            cache.replace(state, x.shape[1])
        return self.out_proj(self.norm(heads).transpose(1, 2).flatten(2))  # (B, H, T, d) -> (B, T, D)

    def per_head(self, x: Tensor) -> Tensor:
        """Turn numbers of each head (B, T, H n) into (B, H, T, n)."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class LinearAttention(RecurrentAttention):
    """A feature map's dot products in place of softmax (Katharopoulos et al. 2020; Performer: Choromanski et al. 2021).

    Args:
        features: (..., d) -> (..., m). As for softmax, q and k are turned before, and q . k is divided by sqrt(d).
    """

    def __init__(self, width: int, n_heads: int, features: Callable[[Tensor], Tensor]):
        super().__init__(width, n_heads, turned=True)
        self.features = features

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        q, k = (self.features(y * y.shape[-1] ** -0.25) for y in (q, k))  # (B, H, T, m)
        return chunked_linear_attention(q, k, v, state)


class Retention(RecurrentAttention):
    """Each head forgets at a pace of its own, 1/32 of the state a token, 1/64, ... (Sun et al. 2023, equation 8)."""

    def __init__(self, width: int, n_heads: int):
        super().__init__(width, n_heads, turned=True)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        gate = 1 - 2.0 ** (-5 - torch.arange(self.n_heads, dtype=torch.float64))  # (H,)
        log_gate = gate.log().to(q)[:, None, None].expand(len(q), -1, q.shape[2], 1)  # (B, H, T, 1)
        return chunked_gated_attention(q, k, v, log_gate, state, chunk_size=32)


class GatedLinearAttention(RecurrentAttention):
    """A gate for each channel, made from the token by way of 16 numbers (Yang et al. 2024, section 4.4).

    The 16th root of a sigmoid is 0.96 where the sigmoid is 1/2: at the start little is forgotten.
    """

    def __init__(self, width: int, n_heads: int):
        super().__init__(width, n_heads)
        self.gate = nn.Sequential(nn.Linear(width, 16, bias=False), nn.Linear(16, width))

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        log_gate = F.logsigmoid(self.per_head(at_least_float32(self.gate(x)))) / 16  # (B, H, T, d)
        return chunked_gated_attention(q, k, v, log_gate, state, chunk_size=8)


class StepSize(nn.Module):
    """Mamba's step dt and what it leaves of the state, a = e^(-A dt), one of each for a token and head.

    dt = softplus(w . x + b): a small step keeps the past and adds little, a large one replaces it. A starts between 1
    and 16, dt between 0.001 and 0.1 (Dao & Gu 2024, section 7; the values are their code's).
    """

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.proj = nn.Linear(width, n_heads)
        self.log_decay = nn.Parameter(torch.empty(n_heads).uniform_(1, 16).log())
        dt = torch.empty(n_heads).uniform_(math.log(0.001), math.log(0.1)).exp()
        nn.init.zeros_(self.proj.weight)
        with torch.no_grad():
            self.proj.bias.copy_(dt.expm1().log())  # the inverse of softplus

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, D) -> dt and log a, both (B, H, T, 1)."""
        dt = F.softplus(at_least_float32(self.proj(x))).mT[..., None]  # (B, T, H) -> (B, H, T, 1)
        return dt, -self.log_decay.exp()[:, None, None] * dt


class Mamba2Attention(RecurrentAttention):
    """One gate for a token and head, which also weighs what the token adds (Mamba-2: Dao & Gu 2024, section 5).

    The recurrence of Mamba-2 in this chapter's layer; its own block has a wider one, a convolution and an output gate.
    """

    def __init__(self, width: int, n_heads: int):
        super().__init__(width, n_heads)
        self.step = StepSize(width, n_heads)

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        dt, log_gate = self.step(x)
        return chunked_gated_attention(q, dt * k, v, log_gate, state, chunk_size=32)


class DeltaRule(RecurrentAttention):
    """The state is corrected, key by key, at a learned rate (DeltaNet: Yang et al. 2024); `gated`, it also forgets.

    Args:
        gated: with Mamba-2's gate (gated DeltaNet: Yang et al. 2025).
        max_rate: the learning rate lies between 0 and this; up to 2 a step amplifies nothing that is stored, and
            above 1 a key's answer can change its sign (Grazzi et al. 2025).
    """

    def __init__(self, width: int, n_heads: int, gated: bool = False, max_rate: float = 1.0):
        super().__init__(width, n_heads)
        self.max_rate = max_rate
        self.rate = nn.Linear(width, n_heads)
        self.step = StepSize(width, n_heads) if gated else None

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        q, k = F.normalize(q, dim=-1), F.normalize(at_least_float32(k), dim=-1)  # keys longer than 1 would amplify
        beta = self.max_rate * at_least_float32(self.rate(x)).sigmoid().mT[..., None]  # (B, T, H) -> (B, H, T, 1)
        log_gate = torch.zeros_like(beta) if self.step is None else self.step(x)[1]
        return chunked_delta_rule(q, k, v, beta, log_gate, state)
