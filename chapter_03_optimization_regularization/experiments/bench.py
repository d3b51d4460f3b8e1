"""Trainings that differ in recipe, learning rate, length and seed alone: done once, remembered, tuned alike.
只在配方、学习率、步数和随机种子上不同的训练：每种只做一次并记住结果，调参方式一律相同。
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from tqdm import tqdm

from chapter_03_optimization_regularization.dataset import Pictures, to_input
from chapter_03_optimization_regularization.experiments.recipe import Recipe, train_by_recipe
from chapter_03_optimization_regularization.model import CNN, CNNConfig
from chapter_03_optimization_regularization.training import probabilities, score
from utils.rate_search import best_rate, search_rate
from utils.seed import set_seed

RATIO = 10 ** (1 / 3)  # from one learning rate to the next
MIDDLE = 0.01  # of the grid


class Trial(NamedTuple):
    lr: float
    steps: int
    accuracy: float  # on the validation pictures


@dataclass(frozen=True)
class Setting:
    """What all trainings of a comparison have in common."""

    config: CNNConfig
    optimizer: str
    batch_size: int
    amp: str = "off"


class Bench:
    """Trains on demand, and remembers.

    Args:
        train_sets: one for each of the `seeds`; trials are done with the first.
    """

    def __init__(self, setting: Setting, seeds: list[int], train_sets: list[Pictures], validation: Pictures, bar: tqdm):
        self.setting, self.seeds, self.bar = setting, seeds, bar
        self.train_sets, self.validation = train_sets, validation
        self.networks: dict[tuple, CNN] = {}

    def network(self, recipe: Recipe, lr: float, steps: int, run: int) -> CNN:
        """Return the network that this training makes; `run` counts the seeds from 0."""
        key = recipe, f"{lr:.6g}", steps, run
        if key not in self.networks:
            self.bar.set_postfix_str(f"rate {lr:.2g}, {steps} steps, seed {self.seeds[run]}")
            set_seed(self.seeds[run])
            self.networks[key] = train_by_recipe(
                recipe,
                self.train_sets[run],
                self.validation,
                self.setting.config,
                self.setting.optimizer,
                lr,
                steps,
                self.setting.batch_size,
                self.setting.amp,
            )
        return self.networks[key]

    def predict(self, model: CNN, images: Tensor, views: int = 1) -> Tensor:
        """Return class probabilities (N, K)."""
        return probabilities(model, images, self.setting.amp, views, to_input=to_input)

    def trial(self, recipe: Recipe, lr: float, steps: int) -> Trial:
        p = self.predict(self.network(recipe, lr, steps, run=0), self.validation[0], recipe.views)
        return Trial(lr, steps, score(p, self.validation[1])[0])

    def tune(self, recipe: Recipe, rates: int, lengths: list[int]) -> list[Trial]:
        """Try so many rates or more for the first length, then the other lengths at the best; return all trials."""
        grid = [MIDDLE * RATIO ** (k - rates // 2) for k in range(rates)]
        scores = search_rate(lambda lr: self.trial(recipe, lr, lengths[0]).accuracy, grid, RATIO, reach=rates)
        trials = [Trial(lr, lengths[0], accuracy) for lr, accuracy in scores.items()]
        return trials + [self.trial(recipe, best_rate(scores), steps) for steps in lengths[1:]]

    def repeat(self, recipe: Recipe, like: Trial) -> list[CNN]:
        """Return a network for each seed."""
        return [self.network(recipe, like.lr, like.steps, run) for run in range(len(self.seeds))]


def best(trials: list[Trial]) -> Trial:
    """Return the most accurate; of equals the first, which is the shorter or the one of the lower rate."""
    return max(trials, key=lambda trial: trial.accuracy)
