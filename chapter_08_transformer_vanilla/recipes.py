"""The flags of train.py, and what each task is trained with: their values.
train.py 的命令行参数，以及各任务的训练配方（参数取值）。
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from chapter_03_optimization_regularization.optimizers import OPTIMIZERS
from chapter_08_transformer_vanilla.dataset import PAIRS
from chapter_08_transformer_vanilla.layers import ACTIVATIONS
from chapter_08_transformer_vanilla.positional_encoding import POSITIONS
from chapter_08_transformer_vanilla.shipped import UNTRAINED
from chapter_08_transformer_vanilla.vit import TOKENIZERS
from utils.cli import add_data_flag, add_training_flags, amount, natural, positive, share
from utils.errors import UserError

RECIPES = {  # each task's defaults
    "translate": {
        "max_steps": 6000,  # 34 epochs of Multi30k
        "batch_size": 3500,
        "vocab_size": 4000,
        "d_model": 256,
        "n_heads": 4,
        "d_ff": 256,
        "n_encoder_layers": 3,
        "n_decoder_layers": 3,
        "dropout": 0.3,
    },
    "lm": {
        "max_steps": 6000,  # 49 epochs
        "batch_size": 32,
        "length": 256,
        "d_model": 192,
        "n_heads": 6,
        "d_ff": 768,
        "n_decoder_layers": 5,
        "dropout": 0.2,
        "activation": "gelu",
        "label_smoothing": 0.0,
        "weight_decay": 0.1,
        "ema": 0.998,
        "save_every": 500,
    },
    "mlm": {
        "max_steps": 5000,  # 7.6 epochs
        "batch_size": 64,
        "length": 128,
        "vocab_size": 3000,
        "d_model": 192,
        "n_heads": 6,
        "d_ff": 384,
        "n_encoder_layers": 4,
        "dropout": 0.0,  # the gaps are others each time
        "activation": "gelu",
        "label_smoothing": 0.0,
        "ema": 0.998,
    },
    "finetune": {
        "max_steps": 1000,  # 2.8 epochs
        "batch_size": 1000,
        "optimizer": "adamw",
        "lr": 1e-3,  # the middle one of the rates that are tried
        "dropout": 0.3,
        "ema": 0.99,
        "save_every": 500,
    },
    "vit": {
        "max_steps": 4600,  # 24 epochs
        "patches_steps": 5800,  # as long by the clock
        "batch_size": 256,
        "d_model": 128,
        "n_heads": 4,
        "d_ff": 256,
        "n_encoder_layers": 4,
        "dropout": 0.0,
        "ema": 0.998,
        "save_every": 500,
    },
}
VARIANTS: dict[str, dict[str, dict]] = {  # where the recipe for a pair of languages, or for what is made up, differs
    "translate": {
        "zh-en": {"max_steps": 2700},  # 25 epochs of Tatoeba, whose sentences are shorter
        "toy": {"max_steps": 300, "batch_size": 1000, "vocab_size": 400, "d_model": 64, "dropout": 0.1},
    },
    "lm": {"toy": {"max_steps": 300, "batch_size": 16, "length": 64, "d_model": 64, "n_heads": 4, "d_ff": 128}},
    "mlm": {"toy": {"max_steps": 300, "batch_size": 16, "length": 32, "vocab_size": 400, "d_model": 64, "n_heads": 4}},
    "finetune": {"toy": {"max_steps": 50, "batch_size": 400, "runs": 2}},
    "vit": {"toy": {"max_steps": 300, "patches_steps": 300, "batch_size": 100, "d_model": 64, "d_ff": 64}},
}
SMALL = {"d_model": 8, "n_heads": 2, "d_ff": 8, "n_encoder_layers": 1, "n_decoder_layers": 1, "vocab_size": 320}
TINY = {"dataset": "toy", "max_steps": 4, "save_every": 2, "amp": "off"} | SMALL  # what --dry_run changes
TINY_TASK = {  # and what it changes for one task alone
    "translate": {"batch_size": 200, "beam": 2},
    "lm": {"batch_size": 4, "length": 16},
    "mlm": {"batch_size": 4, "length": 16},
    "finetune": {"batch_size": 200, "pretrained": UNTRAINED, "runs": 2},
    "vit": {"batch_size": 8, "patches_steps": 2},
}


def add_flags(parser: ArgumentParser) -> None:
    """Add the flags of train.py."""
    add_training_flags(parser, max_steps=6000, batch_size=3500, lr=1e-2)
    add_data_flag(parser)
    parser.add_argument(
        "--task",
        default="translate",
        choices=RECIPES,
        help="translate, go on with a text (lm), fill gaps (mlm), judge (finetune), see (vit)",
    )
    parser.add_argument("--pair", default="de-en", choices=PAIRS, help="from which language into which (translate)")
    parser.add_argument(
        "--dataset", default="full", choices=["full", "toy"], help="full: the real data; toy: made up here"
    )
    parser.add_argument(
        "--vocab_size", type=positive, default=4000, help="pieces of words, at most (translate: of both languages; mlm)"
    )
    parser.add_argument("--length", type=positive, default=256, help="tokens of a window (lm, mlm)")
    parser.add_argument(
        "--pretrained", type=Path, help="masked model to go on from (finetune); None: the one that ships"
    )
    parser.add_argument("--runs", type=positive, default=5, help="seeds of either start (finetune)")
    parser.add_argument(
        "--split", default="test", choices=["test", "validation"], help="pictures to measure on at the end (vit)"
    )
    add_model_flags(parser)
    add_vit_flags(parser)
    parser.add_argument("--label_smoothing", type=share, default=0.1, help="share of the label spread evenly")
    parser.add_argument("--optimizer", default="muon", choices=OPTIMIZERS, help="what makes the steps")
    parser.add_argument("--weight_decay", type=amount, default=0.05, help="of weights, not of biases and norms")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--clip", type=amount, default=1.0, help="largest norm of the gradients")
    parser.add_argument("--ema", type=share, default=0.995, help="decay of the weights' running average; 0: none")
    parser.add_argument("--beam", type=positive, default=5, help="beginnings that are kept in the test; 1: greedy")
    parser.add_argument(
        "--length_penalty",
        type=amount,
        default=1.0,
        help="0: the likeliest translation; 1: about the likeliest a token",
    )
    parser.add_argument("--save_every", type=positive, default=200, help="steps between two measurements and states")


def add_model_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--d_model", type=positive, default=256, help="numbers that stand for a token in every layer")
    parser.add_argument("--n_heads", type=positive, default=4, help="heads that share them")
    parser.add_argument("--d_ff", type=positive, default=256, help="width of the feed-forward networks inside")
    parser.add_argument("--n_encoder_layers", type=positive, default=3, help="layers that read")
    parser.add_argument("--n_decoder_layers", type=positive, default=3, help="layers that write")
    parser.add_argument("--dropout", type=share, default=0.1, help="share of the activations left out")
    parser.add_argument("--norm", default="pre", choices=["pre", "post"], help="before each branch, or behind its sum")
    parser.add_argument("--positions", default="sinusoidal", choices=POSITIONS, help="how a token knows its position")
    parser.add_argument("--activation", default="relu", choices=ACTIVATIONS, help="inside feed-forward networks")


def add_vit_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--stem", default="conv", choices=TOKENIZERS, help="what makes tokens of a picture (vit)")
    parser.add_argument("--patch_size", type=int, default=4, choices=[2, 4, 8], help="a token's pixels, a side (vit)")
    parser.add_argument("--pooling", default="mean", choices=["class", "mean"], help="what tells the class (vit)")
    parser.add_argument(
        "--patches_steps", type=natural, default=0, help="steps of a second network, on patches, beside conv; 0: none"
    )


def check_flags_fit(args: Namespace) -> None:
    """Refuse flags that no model can follow.

    Raises:
        UserError: always with what to type instead.
    """
    if args.d_model % args.n_heads:
        raise UserError(f"--d_model {args.d_model} cannot be shared by {args.n_heads} heads: take a multiple of them")
    if args.d_model % 2 and args.positions == "sinusoidal":
        raise UserError(f"--d_model {args.d_model}: sines and cosines come in pairs, so take an even number")
