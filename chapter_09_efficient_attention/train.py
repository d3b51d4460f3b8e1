"""Train one small language model with the attention of your choice; data, steps and sizes are the same for all.
用指定的注意力训练一个小语言模型；数据、步数与尺寸对所有变体相同。

    python chapter_09_efficient_attention/train.py    # softmax attention on Shakespeare's plays: 4 min on 1 CPU core
    python chapter_09_efficient_attention/train.py --attention gated_delta    # or any other, see --help
    python chapter_09_efficient_attention/train.py --attention gated_delta,gated_delta,gated_delta,mha    # a hybrid
    python chapter_09_efficient_attention/train.py --attention mha gqa delta --runs 2    # several, to be compared
    python chapter_09_efficient_attention/train.py --dataset toy --max_steps 100    # no download: 1 min
    python chapter_09_efficient_attention/train.py --resume    # after an interruption, to the same numbers
"""

import argparse
import sys
from itertools import groupby
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
from chapter_09_efficient_attention.costs import decoding_speeds, kept_bytes
from chapter_09_efficient_attention.figures.quality import draw_quality
from chapter_09_efficient_attention.language import CharacterTask
from chapter_09_efficient_attention.model import ATTENTIONS, Decoder, DecoderConfig
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, natural, positive, run, script_parser, share
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed
from utils.spread import over_seeds
from utils.tables import aligned, final_lines
from utils.timer import Timer

TINY = {"dataset": "toy", "attention": ["mha", "gated_delta,gated_delta,mha"], "max_steps": 2, "batch_size": 4}
TINY |= {"length": 16, "amp": "off", "d_model": 16, "n_heads": 2, "d_ff": 16, "n_layers": 3, "save_every": 1}
TINY |= {"kept_length": 40, "decode_tokens": 2}
PROBE_LENGTH = 32  # characters of the validation text whose last logits are recorded with the weights
QUICK = 64  # windows of the validation text for a quick look
ROUNDS = 5  # turns in which decoding is timed
SHOWN = ("cache_bytes_a_token", "tokens_a_second", "train_seconds")


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    text = shakespeare(args.data_root) if args.dataset == "full" else toy_text()
    task = CharacterTask(text, args.batch_size, args.length, args.device)
    if not 2 <= args.kept_length <= len(task.valid_ids):
        raise UserError(f"--kept_length {args.kept_length} is not from 2 to the {len(task.valid_ids)} of the text")
    names = list(dict.fromkeys(args.attention))
    seeds = range(args.seed, args.seed + args.runs)
    if args.resume and not any(state_path(args, name, seed).exists() for name in names for seed in seeds):
        raise UserError(f"--resume: {args.out_dir} holds no state of such a training")
    models, found, per_seed = {}, {}, []
    for name in names:
        rows = []
        for seed in seeds:
            model, history, seconds = train(task, name, seed, args)
            round_to_half(model)
            rows.append({"seed": seed} | evaluate(model, task) | {"train_seconds": seconds, "history": history})
            if seed == args.seed:
                models[name] = model
                save_model(args.out_dir / f"{file_name(name)}.pth", model, model.config, about(model, task, rows[0]))
        measured = [{key: value for key, value in row.items() if key != "history"} for row in rows]
        found[name] = over_seeds(measured, ["val_loss", "train_seconds"]) | kept(model, task, args.kept_length)
        found[name] |= {key: rows[0][key] for key in ("val_count", "n_parameters")}
        write_results(args.out_dir / f"{file_name(name)}.json", args, found[name], rows[0]["history"], measured)
        per_seed += [{"attention": name} | row for row in rows]
    if len(names) > 1:
        compare(models, found, per_seed, task, args)
    else:
        print(*final_lines(found[names[0]]), sep="\n")
    print(f"written to {args.out_dir}")


def file_name(attention: str) -> str:
    """Return a name without commas: "gated_delta_x3_mha" for three layers of the one and one of the other."""
    groups = ((name, len(list(group))) for name, group in groupby(attention.split(",")))
    return "_".join(name if count == 1 else f"{name}_x{count}" for name, count in groups)


def state_path(args: argparse.Namespace, attention: str, seed: int) -> Path:
    return args.out_dir / f"state_{file_name(attention)}_{seed}.pth"


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, max_steps=1500, batch_size=16, lr=2e-2)
    add_data_flag(parser)
    parser.add_argument(
        "--dataset", default="full", choices=["full", "toy"], help="full: tinyshakespeare; toy: made up here"
    )
    parser.add_argument(
        "--attention",
        nargs="+",
        default=["mha"],
        help=f"one or several; each a name, or some with commas, repeated over the layers: {', '.join(ATTENTIONS)}",
    )
    parser.add_argument("--runs", type=positive, default=1, help="trainings of each, with seeds from --seed on")
    parser.add_argument("--length", type=positive, default=128, help="characters of a window")
    parser.add_argument("--d_model", type=positive, default=128, help="numbers that stand for a character in a layer")
    parser.add_argument("--n_heads", type=positive, default=4, help="heads that share them")
    parser.add_argument("--d_ff", type=positive, default=384, help="width of the feed-forward networks inside")
    parser.add_argument("--n_layers", type=positive, default=4, help="layers")
    parser.add_argument("--dropout", type=share, default=0.0, help="share of what a branch adds that is left out")
    parser.add_argument("--conv_size", type=natural, default=4, help="tokens of the short convolutions; 0: none")
    parser.add_argument("--optimizer", default="muon", choices=OPTIMIZERS, help="what makes the steps")
    parser.add_argument("--weight_decay", type=amount, default=0.1, help="of weights, not of biases and norms")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--clip", type=amount, default=1.0, help="largest norm of the gradients")
    parser.add_argument("--ema", type=share, default=0.99, help="decay of the weights' running average; 0: none")
    parser.add_argument("--save_every", type=positive, default=100, help="steps between two measurements and states")
    parser.add_argument("--kept_length", type=positive, default=1024, help="tokens after which caches are measured")
    parser.add_argument("--decode_tokens", type=positive, default=64, help="tokens to write after them, timed")
    return parser


def build_model(args: argparse.Namespace, attention: str, n_tokens: int) -> Decoder:
    """Return the model that the flags describe.

    Raises:
        UserError: an attention that there is not, or heads that cannot share the width.
    """
    config = {"attention": attention, "d_model": args.d_model, "n_heads": args.n_heads, "d_ff": args.d_ff}
    config |= {"n_layers": args.n_layers, "dropout": args.dropout, "conv_size": args.conv_size}
    try:
        return Decoder(DecoderConfig(n_tokens=n_tokens, **config)).to(args.device)
    except ValueError as error:
        raise UserError(f"--attention, --d_model or --n_heads: {error}") from error


def train(
    task: CharacterTask, attention: str, seed: int, args: argparse.Namespace
) -> tuple[Decoder, list[dict], float]:
    """Train, save the state every so many steps; return the model (with --ema its average), history and seconds.

    With --resume go on from the state, if this training has one; one that is finished is not done again.
    """
    set_seed(seed)
    model = build_model(args, attention, len(task.characters))
    optimizers = make_optimizers(model, args.optimizer, args.lr, args.weight_decay)
    warmup_steps = round(args.warmup * args.max_steps)
    factor = warmup(cosine(args.max_steps - warmup_steps), warmup_steps)
    schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
    ema, timer = EMA(model, args.ema), Timer()
    averaged = ema.model if args.ema else model
    parts = {"model": model, "ema": ema, "timer": timer}
    parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
    parts |= {f"schedule_{i}": schedule for i, schedule in enumerate(schedules)}
    path = state_path(args, attention, seed)
    flags = args.flags | {"attention": attention, "seed": seed, "runs": 1}  # others may come before and after it
    done, history = load_state(path, flags, parts) if args.resume and path.exists() else (0, [])

    summed, since = torch.zeros((), device=args.device), done
    bar = tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step", desc=attention)
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
            save_state(path, flags, step + 1, history, parts)
            summed, since = torch.zeros_like(summed), step + 1
    return averaged.eval(), history, timer.seconds


def evaluate(model: Decoder, task: CharacterTask) -> dict[str, float | int]:
    """Return the loss on the whole validation text, over how many characters it is, and the model's size."""
    loss, count = task.loss(model)
    return {"val_loss": loss, "val_count": count, "n_parameters": sum(p.numel() for p in model.parameters())}


@torch.no_grad()
def about(model: Decoder, task: CharacterTask, row: dict) -> dict:
    """Return what is stored with the weights: figures, characters, and some logits to know the model again by."""
    text = task.valid_ids[:PROBE_LENGTH]
    probe = model(text[None].to(task.device))[0][0, -1].tolist()
    figures = {name: value for name, value in row.items() if name != "history"}
    return figures | {"characters": task.characters, "probe_text": text.tolist(), "probe": probe}


def kept(model: Decoder, task: CharacterTask, length: int) -> dict[str, float | int]:
    """Return the bytes that caches hold after so many tokens, and how many more for each token from half of them on."""
    half, whole = (kept_bytes(model, task.valid_ids[:n].to(task.device)) for n in (length // 2, length))
    added = (whole - half) / (length - length // 2)
    return {"cache_bytes": whole, "cache_tokens": length, "cache_bytes_a_token": added}


def compare(models: dict, found: dict, per_seed: list[dict], task: CharacterTask, args: argparse.Namespace) -> None:
    """Time decoding, all in turns; write what is known of all variants side by side."""
    ids = task.valid_ids[: args.kept_length].to(task.device)
    speeds = decoding_speeds(models, ids, args.decode_tokens, ROUNDS)
    final, table = {"n_seeds": args.runs, "cache_tokens": args.kept_length}, []
    for name, row in found.items():
        row = row | {"tokens_a_second": speeds[name]}
        final |= {f"{file_name(name)}_{key}": value for key, value in row.items() if key != "cache_tokens"}
        loss = f"{row['val_loss']:.3f} ± {row['val_loss_std']:.3f}"
        table.append([name, loss, row["cache_bytes"], *(f"{row[k]:.0f}" for k in SHOWN)])
    write_results(args.out_dir / "quality.json", args, final, per_seed=per_seed)
    save_figure(draw_quality(final), args.out_dir / "quality.png")
    print(*aligned([["attention", "val_loss", "cache_bytes", *SHOWN], *table], "<>"), sep="\n")


if __name__ == "__main__":
    run(main)
