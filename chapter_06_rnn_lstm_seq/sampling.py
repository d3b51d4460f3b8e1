"""How the next token is chosen from a model's logits: temperature, the k likeliest, or the likeliest that make up p.
如何从模型输出中选取下一个词元：温度、top-k 与 top-p。
"""

import math

import torch
from torch import Tensor

COLDEST = 1e-30  # logits divided by less could be infinite; long before that only the best is left


def with_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Return logits / temperature: below 1 likely tokens gain, above 1 unlikely ones do; at 0 only the best is left.

    Raises:
        ValueError: a temperature below 0.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"a temperature is a finite number of at least 0, not {temperature}")
    if temperature < COLDEST:
        return keep_top_k(logits, 1)
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits (..., V) to -inf; of equals the first stay. `k` above V keeps all.

    Raises:
        ValueError: k below 1.
    """
    if k < 1:
        raise ValueError(f"top-k keeps at least one token, not {k}")
    rank = _ranks(logits)
    return logits.masked_fill(rank >= k, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Set all logits (..., V) to -inf but those of the fewest likeliest tokens whose probabilities sum to at least p.

    Nucleus sampling (Holtzman et al. 2020, eq. 2). At least one token stays.

    Raises:
        ValueError: p outside of (0, 1].
    """
    if not 0 < p <= 1:
        raise ValueError(f"top-p keeps a share in (0, 1], not {p}")
    if p == 1:
        return logits
    ordered, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered  # the probability of all likelier tokens
    drop = torch.empty_like(order, dtype=torch.bool).scatter_(-1, order, before >= p)  # the first has nothing before it
    return logits.masked_fill(drop, -math.inf)


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw tokens (...) from logits (..., V): first the temperature, then the k largest, then the share p of those."""
    logits = with_temperature(logits, temperature)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    p = logits.softmax(-1)
    return torch.multinomial(p.reshape(-1, p.shape[-1]), 1, generator=generator).view(p.shape[:-1])


def _ranks(logits: Tensor) -> Tensor:
    """Return each logit's place from the largest (0) to the smallest, (..., V)."""
    order = logits.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(logits.shape[-1], device=logits.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)
