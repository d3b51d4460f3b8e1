"""One step of each recurrent cell, written like its equation, and the loop that makes a network of it.
各种循环单元的一步，写法与公式一致；以及把它展开成网络的循环。

Weights have PyTorch's names, shapes and gate order, so they can be copied to and from torch.nn. This file is the
definition; fused.py computes the same faster.

    python -m pytest tests/chapter_06/test_recurrent.py      # each cell equals torch.nn's: 20 s
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def rnn_cell(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh)  (Elman 1990).

    x (B, D), h (B, H), w_ih (H, D), w_hh (H, H) -> (B, H).
    """
    return torch.tanh(F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh))


def lstm_cell(
    x: Tensor, h: Tensor, c: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor]:
    """c' = f c + i g, h' = o tanh(c')  (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    Input gate i, forget gate f, candidate g and output gate o, in this order, each see x and h.
    x (B, D), h and c (B, H), w_ih (4H, D), w_hh (4H, H) -> h' and c' (B, H).
    """
    i, f, g, o = (F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh)).chunk(4, dim=-1)  # each (B, H)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return h, c


def gru_cell(x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """h' = z h + (1 - z) n, n = tanh(W_n x + r (U_n h + b_n))  (Cho et al. 2014, with PyTorch's place for r).

    Reset gate r, update gate z and candidate n, in this order. The paper resets h before the product with U_n;
    PyTorch resets the product, which lets one matrix product serve all three.
    x (B, D), h (B, H), w_ih (3H, D), w_hh (3H, H) -> (B, H).
    """
    r_x, z_x, n_x = F.linear(x, w_ih, b_ih).chunk(3, dim=-1)  # each (B, H)
    r_h, z_h, n_h = F.linear(h, w_hh, b_hh).chunk(3, dim=-1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return z * h + (1 - z) * n


def layer_norm_lstm_cell(
    x: Tensor, h: Tensor, c: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, *gains: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute an LSTM's step whose two products and whose cell on its way out are normalised (Ba et al. 2016, eq. 20).

    `gains`: g_ih and g_hh (4H), g_c and b_c (H), the norms' gains and the cell's bias. The cell itself, the path on
    which memory lives, is not normalised. Shapes as in `lstm_cell`.
    """
    g_ih, g_hh, g_c, b_c = gains
    of_x = F.layer_norm(F.linear(x, w_ih), g_ih.shape, g_ih, b_ih)  # (B, 4H)
    of_h = F.layer_norm(F.linear(h, w_hh), g_hh.shape, g_hh, b_hh)  # (B, 4H)
    i, f, g, o = (of_x + of_h).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(
        F.layer_norm(c.to(g_c.dtype), g_c.shape, g_c, b_c)
    )  # c may be finer than bfloat16
    return h, c


def min_gru_cell(x: Tensor, h: Tensor, w_ih: Tensor, b_ih: Tensor) -> Tensor:
    """h' = (1 - z) h + z n, with z = sigmoid(W_z x) and n = W_n x: the gate sees x alone  (Feng et al. 2024).

    x (B, D), h (B, H), w_ih (2H, D), update gate before candidate -> (B, H).
    """
    z, n = F.linear(x, w_ih, b_ih).chunk(2, dim=-1)  # each (B, H)
    z = torch.sigmoid(z)
    return (1 - z) * h + z * n


def min_lstm_cell(x: Tensor, h: Tensor, w_ih: Tensor, b_ih: Tensor) -> Tensor:
    """h' = (f h + i n) / (f + i): gates that see x alone, and that share out a whole  (Feng et al. 2024).

    x (B, D), h (B, H), w_ih (3H, D), order i, f, n -> (B, H). There is no cell beside the hidden state.
    """
    i, f, n = F.linear(x, w_ih, b_ih).chunk(3, dim=-1)  # each (B, H)
    i, f = torch.sigmoid(i), torch.sigmoid(f)
    return (f * h + i * n) / (f + i)


def unroll(cell: Callable, x: Tensor, state: tuple[Tensor, ...], *weights: Tensor) -> tuple[Tensor, ...]:
    """Apply `cell` step by step to x (T, B, D); return the states after every step, each (T, B, H).

    `state` holds what goes in before the first step, each (B, H): h alone, or h and c. The same weights serve all
    steps.
    """
    states = []
    for x_t in x:  # (B, D)
        new = cell(x_t, *state, *weights)
        state = new if isinstance(new, tuple) else (new,)
        states.append(state)
    return tuple(torch.stack(steps) for steps in zip(*states, strict=True))
