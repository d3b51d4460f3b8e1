"""The recipe of the race to 94 %, as values, and what --ideas changes in it.
奔向 94 % 的竞速训练的配方（一组数值），以及 --ideas 对它所做的改动。
"""

from dataclasses import dataclass

from chapter_04_cnn_classic.dataset import SIDE


@dataclass(frozen=True)
class Recipe:
    """How to train; speedrun.py has a flag for each, of the same name and in this order."""

    epochs: int = 13
    batch_size: int = 1000
    widths: tuple[int, ...] = (64, 256, 256)
    optimizer: str = "muon"
    lr: float = 0.17
    momentum: float = 0.7
    beta1: float = 0.9
    bias_lr: float = 0.05
    head_lr: float = 0.6
    label_smoothing: float = 0.2
    shift: int = 2
    cutout: int = 0
    jitter: float = 0.0
    flip: str = "alternate"
    first: str = "whitened"
    start: str = "identity"
    lengths: str = "kept"
    small_side: int = 24
    small_share: float = 0.6
    drop: float = 0.3
    drop_from: float = 0.4
    amp: str = "auto"


IDEAS = {  # one of the recipe's ideas left out, or one that was not kept
    "the recipe": {},
    "first layer learned, not whitened": {"first": "learned"},
    "convolutions start at random": {"start": "random"},
    "lengths not kept": {"lengths": "free"},
    "AdamW for Muon": {"optimizer": "adamw"},  # at the best of RATES
    "mirrored at random": {"flip": "random"},
    "labels not smoothed": {"label_smoothing": 0.0},
    "no small pictures at first": {"small_side": SIDE},
    "no easy picture left out": {"drop": 0.0},
    "squares hidden": {"cutout": 10},
    "brightness and contrast change": {"jitter": 0.14},
    "narrower": {"widths": (64, 192, 256)},
}
# What replaces the recipe's optimizer may not keep its rate. The grid grows while the best one lies at its edge; at
# 0.0035 AdamW's first steps are as long as Muon's.
RATES = {"AdamW for Muon": [0.0009, 0.00175, 0.0035]}
