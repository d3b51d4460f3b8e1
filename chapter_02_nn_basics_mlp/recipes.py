"""The recipes of `mlp.py`: its flags, and their defaults in each mode.
`mlp.py` 的配方：命令行参数，以及各模式的默认值。
"""

from argparse import ArgumentParser

from chapter_02_nn_basics_mlp.activations import ACTIVATIONS
from utils.cli import add_data_flag, add_train_size_flag, amount, positive, share
from utils.errors import UserError

SMALL = {"batch_size": 64, "lr": 1e-2, "d_hidden": 64, "amp": "off"}  # bfloat16's 8 bits cannot fit a curve
RECIPES: dict[str, dict] = {
    "standard": SMALL | {"epochs": 650},
    "2d_surface": SMALL | {"epochs": 80, "activation": "relu"},
    "extrapolate": SMALL | {"epochs": 1000, "batch_size": 200, "lr": None},  # BEST_RATES instead
    "classify": {"epochs": 62, "batch_size": 512, "lr": 4e-3, "d_hidden": 1024, "activation": "relu", "norm": "batch"}
    | {"label_smoothing": 0.1, "weight_decay": 0.3, "flip": 0.5, "shift": 1},
}
MODES = list(RECIPES)
BEST_RATES = {"relu": 0.02, "tanh": 0.04, "snake": 0.01}  # of the activations in "extrapolate", chosen by --rates


def chosen_mode(words: list[str]) -> str:
    """Return the --mode among a command's `words`, on which the defaults of other flags depend.

    Raises:
        UserError: there is no such mode.
    """
    mode = "standard"
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name == "--mode":
            mode = value if equals else following
    if mode not in MODES:
        raise UserError(f"there is no --mode {mode}: choose one of {', '.join(MODES)}")
    return mode


def add_network_flags(parser: ArgumentParser) -> None:
    """Add the flags of the network, and of its training in every mode."""
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--weight_decay", type=amount, default=0.0, help="how fast unused weights shrink")
    parser.add_argument("--d_hidden", type=positive, default=64, help="units in each hidden layer")
    parser.add_argument(
        "--n_hidden", type=int, default=2, choices=range(9), metavar="N", help="hidden layers; 0 makes the model linear"
    )
    parser.add_argument("--activation", default="tanh", choices=ACTIVATIONS, help="not in extrapolate")
    parser.add_argument("--norm", default="none", choices=["none", "batch"], help="normalisation in the hidden layers")
    parser.add_argument("--dropout", type=share, default=0.0, help="share of the hidden units that a step leaves out")


def add_picture_flags(parser: ArgumentParser) -> None:
    """Add the flags of --mode classify."""
    pixels = {"type": int, "choices": range(9), "metavar": "N"}
    sets = "fashion_mnist: 70,000 photographs of clothes, downloaded; shapes: drawn figures, made here"
    parts = "test: the pictures kept for the end; validation: some of the training pictures, to choose a recipe by"
    add_data_flag(parser)
    parser.add_argument("--dataset", default="fashion_mnist", choices=["fashion_mnist", "shapes"], help=sets)
    add_train_size_flag(parser, default=20000)
    parser.add_argument("--split", default="test", choices=["test", "validation"], help=parts)
    parser.add_argument("--label_smoothing", type=share, default=0.0, help="share of the label spread evenly")
    parser.add_argument("--flip", type=share, default=0.0, help="share of the pictures that are mirrored")
    parser.add_argument("--shift", default=0, help="pixels by which a picture is moved at most", **pixels)
