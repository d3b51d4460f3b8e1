"""The door to the chapter's optimizers, and a table of them by name.
本章优化器的统一入口，以及按名称索引的表。
"""

from collections.abc import Callable
from functools import partial

from chapter_03_optimization_regularization.optimizers.adam import Adam, Adamax, AdamW, NAdam, RAdam, adamw_step
from chapter_03_optimization_regularization.optimizers.adaptive import Adadelta, Adagrad, RMSprop
from chapter_03_optimization_regularization.optimizers.base import Optimizer
from chapter_03_optimization_regularization.optimizers.modern import SAM, Lion, Muon, orthogonalize
from chapter_03_optimization_regularization.optimizers.sgd import SGD

__all__ = [
    "OPTIMIZERS",
    "SAM",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "adamw_step",
    "orthogonalize",
]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {  # called with the parameters, lr=..., and what else it takes
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "rmsprop": RMSprop,
    "adam": Adam,
    "amsgrad": partial(Adam, amsgrad=True),
    "adamw": AdamW,
    "adamax": Adamax,
    "nadam": NAdam,
    "radam": RAdam,
    "lion": Lion,
    "muon": Muon,
}
