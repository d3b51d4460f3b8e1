"""Scaled dot-product attention: a lookup that returns, instead of one value, the mean of all, weighted by fit.
缩放点积注意力：一种查表，返回的不是某一个值，而是所有值按匹配程度加权的平均。
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention.masks import causal_mask


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Turn scores (..., T, S) into weights (..., T, S) that are 0 where the mask forbids, and otherwise add up to 1.

    A query that may see no key gets weights of 0, and so a mean of 0: there is nothing to look at.

    Args:
        mask: broadcastable to the scores: bool, True where a query may look, or float, added to the scores.
    """
    if mask is None:
        return scores.softmax(dim=-1)
    if mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    else:
        scores = scores + mask
    fully_masked = (scores == -math.inf).all(dim=-1, keepdim=True)  # (..., T, 1)
    return scores.masked_fill(fully_masked, 0.0).softmax(dim=-1).masked_fill(fully_masked, 0.0)


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return softmax(q k^T / sqrt(d)) v and the weights (Vaswani et al. 2017, equation 1).

    Args:
        q, k, v: (..., T, d), (..., S, d), (..., S, d_v).
        mask: as in `masked_softmax`.
        dropout: the share of the weights that are set to 0, for training; the weights returned are those before.
        scale: of the dot products; None: 1 / sqrt(d).

    Returns:
        The means (..., T, d_v), the weights (..., T, S).
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = scale * (q @ k.transpose(-2, -1))  # (..., T, d) @ (..., d, S) -> (..., T, S)
    weights = masked_softmax(scores, mask)
    return F.dropout(weights, dropout) @ v, weights  # (..., T, S) @ (..., S, d_v) -> (..., T, d_v)


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False
) -> Tensor:
    """Return the means (..., T, d_v) of `scaled_dot_product_attention`, by PyTorch's kernel, which keeps no weights.

    Args:
        causal: instead of a mask, and for as many queries as keys: as under `causal_mask`, but the kernel leaves out
            what the mask would forbid, half of the scores.
    """
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
    mask, fully_masked = unmask_empty_rows(mask)  # some versions of the kernel return NaN for these
    return F.scaled_dot_product_attention(q, k, v, mask, dropout).masked_fill(fully_masked, 0.0)


def batched_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False
) -> Tensor:
    """Return what `fused_attention` does, by two products over all sequences and heads, with all weights in memory.

    In bfloat16 on a CPU PyTorch's kernel (2.14) takes several times as long for 16 to 64 tokens, and longer up to 512;
    but it keeps the scores in float32, while here they are rounded. Scale and mask take one pass over them.
    """
    scores, scale = q @ k.transpose(-2, -1), 1 / math.sqrt(q.shape[-1])  # (..., T, d) @ (..., d, S) -> (..., T, S)
    fully_masked = None
    if causal:
        mask = causal_mask(q.shape[-2], device=q.device)
    elif mask is not None:
        mask, fully_masked = unmask_empty_rows(mask)
    if mask is None:
        scores = scale * scores
    else:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -math.inf)
        scores = torch.add(mask.to(scores.dtype), scores, alpha=scale)
    means = F.dropout(scores.softmax(dim=-1), dropout) @ v  # (..., T, S) @ (..., S, d_v) -> (..., T, d_v)
    return means if fully_masked is None else means.masked_fill(fully_masked, 0.0)


def unmask_empty_rows(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Let queries that may see no key see all; return that mask, and (..., T, 1): the queries whose mean is to be 0."""
    allowed = mask if mask.dtype == torch.bool else mask != -math.inf
    fully_masked = ~allowed.any(dim=-1, keepdim=True)  # (..., T, 1)
    mask = mask | fully_masked if mask.dtype == torch.bool else mask.masked_fill(fully_masked, 0.0)
    return mask, fully_masked


def local_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Return the means of `scaled_dot_product_attention` under `local_mask(T, window)`, from about 3 T window scores.

    The sequence is cut into blocks as long as the window. A block's queries see no further than the blocks on either
    side, so they are compared with the keys of three blocks, and of these scores the mask keeps the near ones (Beltagy
    et al. 2020, section 3.1).

    Args:
        q, k, v: (..., T, d), (..., T, d), (..., T, d_v).

    Returns:
        (..., T, d_v).
    """
    length, w = q.shape[-2], max(window, 1)
    n_blocks = -(-length // w)
    missing = n_blocks * w - length
    q = F.pad(q, (0, 0, 0, missing)).unflatten(-2, (n_blocks, w))  # (..., n, w, d)
    k, v = (F.pad(x, (0, 0, w, missing + w)).unfold(-2, 3 * w, w) for x in (k, v))  # (..., n, d, 3 w)
    scores = q @ k / math.sqrt(q.shape[-1])  # (..., n, w, d) @ (..., n, d, 3 w) -> (..., n, w, 3 w)
    place = torch.arange(-w, 2 * w, device=q.device) + w * torch.arange(n_blocks, device=q.device)[:, None]  # (n, 3 w)
    near = (torch.arange(-w, 2 * w, device=q.device) - torch.arange(w, device=q.device)[:, None]).abs() <= window
    weights = masked_softmax(scores, near & (place >= 0)[:, None] & (place < length)[:, None])
    means = weights @ v.transpose(-2, -1)  # (..., n, w, 3 w) @ (..., n, 3 w, d_v) -> (..., n, w, d_v)
    return means.flatten(-3, -2)[..., :length, :]
