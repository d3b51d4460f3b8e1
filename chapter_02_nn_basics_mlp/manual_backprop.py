"""Backpropagation through an MLP by hand: four matrix equations and no autograd.
手工推导 MLP 的反向传播：四个矩阵等式，不用自动求导。

With a_0 = x and, for each layer l,

    z_l = a_{l-1} W_l^T + b_l        a_l = f(z_l), but the last layer's z_L is the output itself,

and delta_l = dL/dz_l, the chain rule read from the end gives

    delta_{l-1} = (delta_l W_l) * f'(z_{l-1})        dL/dW_l = delta_l^T a_{l-1}        dL/db_l = sum of delta_l's rows.
"""

from collections.abc import Callable

import torch
from torch import nn

from chapter_02_nn_basics_mlp.activations import Activation
from chapter_02_nn_basics_mlp.losses import log_softmax
from utils.shape_checks import check_labels, check_same_shape

Layers = list[tuple[torch.Tensor, torch.Tensor]]  # weight (out, in) and bias (out,) of each layer, or their gradients
Loss = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@torch.no_grad()
def forward(layers: Layers, x: torch.Tensor, activation: Activation) -> tuple[torch.Tensor, list, list]:
    """x (B, d_in) -> the output (B, d_out), and all that the backward pass needs: every layer's input a, and its z."""
    inputs, outputs = [], []
    for weight, bias in layers:
        a = activation.value(outputs[-1]) if outputs else x  # (B, in)
        inputs.append(a)
        outputs.append(a @ weight.T + bias)  # (B, out)
    return outputs[-1], inputs, outputs


@torch.no_grad()
def backward(layers: Layers, inputs: list, outputs: list, delta: torch.Tensor, activation: Activation) -> Layers:
    """Return each layer's (dL/dW, dL/db), given what `forward` kept and `delta` = dL/d(output) (B, d_out)."""
    gradients = []
    for i in reversed(range(len(layers))):
        gradients.append((delta.T @ inputs[i], delta.sum(dim=0)))  # (out, in), (out,)
        if i > 0:
            delta = (delta @ layers[i][0]) * activation.derivative(outputs[i - 1])  # (B, in)
    return gradients[::-1]


@torch.no_grad()
def mse_loss(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean squared error and its gradient by the output."""
    check_same_shape(output, target)
    error = output - target
    return (error**2).mean(), 2 * error / error.numel()


@torch.no_grad()
def cross_entropy_loss(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean cross-entropy and its gradient by the logits (B, C): softmax minus one-hot, over B."""
    check_labels(logits, labels)
    log_p = log_softmax(logits)  # (B, C)
    one_hot = nn.functional.one_hot(labels, logits.shape[1])  # (B, C)
    return -(one_hot * log_p).sum() / len(labels), (log_p.exp() - one_hot) / len(labels)


def loss_and_gradients(
    layers: Layers, x: torch.Tensor, target: torch.Tensor, activation: Activation, loss: Loss
) -> tuple[torch.Tensor, Layers]:
    """Return the loss and its gradient by every weight and bias; a learnable activation's own parameter is held fixed.

    `loss` is `mse_loss` or `cross_entropy_loss`.
    """
    output, inputs, outputs = forward(layers, x, activation)
    value, delta = loss(output, target)
    return value, backward(layers, inputs, outputs, delta, activation)
