"""Pre-train a language model from nothing: one dial sets its size, one loop does the rest.
从零预训练一个语言模型：一个旋钮决定大小，一个循环完成其余一切。

    python chapter_10_llm_modern_components/pretrain.py    # on children's books: on 2 CPU cores about 70 minutes
    python chapter_10_llm_modern_components/pretrain.py --corpus code    # on your Python's standard library
    python chapter_10_llm_modern_components/pretrain.py --corpus toy    # small, without a download: a minute
    python chapter_10_llm_modern_components/pretrain.py --depth 3    # smaller: width, heads, rate and batch go along
    python chapter_10_llm_modern_components/pretrain.py --resume    # after an interruption, to the same numbers
    torchrun --nproc_per_node=2 chapter_10_llm_modern_components/pretrain.py    # each batch shared by 2 processes
    torchrun --nproc_per_node=2 chapter_10_llm_modern_components/pretrain.py --parallel fsdp --optimizer adamw
"""

import argparse
import math
import sys
from pathlib import Path
from statistics import fmean, median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import (
    Factor,
    Schedule,
    cosine,
    warmup,
    warmup_stable_decay,
)
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_05_resnet_modern_cnn.src.data_parallel import average, first_process_first, sum_gradients_
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.pretraining import (
    Corpus,
    Windows,
    cached_stream,
    cut,
    dial,
    load_corpus,
    load_tokenizer,
    n_bytes,
    split_validation,
)
from chapter_10_llm_modern_components.pretraining.measuring import (
    baselines,
    bits_per_byte,
    functions,
    parses,
    peak_speed,
    sample_text,
)
from chapter_10_llm_modern_components.pretraining.sharding import EachProcess, shard_, take_gradients_
from chapter_10_llm_modern_components.scaling import training_operations
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, positive, run, script_parser, share
from utils.device import autocast
from utils.distributed import process_group, rank, world_size
from utils.errors import UserError, check_finite
from utils.file_io_util import atomic_write
from utils.results import write_results
from utils.seed import seed_of, set_seed
from utils.tables import final_lines
from utils.timer import Timer

RECIPES = {  # defaults that suit each corpus
    "stories": {"depth": 5, "max_steps": 2600},
    "code": {"depth": 3, "max_steps": 10000},
    "toy": {"depth": 2, "max_steps": 300, "vocab_size": 400, "length": 64, "save_every": 100},
}
TINY = {"corpus": "toy", "depth": 1, "max_steps": 4, "batch_size": 4, "accumulate": 2, "length": 16, "save_every": 2}
TINY |= {"vocab_size": 300, "megabytes": 0.01, "ema": 0.5, "checkpointing": True, "n_sampled": 8}
TINY |= {"ngram_orders": [2, 3]}
PROMPTS = {"stories": "Once upon a time", "code": "\n\ndef", "toy": "the"}  # a space belongs to the next token
N_SHOWN = 10  # samples that are written
SHORTEST = 16  # tokens of a window: as many as a prompt has bytes
N_PARSED = 100  # samples of code that are handed to Python
CHAPTER = "chapter_10_llm_modern_components"
LN2 = math.log(2)
LOOKED_AT = 50_000  # bytes of the validation documents that are looked at during training


def main(argv: list[str] | None = None) -> None:
    parser = build_parser()
    parser.set_defaults(**RECIPES[parser.parse_known_args(argv)[0].corpus])
    args = begin(parser, argv, dry_run=TINY)
    sizes = set_sizes(args)
    lr, batch_size = sizes.pop("lr"), sizes.pop("batch_size")
    with process_group(args.device):
        check_flags(args, sizes, batch_size)
        with first_process_first():  # the others find on disk what the first one has made
            corpus = load_corpus(args.corpus, args.data_root)
            learned, validation = split_validation(corpus.train)
            learned, held_out = (cut(part, int(args.megabytes * 1e6)) for part in (learned, corpus.held_out))
            tokenizer = load_tokenizer(args.tokenizer, learned, args.vocab_size, args.out_dir)
            windows = Windows(cached_stream(learned, tokenizer, args.out_dir), args.length, args.seed)
        config = ModelConfig(len(tokenizer), max_length=args.length, dropout=args.dropout, **sizes)
        model, history, seconds = train(args, config, lr, batch_size, windows, tokenizer, validation, n_bytes(learned))
        if rank() > 0:
            return
        round_to_half(model)
        print(f"{sum(p.numel() for p in model.parameters()):,} parameters, rounded to 16 bits; measuring ...")
        final = measure(model, tokenizer, Corpus(learned, held_out), args.length)
        final |= baselines(learned, validation, held_out, args.ngram_orders)
        seen = args.max_steps * batch_size * args.length
        n_tokens = sum(map(len, windows.shards))
        final |= {"tokens_seen": seen, "train_tokens": n_tokens, "epochs": seen / n_tokens, "train_seconds": seconds}
        final |= {name: value for name, value in history[-1].items() if name not in ("step", "seconds", "lr")}
        final |= {name: median(row[name] for row in history) for name in ("tokens_per_second", "mfu")}
        final |= {"processes": world_size(), "lr": lr, "batch_size": batch_size, "window": args.length}
        texts = write_samples(args, model, tokenizer)
        if args.corpus == "code":
            final |= {"parses": fmean(map(parses, texts)), "parses_count": len(texts)}
            final["parses_held_out"] = fmean(map(parses, functions(held_out, N_PARSED)))
        save_model(args.out_dir / f"{args.corpus}.pth", model, config, final | {"tokenizer": tokenizer.to_plain()})
        write_results(args.out_dir / f"pretrain_{args.corpus}.json", args, final, history)
        print(*final_lines(final), f"\nthe first sample:\n{texts[0]}\n", sep="\n")
        print(f"written to {args.out_dir}: {args.corpus}.pth, pretrain_{args.corpus}.json, samples_{args.corpus}.txt")
        path = args.out_dir / f"{args.corpus}.pth"
        print(f"let it write: python {CHAPTER}/generate.py --model_path {path}")
        print(f"teach it to answer: python {CHAPTER}/sft.py --model_path {path}")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    corpora = "stories: children's books; code: the standard library of this Python; toy: made up here"
    parser.add_argument("--corpus", default="stories", choices=list(RECIPES), help=corpora)
    add_training_flags(parser, batch_size=None, lr=None, max_steps=2600)
    add_data_flag(parser)
    parser.add_argument("--megabytes", type=amount, default=1000.0, help="how much of the corpus is read at most")
    parser.add_argument("--tokenizer", type=Path, help="a file of tokenizer_train.py; None: one is learned")
    parser.add_argument("--vocab_size", type=positive, default=4096, help="tokens of the tokenizer that is learned")
    parser.add_argument("--length", type=positive, default=512, help="tokens of a window")
    parser.add_argument("--depth", type=positive, default=5, help="the dial: layers; flags that are None follow it")
    for name, what in SIZES.items():
        parser.add_argument(f"--{name}", type=positive, help=what)
    parser.add_argument("--dropout", type=share, default=0.0, help="share of activations that are left out")
    parser.add_argument("--optimizer", default="muon", choices=["adamw", "muon"], help="muon: for matrices alone")
    parser.add_argument("--weight_decay", type=amount, default=0.1, help="of matrices, times the rate, a step")
    parser.add_argument("--schedule", default="wsd", choices=["cosine", "wsd"], help="wsd: warm up, stay, fall")
    parser.add_argument("--warmup", type=share, default=0.02, help="share of the steps in which the rate rises")
    parser.add_argument("--decay", type=share, default=0.4, help="share of the steps in which wsd's rate falls")
    parser.add_argument("--accumulate", type=positive, default=1, help="parts of a batch that are computed in turn")
    parser.add_argument("--checkpointing", action="store_true", help="less memory: compute activations twice")
    what = "of torchrun's processes ddp: each holds all weights; fsdp: each some rows of every matrix"
    parser.add_argument("--parallel", default="ddp", choices=["ddp", "fsdp"], help=what)
    parser.add_argument("--clip", type=amount, default=1.0, help="longest norm of the gradients")
    parser.add_argument("--ema", type=share, default=0.0, help="decay of the weights' running average; 0: none")
    parser.add_argument("--save_every", type=positive, default=250, help="steps between saved states")
    what = "bytes of the n-grams to compare with; the validation documents choose"
    parser.add_argument("--ngram_orders", type=positive, nargs="+", default=[6, 7, 8, 9], help=what)
    parser.add_argument("--n_sampled", type=positive, default=250, help="tokens of a sample at most")
    parser.add_argument("--temperature", type=amount, default=0.8, help="of the samples")
    return parser


SIZES = {
    "d_model": "width; None: 64 a head",
    "n_layers": "layers; None: --depth",
    "n_heads": "heads of queries; None: 0.8 a layer",
    "n_kv_heads": "heads of keys and values; None: half of those",
    "d_ff": "inner width of the feed-forward network; None: 8/3 of the width",
}


def set_sizes(args: argparse.Namespace) -> dict[str, float]:
    """Return what the dial says, but for the flags that say otherwise."""
    sizes = {"d_model": args.d_model, "n_layers": args.n_layers, "n_heads": args.n_heads}
    sizes |= {"n_kv_heads": args.n_kv_heads, "d_ff": args.d_ff}
    return dial(args.depth, **sizes, lr=args.lr, batch_size=args.batch_size)


def check_flags(args: argparse.Namespace, sizes: dict[str, int], batch_size: int) -> None:
    """Raise a UserError unless such a model can be trained so: now, not when a tokenizer has been learned."""
    try:
        with torch.device("meta"):
            LanguageModel(ModelConfig(256, max_length=args.length, **sizes))
    except ValueError as error:
        raise UserError(f"--d_model, --n_heads or --n_kv_heads: {error}") from error
    if args.length < SHORTEST:
        raise UserError(f"--length is at least {SHORTEST}: the samples begin with a prompt")
    if batch_size % (parts := args.accumulate * world_size()):
        what = f"{parts} equal parts (--accumulate {args.accumulate}, {world_size()} processes)"
        raise UserError(f"--batch_size {batch_size} cannot be cut into {what}")
    if args.parallel == "fsdp" and args.optimizer == "muon":
        raise UserError("--parallel fsdp leaves no process a whole matrix, as Muon needs: add --optimizer adamw")


def make_factor(schedule: str, steps: int, warmup_share: float, decay_share: float) -> Factor:
    """Return the share of the peak rate at each step."""
    if schedule == "wsd":
        return warmup_stable_decay(steps, warmup_share, decay_share)
    warmup_steps = round(warmup_share * steps)
    return warmup(cosine(steps - warmup_steps), warmup_steps)


def train(
    args: argparse.Namespace,
    config: ModelConfig,
    lr: float,
    batch_size: int,
    windows: Windows,
    tokenizer: ByteTokenizer,
    validation: list[str],
    train_bytes: int,
) -> tuple[LanguageModel, list[dict], float]:
    """Train, and save the state every so many steps; return the model (with --ema its average), history and seconds."""
    set_seed(args.seed)
    model = LanguageModel(config).to(args.device)
    model.checkpointing = args.checkpointing
    work = training_operations(model, args.length)  # for each token
    sharded = args.parallel == "fsdp" and world_size() > 1
    trained = shard_(model, args.device) if sharded else model  # what this process's optimizers and average see
    optimizers = make_optimizers(trained, args.optimizer, lr, args.weight_decay)
    factor = make_factor(args.schedule, args.max_steps, args.warmup, args.decay)
    schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
    ema, timer = EMA(trained, args.ema), Timer()
    parts = {"model": trained, "ema": ema, "timer": timer}
    parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
    parts |= {f"schedule_{i}": schedule for i, schedule in enumerate(schedules)}
    path = args.out_dir / f"state_{args.corpus}.pth"
    processes = EachProcess(parts)
    saved = {"processes": processes} if sharded else parts
    done, history = load_state(path, args.flags, saved) if args.resume else (0, [])

    bytes_per_token = train_bytes / sum(map(len, windows.shards))
    peak = peak_speed(args.device, args.amp) * world_size()
    summed, since, clock = torch.zeros((), device=args.device), done, Timer()
    for step in tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step", disable=rank() > 0):
        # batch: the step's number alone tells which windows; each process takes its share of the rows
        inputs, targets = (x[rank() :: world_size()] for x in windows.batch(step * batch_size, batch_size))  # (B, T)
        set_seed(seed_of(args.seed, step) + rank())  # of the dropout
        model.train()
        model.zero_grad()
        for x, y in zip(inputs.chunk(args.accumulate), targets.chunk(args.accumulate), strict=True):
            x, y = x.to(args.device), y.to(args.device)  # (b, T)

            # forward: logits (b, T, V)
            with autocast(args.device, args.amp):
                logits = model(x)

            # loss: this part's share of the batch's mean
            loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), reduction="sum")  # of (b T, V), (b T,)
            loss = loss / (batch_size * args.length)

            # backward: gradients add up
            loss.backward()
            summed += loss.detach()
        if sharded:  # they have been added up on the way
            take_gradients_(trained, model, args.clip)
        else:
            sum_gradients_(model.parameters())
            clip_by_norm_(model.parameters(), args.clip)

        # step
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        if args.ema:
            ema.update(trained)

        # log and save
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            train_loss = world_size() * average(summed).item() / (step + 1 - since)
            check_finite(train_loss, step + 1)
            speed = (step + 1 - since) * batch_size * args.length / clock.seconds
            bits = train_loss / LN2 / bytes_per_token
            row = {"step": step + 1, "train_loss": train_loss, "train_bits_per_byte": bits}
            row |= {"lr": lr * factor(step), "tokens_per_second": speed, "peak_flops": peak, "mfu": speed * work / peak}
            if sharded:
                processes.gather()
            if rank() == 0:
                averaged = processes.join(model, args.ema > 0) if sharded else ema.model if args.ema else model
                some = cut(validation, LOOKED_AT)
                row["validation_bits_per_byte"] = bits_per_byte(averaged, tokenizer, some, args.length)
                row["seconds"] = timer.seconds
                save_state(path, args.flags, step + 1, [*history, row], saved)
                tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()), file=sys.stderr)
            history.append(row)
            summed, since, clock = torch.zeros_like(summed), step + 1, Timer()
    if sharded:
        processes.gather()
        model = processes.join(model, args.ema > 0) if rank() == 0 else model
    return (model if sharded or not args.ema else ema.model).eval(), history, timer.seconds


def measure(model: LanguageModel, tokenizer: ByteTokenizer, corpus: Corpus, length: int) -> dict:
    """Return the figures on the held-out documents."""
    return {
        "bits_per_byte": bits_per_byte(model, tokenizer, corpus.held_out, length),
        "split": f"held-out documents, in windows of {length} tokens, one every {max(1, length // 2)}",
        "held_out_bytes": n_bytes(corpus.held_out),
        "held_out_documents": len(corpus.held_out),
        "train_bytes": n_bytes(corpus.train),
        "train_documents": len(corpus.train),
        "n_parameters": sum(p.numel() for p in model.parameters()),
    }


def write_samples(args: argparse.Namespace, model: LanguageModel, tokenizer: ByteTokenizer) -> list[str]:
    """Write the first ten samples as they come, sample i from seed i; return them, and of code some more."""
    seeds = range(args.seed, args.seed + (N_PARSED if args.corpus == "code" else N_SHOWN))
    options = PROMPTS[args.corpus], args.n_sampled, args.temperature
    texts = [sample_text(model, tokenizer, *options, seed) for seed in tqdm(seeds, desc="samples")]
    shown = [f"--- {seed} ---\n{text}\n" for seed, text in zip(seeds, texts[:N_SHOWN], strict=False)]
    with atomic_write(args.out_dir / f"samples_{args.corpus}.txt") as temporary:
        temporary.write_text("\n".join(shown), encoding="utf-8")
    return texts


if __name__ == "__main__":
    run(main)
