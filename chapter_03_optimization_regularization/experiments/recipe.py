"""A recipe against overfitting, as a list of ingredients, and a training that follows it.
一份对抗过拟合的“配方”：列出所用的各种方法，并按它训练网络。

What acts on the weights themselves comes after the optimizer's step: AdamW, then the soft threshold, is proximal
gradient descent; AdamW, then the limit on each unit's weights, is projected gradient descent.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from chapter_03_optimization_regularization.dataset import Pictures, to_input
from chapter_03_optimization_regularization.model import CNN, CNNConfig
from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.schedules import cosine, warmup
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


def train_by_recipe(
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
    average = EMA(model, recipe.ema) if recipe.ema else None
    result = average.model if average else model
    steps_per_epoch = max(1, len(data[1]) // batch_size)
    stopping, best = EarlyStopping(recipe.patience), None

    def after_step(done: int) -> bool:
        nonlocal best
        if recipe.l1:
            for p in matrices:
                soft_threshold_(p, optimizers[0].param_groups[0]["lr"] * recipe.l1)
        if recipe.max_norm:
            for p in matrices:
                max_norm_(p, recipe.max_norm)
        if average:
            average.update(model)
        if not recipe.patience or (done % steps_per_epoch and done < steps):
            return False
        p = probabilities(result, validation[0], amp, to_input=to_input)
        if stopping.update(score(p, validation[1])[1]):
            best = copy.deepcopy(result.state_dict())
        return stopping.stop

    warmup_steps = round(WARMUP * steps)
    factor = warmup(cosine(steps - warmup_steps), warmup_steps)
    fit(
        model, *data, optimizers, factor, steps, batch_size, amp,
        to_input=to_input, augment=recipe.augment, loss_of=recipe.loss, after_step=after_step,
    )  # fmt: skip
    if best:
        result.load_state_dict(best)
    return result.eval()
