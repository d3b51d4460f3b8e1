"""A plain deep network, one norm after every convolution, and what flows through it before any training.
一个朴素的深层网络（每个卷积后接一个归一化层），以及训练前信号与梯度在其中的流动。
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_02_nn_basics_mlp.network import Linear
from chapter_03_optimization_regularization.model import conv_block
from utils.seed import set_seed

PATCH = 7  # the first layer sees 4 x 4 patches of so many pixels a side, their pixels as channels


class PlainNet(nn.Module):
    """Pictures (B, 1, 28, 28) -> `depth` convolutions of one width on a grid of 4 x 4 -> its mean -> logits."""

    def __init__(self, norm: str, depth: int, width: int, n_classes: int = 10):
        super().__init__()
        self.layers = nn.ModuleList(conv_block(width if i else PATCH**2, width, norm) for i in range(depth))
        self.head = Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 1, 28, 28) -> logits (B, n_classes)."""
        return self.head(self.states(x)[-1].mean(dim=(2, 3)))

    def states(self, x: Tensor) -> list[Tensor]:
        """Return what each layer puts out, (B, width, 4, 4)."""
        x, states = F.pixel_unshuffle(x, PATCH), []  # (B, 49, 4, 4)
        for layer in self.layers:
            x = layer(x)
            states.append(x)
        return states


def measure_signals(norm: str, depth: int, width: int, x: Tensor, seed: int = 0, seeds: int = 5) -> dict:
    """Follow inputs x (B, 1, 28, 28) through networks before training, and a gradient back.

    Returns:
        by layer, geometric means over the seeds: "activation", the root mean square of what it puts out; "gradient",
        the same of the derivatives by that, the last layer's being 1; "difference", 1 - cosine of the angle between
        what it puts out for two pictures. And for tables, what is left at the ends, and the gradient's mean factor.
    """
    logs = []
    for k in range(seeds):
        set_seed(seed + k)
        model = PlainNet(norm, depth, width).to(x.device, memory_format=torch.channels_last)
        states = model.states(x)
        logits = model.head(states[-1].mean(dim=(2, 3)))
        pull = torch.randn_like(logits)  # a random one: all that counts is how it is passed on
        gradients = torch.autograd.grad((logits * pull).sum(), states)
        logs.append(torch.stack([torch.stack([rms(t) for t in states]), relative(gradients), differences(states)]))
    rows = torch.stack(logs).clamp(min=1e-30).log().mean(dim=0).exp()  # (3, L)
    growth = (rows[1][0] / rows[1][-1]) ** (1 / max(1, rows.shape[1] - 1))
    names = ("activation", "gradient", "difference")
    curves = {name: row.tolist() for name, row in zip(names, rows, strict=True)}
    ends = {f"last_{name}": curves[name][-1] for name in ("activation", "difference")}
    return {"norm": norm, "gradient_growth": growth.item(), "first_gradient": curves["gradient"][0]} | ends | curves


def rms(t: Tensor) -> Tensor:
    return t.detach().cpu().double().square().mean().sqrt()


def relative(gradients: tuple[Tensor, ...]) -> Tensor:
    sizes = torch.stack([rms(g) for g in gradients])  # (L,)
    return sizes / sizes[-1].clamp(min=1e-300)


@torch.no_grad()
def differences(states: list[Tensor]) -> Tensor:
    """Return for each layer's output (B, C, H, W) the mean over all pairs of pictures of 1 - cosine."""
    found = []
    for state in states:
        directions = F.normalize(state.cpu().double().flatten(1), eps=1e-300)  # (B, C H W)
        total, count = directions.sum(dim=0).square().sum(), len(directions)
        own = directions.square().sum()  # a picture with itself does not count
        found.append(1 - (total - own) / (count * (count - 1)))
    return torch.stack(found)
