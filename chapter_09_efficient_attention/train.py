"""Train one small language model with the attention of your choice; data, steps and sizes are the same for all.
用指定的注意力训练一个小语言模型；数据、步数与尺寸对所有变体相同。

    python chapter_09_efficient_attention/train.py    # softmax attention on Shakespeare's plays
    python chapter_09_efficient_attention/train.py --attention gated_delta    # or any other, see --help
    python chapter_09_efficient_attention/train.py --attention gated_delta,gated_delta,gated_delta,mha    # a hybrid
    python chapter_09_efficient_attention/train.py --dataset toy --max_steps 100    # no download: 1 min
    python chapter_09_efficient_attention/train.py --resume    # after an interruption, to the same numbers
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn import functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import OPTIMIZERS
from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_06_rnn_lstm_seq.dataset import shakespeare
from chapter_06_rnn_lstm_seq.toy import toy_text
from chapter_09_efficient_attention.language import CharacterTask
from chapter_09_efficient_attention.model import ATTENTIONS, Decoder, DecoderConfig, cache_bytes
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, natural, positive, run, script_parser, share
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.results import write_results
from utils.tables import final_lines
from utils.timer import Timer

TINY = {"dataset": "toy", "attention": "mha,gated_delta", "max_steps": 4, "batch_size": 4, "length": 16, "amp": "off"}
TINY |= {"d_model": 16, "n_heads": 2, "d_ff": 16, "n_layers": 2, "save_every": 2}
PROBE_LENGTH = 32  # characters of the validation text whose last logits are recorded with the weights
QUICK = 64  # windows of the validation text for a quick look


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    text = shakespeare(args.data_root) if args.dataset == "full" else toy_text()
    task = CharacterTask(text, args.batch_size, args.length, args.device)
    model, history, seconds = train(task, args, args.out_dir / f"state_{file_name(args.attention)}.pth")
    round_to_half(model)
    final = evaluate(model, task) | {"train_seconds": seconds}
    name = file_name(args.attention)
    probe_text = task.valid_ids[:PROBE_LENGTH]
    with torch.no_grad():
        probe = model(probe_text[None].to(args.device))[0][0, -1].tolist()
    about = final | {"characters": task.characters, "probe_text": probe_text.tolist(), "probe": probe}
    save_model(args.out_dir / f"{name}.pth", model, model.config, about)
    write_results(args.out_dir / f"{name}.json", args, final, history)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}")


def file_name(attention: str) -> str:
    return attention.replace(",", "_")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, max_steps=1500, batch_size=16, lr=1e-2)
    add_data_flag(parser)
    parser.add_argument(
        "--dataset", default="full", choices=["full", "toy"], help="full: tinyshakespeare; toy: made up here"
    )
    parser.add_argument(
        "--attention", default="mha", help=f"names with commas, repeated over the layers: {', '.join(ATTENTIONS)}"
    )
    parser.add_argument("--length", type=positive, default=256, help="characters of a window")
    parser.add_argument("--d_model", type=positive, default=128, help="numbers that stand for a character in a layer")
    parser.add_argument("--n_heads", type=positive, default=4, help="heads that share them")
    parser.add_argument("--d_ff", type=positive, default=384, help="width of the feed-forward networks inside")
    parser.add_argument("--n_layers", type=positive, default=4, help="layers")
    parser.add_argument("--dropout", type=share, default=0.1, help="share of what a branch adds that is left out")
    parser.add_argument("--conv_size", type=natural, default=4, help="tokens of the short convolutions; 0: none")
    parser.add_argument("--optimizer", default="muon", choices=OPTIMIZERS, help="what makes the steps")
    parser.add_argument("--weight_decay", type=amount, default=0.1, help="of weights, not of biases and norms")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--clip", type=amount, default=1.0, help="largest norm of the gradients")
    parser.add_argument("--ema", type=share, default=0.99, help="decay of the weights' running average; 0: none")
    parser.add_argument("--save_every", type=positive, default=100, help="steps between two measurements and states")
    return parser


def build_model(args: argparse.Namespace, n_tokens: int) -> Decoder:
    """Return the model that the flags describe.

    Raises:
        UserError: an attention that there is not, or heads that cannot share the width.
    """
    config = {"attention": args.attention, "d_model": args.d_model, "n_heads": args.n_heads, "d_ff": args.d_ff}
    config |= {"n_layers": args.n_layers, "dropout": args.dropout, "conv_size": args.conv_size}
    try:
        return Decoder(DecoderConfig(n_tokens=n_tokens, **config)).to(args.device)
    except ValueError as error:
        raise UserError(f"--attention, --d_model or --n_heads: {error}") from error


def train(task: CharacterTask, args: argparse.Namespace, state_path: Path) -> tuple[Decoder, list[dict], float]:
    """Train, save the state every so many steps; return the model (with --ema its average), history and seconds."""
    model = build_model(args, len(task.characters))
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
    bar = tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step")
    for step in bar:
        # batch
        model.train()
        inputs, targets = task.batch()  # (B, T) each
        # forward
        with autocast(args.device, args.amp):
            logits, _ = model(inputs)  # (B, T, V)
        # loss
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        # backward
        model.zero_grad()
        loss.backward()
        clip_by_norm_(model.parameters(), args.clip)
        # step
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        ema.update(model)
        # log and save
        summed += loss.detach()
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            row = {"step": step + 1, "train_loss": summed.item() / (step + 1 - since), "seconds": timer.seconds}
            check_finite(row["train_loss"], step + 1)
            row |= {"val_loss": task.loss(averaged, QUICK)[0]}
            history.append(row)
            bar.set_postfix({name: f"{row[name]:.4f}" for name in ("train_loss", "val_loss")})
            save_state(state_path, args.flags, step + 1, history, parts)
            summed, since = torch.zeros_like(summed), step + 1
    return averaged.eval(), history, timer.seconds


@torch.no_grad()
def evaluate(model: Decoder, task: CharacterTask) -> dict[str, float | int]:
    """Return the loss on the whole validation text, and what the caches hold after a window of it."""
    loss, count = task.loss(model)
    caches = model.new_caches(task.length)
    model(task.valid_ids[None, : task.length].to(task.device), caches)
    return {
        "val_loss": loss,
        "val_count": count,
        "cache_bytes": cache_bytes(caches),
        "cache_tokens": task.length,
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


if __name__ == "__main__":
    run(main)
