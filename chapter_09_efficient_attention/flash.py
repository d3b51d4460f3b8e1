"""Flash attention: softmax attention tile by tile, so that the N x N scores never exist in memory.
FlashAttention：分块计算 softmax 注意力，N×N 的分数矩阵从不完整出现在内存里。

Softmax seems to need a whole row of scores, for its sum. But the sum can be made up as tiles of keys come along, with
m the largest score so far, l the sum of e^(s - m) and o that of e^(s - m) v. A new tile may raise m to m', and then
what was summed before is multiplied by e^(m - m'): the online softmax (m and l: Milakov & Gimelshein 2018, algorithm 3;
o: Rabe & Staats 2021).

    forward     Dao 2023, algorithm 1    keeps the output o / l and the logarithm m + log l of each row's sum
    backward    Dao 2023, algorithm 2    computes the scores again from these, tile by tile

Both loop over blocks of queries, and for each over the keys. So does algorithm 1, an order that Tillet's Triton code
had first; Dao et al. 2022 have the keys outside, and so has algorithm 2, for a GPU shares out the outer loop.

On a GPU one kernel does all this in fast memory, which is what makes it fast. Here it is plain PyTorch: it saves memory
and what a mask hides.
在 GPU 上，这一切由一个内核在高速内存里完成，所以快；这里用普通 PyTorch 写成，省下的是内存，以及被掩码遮住的那些块。
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chapter_09_efficient_attention.grouped import GroupedAttention, over_groups
from chapter_09_efficient_attention.kv_cache import Cache

TILE = 128  # queries, and keys, of a tile


class Sight(NamedTuple):
    """Which keys a query may see. Tiles are given as the ranges of their places in the sequence."""

    causal: bool
    window: int | None  # how many places back
    lengths: Tensor | None  # (B,): how many keys of each sequence are real; None: all

    def misses(self, rows: range, columns: range) -> bool:
        """Say whether no query of a tile sees a key, so that the tile can be left out."""
        nearest, farthest = rows[0] - columns[-1], rows[-1] - columns[0]
        return (self.causal and farthest < 0) or (self.window is not None and nearest > self.window)

    def hide(self, scores: Tensor, rows: range, columns: range) -> Tensor:
        """Set to -inf what may not be seen of a tile's scores (B, ..., t, s)."""
        row, column = (torch.arange(x.start, x.stop, device=scores.device) for x in (rows, columns))
        distance = row[:, None] - column  # (t, s)
        if self.causal and rows[0] < columns[-1]:
            scores = scores.masked_fill(distance < 0, -math.inf)
        if self.window is not None and rows[-1] - columns[0] > self.window:
            scores = scores.masked_fill(distance > self.window, -math.inf)
        if self.lengths is not None:
            lengths = self.lengths.view(-1, *[1] * (scores.ndim - 1))  # (B, 1, ..., 1)
            scores = scores.masked_fill(column >= lengths, -math.inf)
        return scores


def flash_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    window: int | None = None,
    lengths: Tensor | None = None,
    tile: int = TILE,
) -> Tensor:
    """Return (B, ..., T, d_v): exactly softmax attention, with memory linear in T and S, backwards too.

    Args:
        q, k, v: (B, ..., T, d), (B, ..., S, d), (B, ..., S, d_v); axes of k and v may be 1 where q's are not.
        causal: no query sees a key that comes after it, the queries being the last ones of the keys' sequence.
        window: nor a key more than so many places before it.
        lengths: (B,), how many of the keys are real; a query that sees none returns 0.
    """
    k, v = (x.expand(*q.shape[:-2], *x.shape[-2:]) for x in (k, v))  # a view: nothing is copied
    return _Flash.apply(q, k, v, Sight(causal, window, lengths), tile)


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, sight, tile):
        with torch.autocast(q.device.type, enabled=False):  # the tiles are summed in float32
            out, log_sums = flash_forward(q, k, v, sight, tile)
        ctx.save_for_backward(q, k, v, out, log_sums)
        ctx.sight, ctx.tile = sight, tile
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        return *flash_backward(*ctx.saved_tensors, dout, ctx.sight, ctx.tile), None, None


def flash_forward(q: Tensor, k: Tensor, v: Tensor, sight: Sight, tile: int) -> tuple[Tensor, Tensor]:
    """Return the output (..., T, d_v) and each row's logarithm of the sum of e^scores (..., T, 1)."""
    exact = torch.promote_types(q.dtype, torch.float32)
    offset = k.shape[-2] - q.shape[-2]  # the last query stands where the last key does
    out = q.new_empty(*q.shape[:-1], v.shape[-1])
    log_sums = q.new_empty(*q.shape[:-1], 1, dtype=exact)
    for i in slices(q.shape[-2], tile):
        rows = range(i.start + offset, i.stop + offset)
        q_i = q[..., i, :].to(exact) / math.sqrt(q.shape[-1])  # (..., t, d)
        m = q_i.new_full((*q_i.shape[:-1], 1), -math.inf)  # the largest score so far, (..., t, 1)
        l, o = torch.zeros_like(m), q_i.new_zeros(*q_i.shape[:-1], v.shape[-1])  # noqa: E741, the paper's names
        for j in slices(k.shape[-2], tile):
            columns = range(j.start, j.stop)
            if sight.misses(rows, columns):
                continue
            scores = sight.hide(q_i @ k[..., j, :].to(exact).mT, rows, columns)  # (..., t, d) @ (..., d, s)
            m_new = torch.maximum(m, scores.amax(dim=-1, keepdim=True))
            safe = m_new.masked_fill(m_new == -math.inf, 0.0)  # a row that has seen nothing yet: no -inf - -inf
            p, shrink = (scores - safe).exp(), (m - safe).exp()
            l = shrink * l + p.sum(dim=-1, keepdim=True)  # noqa: E741
            o = shrink * o + p @ v[..., j, :].to(exact)  # (..., t, s) @ (..., s, d_v) -> (..., t, d_v)
            m = m_new
        nothing = l == 0
        out[..., i, :] = o / l.masked_fill(nothing, 1.0)
        log_sums[..., i, :] = (m + l.log()).masked_fill(nothing, 0.0)
    return out, log_sums


def flash_backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sums: Tensor, dout: Tensor, sight: Sight, tile: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients by q, k and v.

    From p = e^(scores - log_sums) and dp = dout v^T follows ds = p (dp - sum_j p_j dp_j), as in chapter 1's softmax.
    That sum over all keys is dout . out, so no tile needs another.
    """
    exact = log_sums.dtype
    scale = 1 / math.sqrt(q.shape[-1])
    offset = k.shape[-2] - q.shape[-2]  # the last query stands where the last key does
    dq, dk, dv = (torch.zeros_like(x, dtype=exact, memory_format=torch.contiguous_format) for x in (q, k, v))
    for i in slices(q.shape[-2], tile):
        rows = range(i.start + offset, i.stop + offset)
        q_i, dout_i = q[..., i, :].to(exact), dout[..., i, :].to(exact)
        sums = (dout_i * out[..., i, :]).sum(dim=-1, keepdim=True)  # (..., t, 1)
        for j in slices(k.shape[-2], tile):
            columns = range(j.start, j.stop)
            if sight.misses(rows, columns):
                continue
            k_j, v_j = k[..., j, :].to(exact), v[..., j, :].to(exact)
            scores = sight.hide(scale * (q_i @ k_j.mT), rows, columns)  # (..., t, s)
            p = (scores - log_sums[..., i, :]).exp()
            dv[..., j, :] += p.mT @ dout_i  # (..., s, t) @ (..., t, d_v) -> (..., s, d_v)
            ds = scale * p * (dout_i @ v_j.mT - sums)  # (..., t, s)
            dq[..., i, :] += ds @ k_j  # (..., t, s) @ (..., s, d) -> (..., t, d)
            dk[..., j, :] += ds.mT @ q_i  # (..., s, t) @ (..., t, d) -> (..., s, d)
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)


def slices(length: int, tile: int) -> list[slice]:
    """Return slices of up to `tile` that cover `length`."""
    return [slice(start, min(start + tile, length)) for start in range(0, length, tile)]


class FlashAttention(GroupedAttention):
    """`GroupedAttention` by our tiles instead of PyTorch's kernel."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cache: Cache | None) -> Tensor:
        """As `GroupedAttention.attend`."""
        return over_groups(lambda *qkv: flash_attention(*qkv, causal=True), q, k, v)
