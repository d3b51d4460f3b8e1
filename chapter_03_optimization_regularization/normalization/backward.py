"""The backward pass of BatchNorm, LayerNorm and their relatives, derived by hand: one formula serves them all.
手工推导 BatchNorm、LayerNorm 及其同类的反向传播：一个公式就够了。

Take the n values that share a mean and a variance, and let s = sqrt(variance + eps), x_hat_i = (x_i - mean) / s. Moving
x_i moves x_hat_j in three ways: directly, through the mean (by 1/n), and through s, as ds/dx_i = x_hat_i / n:

    dx_hat_j / dx_i = ([i = j] - 1/n - x_hat_i x_hat_j / n) / s

x_i 的变动经三条路传到 x_hat_j：直接（仅当 i = j）、经由均值、经由 s。三项相加即得上式，含 eps 时也严格成立。

With g_j = dL/dx_hat_j, the chain rule sum_j g_j dx_hat_j / dx_i becomes

    dL/dx_i = (g_i - mean(g) - x_hat_i mean(g x_hat)) / s

Two directions are gone from the gradient: shifting all x, or scaling them, leaves x_hat as it is (eps aside).
梯度里去掉了两个方向：整体平移与整体缩放，因为 x 沿它们变化时，x_hat 不变（eps 除外）。

The output is y = weight x_hat + bias, so g = weight dL/dy, and the parameters get dL/dweight = sum of dL/dy x_hat and
dL/dbias = sum of dL/dy, over all places where one weight was used. RMSNorm subtracts no mean: its mean(g) falls away.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, axes: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float, center: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.promote_types(x.dtype, torch.float32)
        mean = x.mean(axes, keepdim=True, dtype=dtype) if center else x.new_zeros((1,) * x.ndim, dtype=dtype)
        x_hat = x - mean
        variance = x_hat.square().mean(axes, keepdim=True)
        r = torch.rsqrt(variance + eps)  # 1 / s
        x_hat *= r
        if bias is not None:
            y = torch.addcmul(bias, x_hat, weight)
        else:
            y = x_hat if weight is None else x_hat * weight
        ctx.axes, ctx.center, ctx.bias_shape = axes, center, None if bias is None else bias.shape
        ctx.save_for_backward(x_hat, r, weight)
        ctx.mark_non_differentiable(mean, variance)
        return y.to(x.dtype, copy=y is x_hat), mean, variance  # the next layer may work in place, x_hat must stay

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x_hat, r, weight = ctx.saved_tensors
        dy = dy.to(x_hat.dtype)  # bfloat16 is too coarse for the sums below
        product = dy * x_hat
        g, dweight, dbias = dy, None, None
        if weight is not None:
            dweight = product.sum_to_size(weight.shape)
            g, product = dy * weight, product * weight  # not in place: where nothing was summed, dweight is the product
        if ctx.bias_shape is not None:
            dbias = dy.sum_to_size(ctx.bias_shape)
        dx = torch.addcmul(g, x_hat, product.mean(ctx.axes, keepdim=True), value=-1)
        if ctx.center:
            dx -= g.mean(ctx.axes, keepdim=True)
        return dx.mul_(r), None, dweight, dbias, None, None


def normalize_by_hand(
    x: Tensor, axes: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float, center: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what `normalization.normalize` does; the gradient is this file's formula.

    It is faster than autograd's and keeps one tensor of x's size, x_hat, where autograd keeps several. It cannot be
    differentiated a second time, and no gradient flows through the mean and the variance that it returns.
    """
    return _Normalize.apply(x, axes, weight, bias, eps, center)
