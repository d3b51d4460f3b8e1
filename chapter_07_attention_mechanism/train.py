"""Train a model with attention: dates to ISO, German to English, pictures to sentences, numbers to sorted numbers.
训练带注意力的模型：统一日期格式、德语译英语、描述图片、给数字排序。

    python chapter_07_attention_mechanism/train.py    # dates, made here, three seeds: 11 min
    python chapter_07_attention_mechanism/train.py --task caption    # pictures, drawn here: 20 min
    python chapter_07_attention_mechanism/train.py --task sort    # sorting, reversing, listing: 3 min
    python chapter_07_attention_mechanism/train.py --task sort --shift 0    # the same, for short lists alone
    python chapter_07_attention_mechanism/train.py --task translate    # Multi30k, with and without: 2 h on a CPU core
    python chapter_07_attention_mechanism/train.py --task translate --dataset toy --max_steps 200    # no download
    python chapter_07_attention_mechanism/train.py --attention dot luong concat multihead    # other scores, one by one
    python chapter_07_attention_mechanism/train.py --resume    # after an interruption, to the same numbers

Each task's defaults are the recipe of the model that ships.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import OPTIMIZERS
from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_07_attention_mechanism.decoder import ATTENTIONS
from chapter_07_attention_mechanism.tasks.caption import Caption
from chapter_07_attention_mechanism.tasks.dates import Dates
from chapter_07_attention_mechanism.tasks.sort import SHIFT, Sort
from chapter_07_attention_mechanism.tasks.translate import Translate
from chapter_07_attention_mechanism.vocab import PAD_ID
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import (
    add_data_flag,
    add_training_flags,
    amount,
    begin,
    natural,
    positive,
    run,
    script_parser,
    share,
)
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.results import write_results
from utils.seed import set_seed
from utils.spread import mean_and_std
from utils.tables import final_lines
from utils.timer import Timer

Task = Dates | Caption | Sort | Translate
RECIPES = {  # each task's defaults
    "dates": {
        "attention": ["additive"],
        "runs": 3,
        "max_steps": 2000,
        "batch_size": 64,
        "embedding": 64,
        "hidden": 128,
        "dropout": 0.1,
    },
    "caption": {
        "attention": ["additive"],
        "max_steps": 3000,
        "batch_size": 64,
        "embedding": 32,
        "hidden": 128,
        "dropout": 0.1,
    },
    "sort": {
        "attention": ["multihead"],
        "max_steps": 6000,
        "batch_size": 128,
        "hidden": 64,
        "label_smoothing": 0.0,
    },
    "translate": {
        "attention": ["additive", "none"],
        "max_steps": 5000,
        "batch_size": 3000,
        "embedding": 192,
        "hidden": 320,
        "dropout": 0.4,
    },
}
TINY = {"dataset": "toy", "max_steps": 4, "batch_size": 100, "embedding": 8, "hidden": 8, "pieces": 60, "amp": "off"}
TINY |= {"save_every": 2, "test_count": 20, "runs": 2}


def main(argv: list[str] | None = None) -> None:
    parser = build_parser()
    parser.set_defaults(**RECIPES[parser.parse_known_args(argv)[0].task])
    args = begin(parser, argv, dry_run=TINY)
    check_flags_fit(args)
    rows, histories, final = [], [], {}
    for attention in args.attention:
        task = make_task(args, attention)
        for seed in range(args.seed, args.seed + args.runs):
            arm = {"attention": attention, "seed": seed}
            set_seed(seed)
            state_path = args.out_dir / f"state_{attention}_{seed}.pth"
            model, history, seconds = train(task, args, state_path, may_start_fresh=bool(rows))
            round_to_half(model)
            figures = task.evaluate(model) | {"train_seconds": seconds, "parameters": count_parameters(model)}
            rows.append(arm | figures)
            histories += [arm | row for row in history]
            if seed == args.seed:  # this one ships
                about = rows[-1] | task.about() | {"task": args.task}
                save_model(args.out_dir / f"{name_of(args.task, attention, args.shift)}.pth", model, task.config, about)
        final |= summarize([row for row in rows if row["attention"] == attention], suffix_of(attention, args.attention))
    final |= task.baselines()
    name = name_of(args.task, args.attention[0], args.shift)
    write_results(args.out_dir / f"{name}.json", args, final, histories, rows)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}")


def check_flags_fit(args: argparse.Namespace) -> None:
    """Refuse flags that no model can follow.

    Raises:
        UserError: always with what to type instead.
    """
    if args.task == "sort" and args.attention != RECIPES["sort"]["attention"]:
        raise UserError("--task sort is learned by self-attention alone: leave out --attention")
    if args.task == "caption" and "none" in args.attention:
        raise UserError("a picture is not read in an order, so no vector is its last: leave none out of --attention")
    if args.copy and args.task not in ("dates", "translate"):
        raise UserError(f"--task {args.task} reads no text that could be copied: leave out --copy")
    if args.hidden % 4:
        raise UserError(f"--hidden {args.hidden} cannot be shared by four heads: take a multiple of 4")


def name_of(task: str, attention: str, shift: int) -> str:
    """Name a run's files: after the task, and after what is not as in its recipe: attention, or unshifted positions."""
    if task == "sort" and shift == 0:
        return "sort_unshifted"
    return task if attention == RECIPES[task]["attention"][0] else f"{task}_{attention}"


def suffix_of(attention: str, compared: list[str]) -> str:
    """Return how the names of an attention's figures end, where several are compared; the first one's are plain."""
    if attention == compared[0]:
        return ""
    return "_without_attention" if attention == "none" else f"_{attention}"


def summarize(rows: list[dict], suffix: str) -> dict:
    """Return figures over seeds: of measured numbers mean and spread, of anything else what the first seed has."""
    found = {}
    for name, value in rows[0].items():
        if isinstance(value, float) and len(rows) > 1:
            found |= mean_and_std(f"{name}{suffix}", [row[name] for row in rows])
        elif name not in ("attention", "seed"):
            found[f"{name}{suffix}"] = value
    return found | {f"n_seeds{suffix}": len(rows)}


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def make_task(args: argparse.Namespace, attention: str) -> Task:
    """Return the task that the flags describe, with its data, for models with one kind of attention."""
    if args.task == "sort":
        config = {"width": args.hidden, "hidden": 4 * args.hidden}
        return Sort(config, args.batch_size, args.device, args.test_count, args.shift)
    config = {"embedding": args.embedding, "hidden": args.hidden, "dropout": args.dropout}
    config |= {"attention": attention, "copy": args.copy and attention != "none"}
    if args.task == "translate":
        data = args.dataset, args.data_root, args.vocabulary, args.pieces
        return Translate(*data, config, args.batch_size, args.device)
    kind = {"dates": Dates, "caption": Caption}[args.task]
    return kind(config, args.batch_size, args.device, args.test_count)


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, max_steps=1000, batch_size=64, lr=1e-2)
    add_data_flag(parser)
    parser.add_argument(
        "--task",
        default="dates",
        choices=RECIPES,
        help="dates into YYYY-MM-DD, German into English, pictures into sentences, or numbers sorted; other defaults "
        "are those of this task's recipe",
    )
    parser.add_argument("--dataset", default="full", choices=["full", "toy"], help="full: Multi30k; toy: made up here")
    parser.add_argument(
        "--vocabulary",
        default="subwords",
        choices=["subwords", "words"],
        help="what sentences are cut into (translate)",
    )
    parser.add_argument("--pieces", type=positive, default=5000, help="subwords that both languages share (translate)")
    parser.add_argument("--test_count", type=positive, default=2000, help="dates or pictures to test on")
    parser.add_argument(
        "--attention",
        nargs="+",
        default=["additive"],
        choices=ATTENTIONS,
        help="how places of the source are found; several: one model each; none: from one vector, not at all",
    )
    parser.add_argument("--runs", type=positive, default=1, help="models of each kind, with seeds from --seed on")
    parser.add_argument("--copy", action="store_true", help="let the decoder copy what it looks at")
    parser.add_argument("--embedding", type=positive, default=64, help="width of the embeddings")
    parser.add_argument("--hidden", type=positive, default=128, help="width of the states")
    parser.add_argument("--shift", type=natural, default=SHIFT, help="positions that list and answer draw apart (sort)")
    parser.add_argument("--dropout", type=share, default=0.1, help="share of the activations left out")
    parser.add_argument("--label_smoothing", type=share, default=0.1, help="share of the label spread evenly")
    parser.add_argument("--optimizer", default="muon", choices=OPTIMIZERS, help="what makes the steps")
    parser.add_argument("--weight_decay", type=amount, default=0.05, help="of weights, not of biases")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--clip", type=amount, default=1.0, help="largest norm of the gradients")
    parser.add_argument("--ema", type=share, default=0.998, help="decay of the weights' running average; 0: none")
    parser.add_argument("--save_every", type=positive, default=250, help="steps between two measurements and states")
    return parser


def train(
    task: Task, args: argparse.Namespace, state_path: Path, may_start_fresh: bool
) -> tuple[nn.Module, list[dict], float]:
    """Train, save the state every so many steps; return the model (with --ema its average), history and seconds.

    `may_start_fresh`: with --resume, a missing state means that this arm had not begun, and is no fault.
    """
    model = task.build().to(args.device)
    optimizers = make_optimizers(model, args.optimizer, args.lr, args.weight_decay)
    warmup_steps = round(args.warmup * args.max_steps)
    factor = warmup(cosine(args.max_steps - warmup_steps), warmup_steps)
    schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
    average, timer = EMA(model, args.ema), Timer()
    parts = {"model": model, "average": average, "timer": timer}
    parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
    parts |= {f"schedule_{i}": schedule for i, schedule in enumerate(schedules)}
    resume = args.resume and (state_path.exists() or not may_start_fresh)
    done, history = load_state(state_path, args.flags, parts) if resume else (0, [])

    losses = torch.zeros(args.save_every)
    bar = tqdm(range(done, args.max_steps), initial=done, total=args.max_steps, unit="step")
    for step in bar:
        # batch
        model.train()
        inputs, targets = task.batch()  # targets (B, T)

        # forward: log-probabilities (B, T, V)
        with autocast(args.device, args.amp):
            log_p = model(*inputs)

        # loss: cross-entropy with smoothed labels, padding left out
        real = targets != PAD_ID  # (B, T)
        of_target = log_p.gather(2, targets[:, :, None])[:, :, 0]  # (B, T)
        loss = -((1 - args.label_smoothing) * of_target + args.label_smoothing * log_p.mean(dim=2))[real].mean()

        # backward
        model.zero_grad()
        loss.backward()
        clip_by_norm_(model.parameters(), args.clip)

        # step
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        average.update(model)

        # log and save
        losses[step % args.save_every] = loss.item()
        if (step + 1) % args.save_every == 0 or step + 1 == args.max_steps:
            mean = losses[: step % args.save_every + 1].mean().item()
            check_finite(mean, step + 1)
            row = {"step": step + 1, "train_loss": mean} | task.validate(average.model if args.ema else model)
            history.append(row | {"seconds": timer.seconds})
            bar.set_postfix({name: f"{value:.4f}" for name, value in row.items() if name != "step"})
            save_state(state_path, args.flags, step + 1, history, parts)
    return (average.model if args.ema else model).eval(), history, timer.seconds


if __name__ == "__main__":
    run(main)
