"""Networks compared fairly: each gets the same minutes of training, the same recipe and the same number of trials.
公平地比较网络：训练时间相同，配方相同，调参次数相同。

A step is timed; the minutes divided by that are the steps. Learning rates are tried on shorter trainings, measured on
held-out training pictures; then the network is trained on all of them, and the test set is read once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from chapter_03_optimization_regularization.optimizers.schedules import cosine, warmup
from chapter_03_optimization_regularization.regularization.augmentation import cutout, random_flip, random_shift
from chapter_03_optimization_regularization.regularization.mixing import smooth_labels, soft_cross_entropy
from chapter_03_optimization_regularization.training import fit, make_optimizers, probabilities, score
from chapter_04_cnn_classic.dataset import MEAN_GREY, Pictures, load, to_input
from utils.errors import UserError
from utils.model_summary import model_summary
from utils.rate_search import best_rate, search_rate
from utils.seed import set_seed
from utils.timer import Timer

RATIO = 10 ** (1 / 3)  # from one learning rate to the next
FIRST_RATES = [0.01 / RATIO, 0.01, 0.01 * RATIO]


@dataclass(frozen=True)
class Recipe:
    """How every network of a comparison is trained; only the learning rate is each one's own."""

    minutes: float
    batch_size: int
    trial_share: float = 0.125  # part of the minutes that a trial takes
    optimizer: str = "muon"
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of the steps in which the rate rises
    label_smoothing: float = 0.1
    flip: float = 0.5  # share of the pictures that are mirrored
    shift: int = 2  # pixels that a picture moves at most
    cutout: int = 0  # side of the square that is hidden
    amp: str = "off"
    seed: int = 0


class Sets(NamedTuple):
    """Pictures and labels: all but the validation split, that split, all for training, and the test set."""

    tuning: Pictures
    validation: Pictures
    training: Pictures
    test: Pictures


def load_sets(name: str, root: Path, count: int, device: torch.device) -> tuple[Sets, list[str]]:
    """Return what a comparison takes, on the device, and the class names; `count` as in `load`."""
    tuning, validation, classes = load(name, "validation", root, count)
    training, test, _ = load(name, "test", root, count)
    return Sets(*(tuple(t.to(device) for t in each) for each in (tuning, validation, training, test))), classes


def tune_and_train(build: Callable[[dict], nn.Module], config: Any, sets: Sets, recipe: Recipe) -> dict:
    """Time, tune, train and measure the network that `build` makes of `config`; return its row of the table.

    Raises UserError where there are fewer pictures than a batch takes.
    """
    if recipe.batch_size > len(sets.tuning[1]):
        raise UserError(f"--batch_size {recipe.batch_size}: there are {len(sets.tuning[1])} pictures in all")
    train_for_steps(build, config, sets.tuning, 0.01, 3, recipe)  # the first steps choose kernels and allocate memory
    _, seconds = train_for_steps(build, config, sets.tuning, 0.01, 12, recipe)
    steps = max(1, round(60 * recipe.minutes * 12 / seconds))
    trial_steps = max(1, round(recipe.trial_share * steps))

    def trial(lr: float) -> float:
        model, _ = train_for_steps(build, config, sets.tuning, lr, trial_steps, recipe)
        images, labels = sets.validation
        return score(probabilities(model, images, recipe.amp, to_input=to_input), labels)[0]

    trials = search_rate(trial, FIRST_RATES, RATIO, reach=3)
    lr = best_rate(trials)
    model, seconds = train_for_steps(build, config, sets.training, lr, steps, recipe)
    images, labels = sets.test
    accuracy, loss = score(probabilities(model, images, recipe.amp, to_input=to_input), labels)
    summary = model_summary(model, to_input(images[:1]))
    return {
        "test_accuracy": accuracy,
        "test_loss": loss,
        "parameters": summary.parameters,
        "macs": summary.macs,
        "pictures_per_second": steps * recipe.batch_size / seconds,
        "steps": steps,
        "epochs": steps * recipe.batch_size / len(sets.training[1]),
        "train_seconds": seconds,
        "lr": lr,
        "trials": [{"lr": rate, "validation_accuracy": accuracy} for rate, accuracy in trials.items()],
    }


def train_for_steps(
    build: Callable[[dict], nn.Module], config: Any, pictures: Pictures, lr: float, steps: int, recipe: Recipe
) -> tuple[nn.Module, float]:
    """Train a new network for so many steps at this peak rate; return it and the seconds taken."""
    images, labels = pictures
    set_seed(recipe.seed)
    model = build(vars(config)).to(images.device, memory_format=torch.channels_last)
    optimizers = make_optimizers(model, recipe.optimizer, lr, recipe.weight_decay)
    warmup_steps = round(recipe.warmup * steps)
    rate = warmup(cosine(steps - warmup_steps), warmup_steps)

    def augment(images: Tensor) -> Tensor:
        images = random_shift(random_flip(images, recipe.flip), recipe.shift, padding="reflect")
        return cutout(images, recipe.cutout, fill=MEAN_GREY) if recipe.cutout else images

    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return soft_cross_entropy(model(x).float(), smooth_labels(y, config.n_classes, recipe.label_smoothing))

    timer = Timer()
    fit(
        model, images, labels, optimizers, rate, steps, recipe.batch_size, recipe.amp,
        augment=augment, loss_of=loss_of, to_input=to_input,
    )  # fmt: skip
    return model.eval(), timer.seconds


def print_table(table: list[dict]) -> None:
    """Print a row for each network."""
    print(f"{'network':12}{'parameters':>12}{'MACs':>14}{'pictures/s':>12}{'epochs':>8}{'test accuracy':>15}")
    for row in table:
        print(
            f"{row['model']:12}{row['parameters']:12,}{row['macs']:14,}{row['pictures_per_second']:12.0f}"
            f"{row['epochs']:8.1f}{row['test_accuracy']:15.1%}"
        )
