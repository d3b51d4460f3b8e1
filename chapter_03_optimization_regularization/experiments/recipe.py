"""A recipe against overfitting, as a list of ingredients, and a training that follows it.
一份对抗过拟合的“配方”：列出所用的各种方法，并按它训练网络。

Penalties and limits on weights come after the optimizer's step, each as an optimizer of its own that needs no gradient
of the loss: so the list [AdamW, SoftThreshold] is proximal gradient descent, and [AdamW, MaxNorm] projected.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from chapter_03_optimization_regularization.dataset import Pictures
from chapter_03_optimization_regularization.model import CNN, CNNConfig
from chapter_03_optimization_regularization.optimizers.averaging import EMA, Average
from chapter_03_optimization_regularization.optimizers.base import Optimizer
from chapter_03_optimization_regularization.optimizers.schedules import Factor, cosine, warmup
from chapter_03_optimization_regularization.regularization import EarlyStopping, max_norm_, mixing, soft_threshold_
from chapter_03_optimization_regularization.regularization.augmentation import cutout, random_flip, random_shift
from chapter_03_optimization_regularization.training import fit, make_optimizers, probabilities, score

WARMUP = 0.05  # share of the steps in which the rate rises


@dataclass(frozen=True)
class Recipe:
    """How much of each ingredient; 0 means without."""

    weight_decay: float = 0.0  # decoupled; of weights, not of biases and norms, like the next two
    l1: float = 0.0  # strength of the penalty sum |w|
    max_norm: float = 0.0  # longest vector of incoming weights
    dropout: float = 0.0  # share of the features left out before the head
    label_smoothing: float = 0.0
    shift: int = 0  # pixels that a picture moves at most, with flips
    cutout: int = 0  # side of the hidden square
    mixup: float = 0.0  # alpha
    cutmix: float = 0.0  # alpha; with mixup too, each batch gets one of them
    norm: str = "none"
    ema: float = 0.0  # decay of the weights' running average, which is then the result
    patience: int = 0  # of early stopping, in looks at the validation pictures
    views: int = 1  # 2: predictions are means over a picture and its mirror

    def augment(self, images: Tensor) -> Tensor:
        """Change pictures (B, 1, 28, 28), uint8, each in its own way."""
        if self.shift:
            images = random_shift(random_flip(images), self.shift)
        return cutout(images, self.cutout) if self.cutout else images

    def loss(self, model: CNN, x: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy for inputs and labels, softened and mixed as the recipe says."""
        targets = mixing.smooth_labels(labels, model.head.weight.shape[0], self.label_smoothing)
        mixers = [(mix, alpha) for mix, alpha in ((mixing.mixup, self.mixup), (mixing.cutmix, self.cutmix)) if alpha]
        if mixers:
            mix, alpha = mixers[int(torch.randint(len(mixers), ()))]
            x, targets = mix(x, targets, alpha)
        return mixing.soft_cross_entropy(model(x).float(), targets)


class SoftThreshold(Optimizer):
    """L1's part of a step: shrink every weight by lr * strength, and let rest at exactly 0 what comes that near."""

    def __init__(self, params: list[Tensor], lr: float, strength: float):
        super().__init__(params, lr=lr, strength=strength)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        soft_threshold_(p, group["lr"] * group["strength"])


class MaxNorm(Optimizer):
    """Shorten after each step every unit's incoming weights that have grown longer than `limit`."""

    def __init__(self, params: list[Tensor], limit: float):
        super().__init__(params, lr=0.0, limit=limit)

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        max_norm_(p, group["limit"])


class Averaging(Optimizer):
    """Stands last in the list of optimizers and takes the model's weights into an average after each step."""

    def __init__(self, model: nn.Module, average: Average):
        super().__init__(model.parameters(), lr=0.0)
        self.model, self.average = model, average

    def step(self) -> None:
        self.average.update(self.model)


def train(
    recipe: Recipe,
    data: Pictures,
    validation: Pictures,
    config: CNNConfig,
    optimizer: str,
    lr: float,
    steps: int,
    batch_size: int,
    amp: str = "off",
) -> nn.Module:
    """Train a network by the recipe, the rate rising over 5 % of the steps and falling along a cosine.

    Only early stopping looks at the validation pictures: at their loss, once a pass over the training pictures; the
    result is then the network as it was when this loss was lowest.
    """
    config = replace(config, norm=recipe.norm, dropout=recipe.dropout)
    model = CNN(config).to(data[0].device, memory_format=torch.channels_last)
    optimizers = make_optimizers(model, optimizer, lr, recipe.weight_decay)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    if recipe.l1:
        optimizers.append(SoftThreshold(matrices, lr, recipe.l1))
    if recipe.max_norm:
        optimizers.append(MaxNorm(matrices, recipe.max_norm))
    result = model
    if recipe.ema:
        average = EMA(model, recipe.ema)
        optimizers.append(Averaging(model, average))
        result = average.model

    rise = round(WARMUP * steps)
    factor = warmup(cosine(steps - rise), rise)
    stopping, best = EarlyStopping(recipe.patience), None
    every = max(1, len(data[1]) // batch_size) if recipe.patience else steps
    for done in range(0, steps, every):
        stretch = min(every, steps - done)
        fit(model, *data, optimizers, continued(factor, done), stretch, batch_size, amp, recipe.augment, recipe.loss)
        if recipe.patience:
            if stopping.update(score(probabilities(result, validation[0], amp), validation[1])[1]):
                best = copy.deepcopy(result.state_dict())
            if stopping.stop:
                break
    if best:
        result.load_state_dict(best)
    return result.eval()


def continued(factor: Factor, done: int) -> Factor:
    """Return the schedule from step `done` on. By then the rates are no longer the peaks, but factor(done) of them."""
    share = factor(done) if done else 1.0
    return lambda step: factor(done + step) / share
