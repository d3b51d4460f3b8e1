"""Whole layers of RNN, LSTM and GRU: one matrix product a step, and a backward pass through time written by hand.
整层的 RNN、LSTM 与 GRU：每步只做一次矩阵乘法，沿时间的反向传播手工写出。

They compute what cells.py defines, faster, for three reasons. The input's share of all gates is one product for all
steps, before the loop. The backward loop only does what depends on the next step, the way from h_t to h_(t-1); the
gradients of the weights are one product each, over all steps, after it. And autograd sees one operation a layer.
更快的原因：输入部分的矩阵乘法一次算完所有时间步；反向循环里只保留真正依赖下一步的计算，权重梯度在循环之后一次算完。

In bfloat16 the products are in bfloat16, while the LSTM's cell, which adds up over many steps, stays float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

sigmoid_backward = torch.ops.aten.sigmoid_backward  # (dy, y) -> dy y (1 - y), without tensors in between
tanh_backward = torch.ops.aten.tanh_backward  # (dy, y) -> dy (1 - y^2)


def fused_rnn(x: Tensor, h0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor]:
    """x (T, B, D), h0 (B, H) -> (h,), h (T, B, H) after every step: `unroll(rnn_cell, ...)`, faster."""
    return (_RNN.apply(x, h0, w_ih, w_hh, b_ih, b_hh),)


def fused_lstm(
    x: Tensor, h0: Tensor, c0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor]:
    """x (T, B, D), h0 and c0 (B, H) -> h and c (T, B, H) after every step: `unroll(lstm_cell, ...)`, faster."""
    return _LSTM.apply(x, h0, c0, w_ih, w_hh, b_ih, b_hh)


def fused_gru(x: Tensor, h0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor]:
    """x (T, B, D), h0 (B, H) -> (h,), h (T, B, H) after every step: `unroll(gru_cell, ...)`, faster."""
    return (_GRU.apply(x, h0, w_ih, w_hh, b_ih, b_hh),)


class _RNN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, h0, w_ih, w_hh, b_ih, b_hh):
        of_x = F.linear(x, w_ih, b_ih + b_hh)  # (T, B, H)
        h = torch.empty_like(of_x)
        h_t = h0
        for t in range(len(x)):
            h_t = tanh_(torch.addmm(of_x[t], h_t, w_hh.t(), out=h[t]))  # (B, H)
        ctx.save_for_backward(x, h0, w_ih, w_hh, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, dh_all):
        x, h0, w_ih, w_hh, h = ctx.saved_tensors
        da = torch.empty_like(h)  # (T, B, H): gradients of what goes into the tanh
        dh = dh_all[-1]
        for t in range(len(h) - 1, -1, -1):
            da[t] = tanh_backward(dh, h[t])
            dh = da[t] @ w_hh  # (B, H): by W_hh back to the step before
            if t:
                dh += dh_all[t - 1]
        return _dx(ctx, da, w_ih), dh, *_dweights(da, da, x, h0, h)


class _LSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, h0, c0, w_ih, w_hh, b_ih, b_hh):
        gates = F.linear(x, w_ih, b_ih + b_hh)  # (T, B, 4H): x's share; the loop adds h's
        h = gates.new_empty(len(x), *h0.shape)
        tanh_c = torch.empty_like(h)
        c = c0.new_empty(h.shape)
        h_t, c_t = h0, c0
        for t in range(len(x)):
            gates[t].addmm_(h_t, w_hh.t())
            i, f, g, o = gates[t].chunk(4, dim=-1)  # each (B, H), a view
            i.sigmoid_(), f.sigmoid_(), tanh_(g), o.sigmoid_()
            c_t = torch.mul(f, c_t, out=c[t]).addcmul_(i, g)
            h_t = torch.mul(o, tanh_(tanh_c[t].copy_(c_t)), out=h[t])
        ctx.save_for_backward(x, h0, c0, w_ih, w_hh, gates, c, tanh_c, h)
        ctx.set_materialize_grads(False)  # as a rule nobody asks for the gradient of the cells
        return h, c

    @staticmethod
    @once_differentiable
    def backward(ctx, dh_all, dc_all):
        x, h0, c0, w_ih, w_hh, gates, c, tanh_c, h = ctx.saved_tensors
        da = torch.empty_like(gates)  # (T, B, 4H): gradients of what goes into the gates' sigmoids and tanh
        dh, dc = torch.zeros_like(h0), torch.zeros_like(c0)
        for t in range(len(h) - 1, -1, -1):
            i, f, g, o = gates[t].chunk(4, dim=-1)  # each (B, H)
            di, df, dg, do = da[t].chunk(4, dim=-1)
            dh = dh if dh_all is None else dh + dh_all[t]
            dc = dc if dc_all is None else dc + dc_all[t]
            dc = dc + tanh_backward(dh * o, tanh_c[t])  # from h = o tanh(c)
            do.copy_(sigmoid_backward(dh * tanh_c[t], o))
            di.copy_(sigmoid_backward(dc * g, i))  # from c' = f c + i g
            df.copy_(sigmoid_backward(dc * (c[t - 1] if t else c0), f))
            dg.copy_(tanh_backward(dc * i, g))
            dc = dc * f  # the way on which nothing is multiplied by a matrix
            dh = da[t] @ w_hh
        return _dx(ctx, da, w_ih), dh, dc, *_dweights(da, da, x, h0, h)


class _GRU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, h0, w_ih, w_hh, b_ih, b_hh):
        gates = F.linear(x, w_ih, b_ih)  # (T, B, 3H): x's share; the loop adds h's
        h = gates.new_empty(len(x), *h0.shape)
        n_h = torch.empty_like(h)  # what h says to the candidate, before it is reset
        h_t, hidden = h0, h0.shape[-1]
        for t in range(len(x)):
            of_h = torch.addmm(b_hh, h_t, w_hh.t())  # (B, 3H)
            gates[t, :, : 2 * hidden] += of_h[:, : 2 * hidden]
            n_h[t] = of_h[:, 2 * hidden :]
            r, z, n = gates[t].chunk(3, dim=-1)  # each (B, H), a view
            r.sigmoid_(), z.sigmoid_()
            tanh_(n.addcmul_(r, n_h[t]))
            h_t = torch.lerp(n, h_t, z, out=h[t])  # n + z (h - n)
        ctx.save_for_backward(x, h0, w_ih, w_hh, gates, n_h, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, dh_all):
        x, h0, w_ih, w_hh, gates, n_h, h = ctx.saved_tensors
        da_x = torch.empty_like(gates)  # (T, B, 3H): gradients of what x sends into the sigmoids and the tanh
        da_h = torch.empty_like(gates)  # of what h sends there
        dh = torch.zeros_like(h0)
        for t in range(len(h) - 1, -1, -1):
            r, z, n = gates[t].chunk(3, dim=-1)  # each (B, H)
            dr, dz, dn = da_x[t].chunk(3, dim=-1)
            dh = dh + dh_all[t]
            dn.copy_(tanh_backward(dh * (1 - z), n))  # from h' = z h + (1 - z) n
            dz.copy_(sigmoid_backward(dh * ((h[t - 1] if t else h0) - n), z))
            dr.copy_(sigmoid_backward(dn * n_h[t], r))
            da_h[t] = da_x[t]
            da_h[t].chunk(3, dim=-1)[2].mul_(r)
            dh = torch.addmm(dh * z, da_h[t], w_hh)  # past the gates, and through them
        return _dx(ctx, da_x, w_ih), dh, *_dweights(da_x, da_h, x, h0, h)


def tanh_(x: Tensor) -> Tensor:
    """Take tanh in place, on a CPU as 2 sigmoid(2 x) - 1: PyTorch's sigmoid is five times as fast there as its tanh.

    The subtraction costs small values their last digits. Sixteen bits have none to spare.
    """
    if x.device.type == "cpu" and x.element_size() > 2:
        return x.mul_(2).sigmoid_().mul_(2).sub_(1)
    return x.tanh_()


def _dx(ctx, da: Tensor, w_ih: Tensor) -> Tensor | None:
    return da @ w_ih if ctx.needs_input_grad[0] else None  # (T, B, D); nobody trains the data


def _dweights(da_x: Tensor, da_h: Tensor, x: Tensor, h0: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of w_ih, w_hh, b_ih, b_hh: sums over all steps of (gradient) (input)^T.

    da_x and da_h (T, B, gates H) are the gradients of the two products' results, x (T, B, D), h0 (B, H), h (T, B, H).
    """
    dw_ih = da_x.flatten(0, 1).t() @ x.flatten(0, 1)  # (gates H, T B) @ (T B, D)
    dw_hh = da_h[1:].flatten(0, 1).t() @ h[:-1].flatten(0, 1)  # step t has seen h of step t - 1
    dw_hh += da_h[0].t() @ h0
    return dw_ih, dw_hh, da_x.sum((0, 1)), da_h.sum((0, 1))
