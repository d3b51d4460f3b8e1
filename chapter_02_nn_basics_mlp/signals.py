"""What becomes of a signal on its way through many layers: its size, its gradient's, and units that are always off.
信号穿过许多层之后怎样了：它的大小、梯度的大小，以及始终不工作的单元。
"""

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.activations import ReLU
from chapter_02_nn_basics_mlp.initialization import INITIALIZERS, lsuv_, predicted_variances
from chapter_02_nn_basics_mlp.network import MLP, Linear
from utils.seed import set_seed

SCHEMES = ("small_normal", "xavier_normal", "kaiming_normal", "lsuv")
SMALL_STD = 0.01  # of the weights of "small_normal", whatever the width


def send_signal(scheme: str, width: int, depth: int, batch_size: int = 512) -> dict:
    """Send Gaussian inputs through `depth` ReLU layers that start by `scheme`, and a random direction's gradient back.

    Returns:
        measured, predicted: the mean square of each layer's pre-activations (depth,).
        pre_activations, gradients: a tensor (batch_size, width) for each layer.
    """
    set_seed(0)
    x = torch.randn(batch_size, width, dtype=torch.float64)  # float32 underflows before layer 30
    gain = {"small_normal": SMALL_STD * width**0.5, "xavier_normal": 1.0, "kaiming_normal": 2**0.5, "lsuv": 1.0}[scheme]
    layers = nn.Sequential(*(nn.Sequential(Linear(width, width), ReLU()) for _ in range(depth))).double()
    for linear, _ in layers:
        nn.init.zeros_(linear.bias)
        if scheme in INITIALIZERS:
            INITIALIZERS[scheme](linear.weight, gain)
        else:
            nn.init.normal_(linear.weight, 0, gain / width**0.5)
    if scheme == "lsuv":
        lsuv_(layers, x)

    a, pre_activations = x, []
    for linear, activation in layers:
        z = linear(a)  # (batch_size, width)
        z.retain_grad()
        pre_activations.append(z)
        a = activation(z)
    (a * torch.randn_like(a)).sum().backward()
    lsuv = scheme == "lsuv"  # makes every variance 1; the others start from gain^2, as the inputs have met no ReLU yet
    return {
        "measured": [z.detach().square().mean().item() for z in pre_activations],
        "predicted": [1.0] * depth if lsuv else predicted_variances(torch.relu, gain, depth, first=gain**2),
        "pre_activations": [z.detach() for z in pre_activations],
        "gradients": [z.grad for z in pre_activations],
    }


@torch.no_grad()
def dead_share(model: MLP, x: Tensor) -> float:
    """Return the share of hidden units whose output is 0 for every row of x (N, d_in)."""
    dead = []
    for layer in model.hidden:
        x = layer(x)
        dead.append((x == 0).all(dim=0))  # (d_hidden,)
    return torch.cat(dead).float().mean().item()
