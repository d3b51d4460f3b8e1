"""Regularisers that act on weights, on activations and on the length of a training.
作用于权重、激活值与训练时长的各种正则化方法。

Those that mix labels (label smoothing, mixup, CutMix) are in `mixing.py`, those for pictures in `augmentation.py`.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from chapter_02_nn_basics_mlp.network import Linear
from utils.evaluating import evaluating

# --- weights ----------------------------------------------------------------------------------------------------------


def l1(parameters: Iterable[Tensor]) -> Tensor:
    """Return sum |w|: times a strength, the negative logarithm of a Laplace prior."""
    return torch.stack([p.abs().sum() for p in parameters]).sum()


def l2(parameters: Iterable[Tensor]) -> Tensor:
    """Return sum w^2 / 2, whose gradient is w: times a strength, the negative logarithm of a Gaussian prior."""
    return torch.stack([p.square().sum() for p in parameters]).sum() / 2


def elastic_net(parameters: Iterable[Tensor], l1_share: float) -> Tensor:
    """Return l1_share * l1 + (1 - l1_share) * l2 (Zou & Hastie 2005)."""
    parameters = list(parameters)
    return l1_share * l1(parameters) + (1 - l1_share) * l2(parameters)


@torch.no_grad()
def soft_threshold_(weight: Tensor, threshold: float) -> None:
    """Move every weight towards zero by `threshold`, and no further: weights nearer than that become exactly 0.

    This is the minimiser v of (v - w)^2 / 2 + threshold |v|. After a plain step of learning rate lr, call it with
    threshold = lr * strength (ISTA); l1's own gradient would make weights jump over zero instead of resting on it.
    它正是上式的极小点；若直接用 l1 的（次）梯度，权重只会在零两侧来回跳，停不到零上。
    """
    if not threshold >= 0:
        raise ValueError(f"a threshold is at least 0, not {threshold}")
    weight.sub_(weight.clamp(-threshold, threshold))


@torch.no_grad()
def max_norm_(weight: Tensor, limit: float) -> None:
    """Shorten each unit's incoming weights, weight[i], to length `limit` if they exceed it (Srivastava et al. 2014)."""
    if not limit > 0:
        raise ValueError(f"a limit on lengths is above 0, not {limit}")
    length = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
    weight.mul_(limit / length.clamp(min=limit))  # exactly 1 for the short ones, zeros included


# --- activations ------------------------------------------------------------------------------------------------------


def drop(x: Tensor, p: float, axes: int) -> Tensor:
    """Multiply x by draws that are 0 with probability `p`, else 1 / (1 - p): mean 1, variance p / (1 - p).

    There is one draw for each index of the first `axes` axes; what lies along the others lives and dies together.
    """
    if axes == x.ndim:
        noise = torch.empty_like(x)  # in x's own memory layout
    else:
        noise = x.new_empty(x.shape[:axes] + (1,) * (x.ndim - axes))
    return x * noise.bernoulli_(1 - p).div_(1 - p)


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014): in training x becomes 0 or x / (1 - p), in evaluation it stays x.

    With `channels` one draw holds for a whole channel x[b, c] (Tompson et al. 2015): neighbouring pixels say nearly the
    same, so a single missing one would hide nothing.
    """

    def __init__(self, p: float = 0.5, channels: bool = False):
        super().__init__()
        self.p, self.channels = _probability(p), channels

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape; with `channels` (B, C, ...)."""
        if not self.training or self.p == 0:
            return x
        return drop(x, self.p, axes=2 if self.channels else x.ndim)

    def extra_repr(self) -> str:
        return f"p={self.p}, channels={self.channels}"


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): x + drop_path(branch(x)) leaves the branch out for some of the samples."""

    def __init__(self, p: float = 0.1):
        super().__init__()
        self.p = _probability(p)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ...)."""
        return drop(x, self.p, axes=1) if self.training and self.p > 0 else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


def drop_path_rates(n_blocks: int, last: float) -> list[float]:
    """Return each block's rate, growing linearly to `last`: all later blocks need the early ones (Huang, eq. 4)."""
    return [last * block / n_blocks for block in range(1, n_blocks + 1)]


class DropConnect(Linear):
    """A linear layer that drops weights and biases, other ones for each sample, instead of units (Wan et al. 2013).

    In training it holds B copies of its weight in memory.
    """

    def __init__(self, d_in: int, d_out: int, p: float = 0.5, bias: bool = True):
        super().__init__(d_in, d_out, bias)
        self.p = _probability(p)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, d_in) -> (B, d_out)."""
        if not self.training or self.p == 0:
            return super().forward(x)
        weight = drop(self.weight.expand(len(x), -1, -1), self.p, axes=3)  # (B, d_out, d_in)
        y = torch.bmm(weight, x[:, :, None])[:, :, 0]  # (B, d_out)
        return y if self.bias is None else y + drop(self.bias.expand(len(x), -1), self.p, axes=2)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the training output over all masks, (B, d_out) each.

        The paper predicts with draws from the normal distribution of these moments (its section 3.2).
        """
        squares = x.square() @ self.weight.square().T  # (B, d_out)
        squares = squares if self.bias is None else squares + self.bias.square()
        return super().forward(x), self.p / (1 - self.p) * squares

    def extra_repr(self) -> str:
        return f"p={self.p}"


def _probability(p: float) -> float:
    if not 0 <= p < 1:
        raise ValueError(f"a dropping probability lies in [0, 1), not at {p}")
    return p


@torch.no_grad()
def mc_dropout(model: nn.Module, x: Tensor, passes: int = 20) -> Tensor:
    """Return class probabilities (B, C), averaged over `passes` networks that dropout draws (Gal & Ghahramani 2016).

    Only what drops is in training mode: BatchNorm keeps to its running statistics. Afterwards all modes are as before.
    """
    dropping = (Dropout, DropPath, DropConnect, nn.modules.dropout._DropoutNd)
    with evaluating(model, training=[module for module in model.modules() if isinstance(module, dropping)]):
        return sum(model(x).softmax(dim=-1) for _ in range(passes)) / passes


# --- time -------------------------------------------------------------------------------------------------------------


class EarlyStopping:
    """Counts the checks since the last best value; after `patience` of them in a row, training should `stop`.

        if stopping.update(validation_loss):
            best = copy.deepcopy(model.state_dict())
        if stopping.stop:
            break

    Args:
        min_delta: what counts as better must be better by more than this.
        maximize: whether more is better, as with accuracies.
    """

    def __init__(self, patience: int, min_delta: float = 0.0, maximize: bool = False):
        self.patience, self.min_delta, self.sign = patience, min_delta, -1 if maximize else 1
        self.best, self.waited = self.sign * math.inf, 0

    def update(self, value: float) -> bool:
        """Note a new value; return whether it is the best so far. NaN never is."""
        better = self.sign * (self.best - value) > self.min_delta
        if better:
            self.best = value
        self.waited = 0 if better else self.waited + 1
        return better

    @property
    def stop(self) -> bool:
        return self.waited >= self.patience

    def state_dict(self) -> dict:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, saved: dict) -> None:
        self.best, self.waited = saved["best"], saved["waited"]
