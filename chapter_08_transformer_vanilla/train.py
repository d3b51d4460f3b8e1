"""Train a Transformer to translate; each task's defaults are the recipe of the model that ships.
训练 Transformer 做翻译；每个任务的默认参数就是随附模型的训练配方。

    python chapter_08_transformer_vanilla/train.py    # German to English, Multi30k: on 2 CPU cores about 65 min
    python chapter_08_transformer_vanilla/train.py --pair en-de    # the other way round: 65 min
    python chapter_08_transformer_vanilla/train.py --pair zh-en    # Chinese to English, Tatoeba: 40 min
    python chapter_08_transformer_vanilla/train.py --dataset toy    # a small model, without a download: 1 min
    python chapter_08_transformer_vanilla/train.py --resume    # after an interruption, to the same numbers
    torchrun --nproc_per_node=2 chapter_08_transformer_vanilla/train.py    # each batch shared by 2 processes
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import OPTIMIZERS
from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_05_resnet_modern_cnn.src.data_parallel import average, first_process_first, sum_gradients_
from chapter_08_transformer_vanilla.dataset import PAIRS
from chapter_08_transformer_vanilla.layers import ACTIVATIONS
from chapter_08_transformer_vanilla.positional_encoding import POSITIONS
from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_08_transformer_vanilla.tasks.translate import Translate
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, positive, run, script_parser, share
from utils.device import autocast
from utils.distributed import process_group, rank, world_size
from utils.errors import UserError, check_finite
from utils.results import write_results
from utils.seed import set_seed
from utils.tables import final_lines
from utils.timer import Timer

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
}
VARIANTS = {  # where a pair's or a data set's recipe differs
    "zh-en": {"max_steps": 3600},  # 34 epochs of Tatoeba, whose sentences are shorter
    "toy": {"max_steps": 300, "batch_size": 1000, "vocab_size": 400, "d_model": 64, "dropout": 0.1},
}
TINY = {"dataset": "toy", "max_steps": 4, "batch_size": 200, "vocab_size": 320, "d_model": 8, "n_heads": 2, "d_ff": 8}
TINY |= {"n_encoder_layers": 1, "n_decoder_layers": 1, "save_every": 2, "beam": 2, "amp": "off"}
STRIDE = 1_000_003  # between the seeds of two steps


def main(argv: list[str] | None = None) -> None:
    parser = build_parser()
    known = parser.parse_known_args(argv)[0]
    parser.set_defaults(**RECIPES[known.task] | VARIANTS.get(known.pair, {}) | VARIANTS.get(known.dataset, {}))
    args = begin(parser, argv, dry_run=TINY)
    check_flags_fit(args)
    with process_group(args.device):
        with first_process_first():
            task = {"translate": make_translation}[args.task](args)
        model, history, seconds = train(task, args, args.out_dir / f"state_{task.name}.pth")
        if rank() > 0:
            return
        round_to_half(model)
        final = task.evaluate(model) | task.baselines() | {"epochs": task.n_epochs(args.max_steps)}
        final |= {"train_seconds": seconds, "processes": world_size()}
        final |= {"n_parameters": sum(parameter.numel() for parameter in model.parameters())}
        save_model(args.out_dir / f"{task.name}.pth", model, task.config, final | task.about(model))
        write_results(args.out_dir / f"{task.name}.json", args, final, history)
        print(*final_lines(final), sep="\n")
        print(f"written to {args.out_dir}")


def check_flags_fit(args: argparse.Namespace) -> None:
    """Refuse flags that no model can follow.

    Raises:
        UserError: always with what to type instead.
    """
    if args.d_model % args.n_heads:
        raise UserError(f"--d_model {args.d_model} cannot be shared by {args.n_heads} heads: take a multiple of them")
    if args.d_model % 2 and args.positions == "sinusoidal":
        raise UserError(f"--d_model {args.d_model}: sines and cosines come in pairs, so take an even number")


def make_translation(args: argparse.Namespace) -> Translate:
    """Return the translation task that the flags describe, with its data."""
    config = {"d_model": args.d_model, "n_heads": args.n_heads, "d_ff": args.d_ff, "dropout": args.dropout}
    config |= {"n_encoder_layers": args.n_encoder_layers, "n_decoder_layers": args.n_decoder_layers}
    config |= {"norm": args.norm, "positions": args.positions, "activation": args.activation}
    data = args.pair, args.dataset, args.data_root, args.vocab_size
    return Translate(*data, config, args.batch_size, args.beam, args.length_penalty, args.device)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, max_steps=6000, batch_size=3500, lr=1e-2)
    add_data_flag(parser)
    parser.add_argument("--task", default="translate", choices=RECIPES, help="what to learn")
    parser.add_argument("--pair", default="de-en", choices=PAIRS, help="from which language into which (translate)")
    parser.add_argument(
        "--dataset", default="full", choices=["full", "toy"], help="full: Multi30k or Tatoeba; toy: made up here"
    )
    parser.add_argument("--vocab_size", type=positive, default=4000, help="pieces that both languages share, at most")
    add_model_flags(parser)
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
    return parser


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--d_model", type=positive, default=256, help="numbers that stand for a token in every layer")
    parser.add_argument("--n_heads", type=positive, default=4, help="heads that share them")
    parser.add_argument("--d_ff", type=positive, default=256, help="width of the feed-forward networks inside")
    parser.add_argument("--n_encoder_layers", type=positive, default=3, help="layers that read")
    parser.add_argument("--n_decoder_layers", type=positive, default=3, help="layers that write")
    parser.add_argument("--dropout", type=share, default=0.1, help="share of the activations left out")
    parser.add_argument("--norm", default="pre", choices=["pre", "post"], help="before each branch, or behind its sum")
    parser.add_argument("--positions", default="sinusoidal", choices=POSITIONS, help="how a token knows its place")
    parser.add_argument("--activation", default="relu", choices=ACTIVATIONS, help="inside feed-forward networks")


def train(task: Translate, args: argparse.Namespace, state_path: Path) -> tuple[nn.Module, list[dict], float]:
    """Train, save the state every so many steps; return the model (with --ema its average), history and seconds."""
    model = task.build().to(args.device)
    optimizers = make_optimizers(model, args.optimizer, args.lr, args.weight_decay)
    warmup_steps = round(args.warmup * args.max_steps)
    factor = warmup(cosine(args.max_steps - warmup_steps), warmup_steps)
    schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
    ema, timer = EMA(model, args.ema), Timer()
    averaged = ema.model if args.ema else model
    parts = {"model": model, "ema": ema, "timer": timer}
    parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
    parts |= {f"schedule_{i}": schedule for i, schedule in enumerate(schedules)}
    done, history = load_state(state_path, args.flags, parts) if args.resume else (0, [])

    summed, since = torch.zeros((), device=args.device), done
    bar = tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step", disable=rank() > 0)
    for step in bar:
        # batch: drawn from the step's own seed, so that all processes draw the same, and take their share of its rows
        model.train()
        set_seed(args.seed + STRIDE * step)
        inputs, targets = task.batch()
        n_targets = (targets != IGNORED).sum()  # of all processes together
        inputs, targets = [x[rank() :: world_size()] for x in inputs], targets[rank() :: world_size()]

        # forward: logits (B, T, V)
        set_seed(args.seed + STRIDE * step + rank())  # dropout is each process's own
        with autocast(args.device, args.amp):
            logits = model(*inputs)

        # loss: cross-entropy with smoothed labels, padding left out
        logits, targets = logits.float().flatten(0, 1), targets.flatten()  # (B T, V), (B T,)
        losses = F.cross_entropy(logits, targets, label_smoothing=args.label_smoothing, reduction="none")  # (B T,)
        loss = losses.sum() / n_targets  # where the target is IGNORED it is 0

        # backward
        model.zero_grad()
        loss.backward()
        sum_gradients_(model.parameters())
        clip_by_norm_(model.parameters(), args.clip)

        # step
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        ema.update(model)

        # log and save
        summed += loss.detach()
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            mean = world_size() * average(summed).item() / (step + 1 - since)
            check_finite(mean, step + 1)
            row = {"step": step + 1, "train_loss": mean, "lr": args.lr * factor(step), "seconds": timer.seconds}
            if rank() == 0:
                row |= task.validate(averaged)
                save_state(state_path, args.flags, step + 1, [*history, row], parts)
            history.append(row)
            bar.set_postfix({name: f"{value:.4f}" for name, value in row.items() if name not in ("step", "seconds")})
            summed, since = torch.zeros_like(summed), step + 1
    return averaged.eval(), history, timer.seconds


if __name__ == "__main__":
    run(main)
