"""Train a recurrent network on one of four tasks; each task has defaults of its own, the recipe of the shipped model.
在四个任务之一上训练循环网络；每个任务的默认参数就是随附模型的训练配方。

    python chapter_06_rnn_lstm_seq/train.py    # Shakespeare, character by character: on one CPU core about 75 min
    python chapter_06_rnn_lstm_seq/train.py --cell gru --max_steps 1290    # another cell: 25 min
    python chapter_06_rnn_lstm_seq/train.py --task digits --bidirectional    # and leaving out each speaker: 45 min
    python chapter_06_rnn_lstm_seq/train.py --task sentiment --bidirectional    # three seeds: 3 min
    python chapter_06_rnn_lstm_seq/train.py --task series    # three seeds: 12 min
    python chapter_06_rnn_lstm_seq/train.py --dataset toy --max_steps 300    # no download: 1 min
    python chapter_06_rnn_lstm_seq/train.py --resume    # after an interruption, to the same numbers
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import nn
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import OPTIMIZERS
from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_06_rnn_lstm_seq.recurrent import CELLS
from chapter_06_rnn_lstm_seq.tasks import TASKS, Task
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, positive, run, script_parser, share
from utils.device import autocast
from utils.errors import check_finite
from utils.results import write_results
from utils.seed import set_seed
from utils.tables import final_lines
from utils.timer import Timer

RECIPES = {  # each task's defaults
    "char_lm": {
        "split": "validation",
        "max_steps": 2700,
        "batch_size": 64,
        "lr": 1e-2,
        "hidden_size": 512,
        "n_layers": 2,
        "dropout": 0.5,
        "input_dropout": 0.1,
    },
    "digits": {
        "cell": "gru",
        "max_steps": 2000,
        "batch_size": 64,
        "lr": 1e-2,
        "weight_decay": 0.05,
        "hidden_size": 96,
        "n_layers": 2,
        "dropout": 0.3,
        "input_dropout": 0.0,
        "ema": 0.99,
    },
    "sentiment": {
        "cell": "gru",
        "optimizer": "adamw",
        "max_steps": 1200,
        "lr": 3e-3,
        "hidden_size": 96,
        "n_layers": 1,
        "dropout": 0.5,
        "input_dropout": 0.3,
        "ema": 0.995,
    },
    "series": {
        "max_steps": 3000,
        "lr": 1e-2,
        "weight_decay": 0.0,
        "hidden_size": 64,
        "n_layers": 1,
        "ema": 0.99,
        "amp": "off",  # eight bits of mantissa are too few for an error of a thousandth
    },
}
TINY = {
    "dataset": "toy",
    "max_steps": 4,
    "batch_size": 4,
    "hidden_size": 8,
    "length": 16,
    "save_every": 2,
    "runs": 2,
    "amp": "off",
}


def main(argv: list[str] | None = None) -> None:
    parser = build_parser()
    parser.set_defaults(**RECIPES[parser.parse_known_args(argv)[0].task])
    args = begin(parser, argv, dry_run=TINY)
    module = TASKS[args.task]
    options = {  # a task takes those that it knows
        "cell": args.cell,
        "hidden_size": args.hidden_size,
        "n_layers": args.n_layers,
        "bidirectional": args.bidirectional,
        "dropout": args.dropout,
        "input_dropout": args.input_dropout,
        "length": args.length,
    }
    tasks = module.tasks(args.dataset, args.data_root, args.split, options, args.batch_size, args.device)
    rows, histories = [], []
    for i, task in enumerate(tasks[: args.runs]):
        set_seed(args.seed + i)
        model, history, seconds = train(task, args, args.out_dir / f"state_{i}.pth", anew=i > 0)
        round_to_half(model)
        row = {"run": task.name} | task.evaluate(model) | task.baselines() | {"train_seconds": seconds}
        rows.append(row)
        histories += [{"run": task.name} | line for line in history]
        if i == 0:  # this one ships
            parameters = sum(parameter.numel() for parameter in model.parameters())
            about, config = row | task.about(model), task.config
            save_model(args.out_dir / f"{name_of(args)}.pth", model, config, about)
    final = module.summarize(rows, args.split) | {
        "split": args.split,
        "parameters": parameters,
        "train_seconds": sum(row["train_seconds"] for row in rows),
    }
    write_results(args.out_dir / f"{name_of(args)}.json", args, final, histories, rows)
    print(*final_lines(final), sep="\n")
    print(f"written to {args.out_dir}")


def name_of(args: argparse.Namespace) -> str:
    return f"char_lm_{args.cell}" if args.task == "char_lm" else args.task


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, max_steps=1000, batch_size=32, lr=5e-3)
    add_data_flag(parser)
    parser.add_argument("--task", default="char_lm", choices=TASKS, help="what to learn")
    parser.add_argument(
        "--dataset", default="full", choices=["full", "toy"], help="full: the real data; toy: made up here, tiny"
    )
    parser.add_argument(
        "--split",
        default="test",
        choices=["test", "validation"],
        help="what to measure on; validation chose the recipe",
    )
    parser.add_argument("--runs", type=positive, default=7, help="how many of the task's seeds or splits, at most")
    parser.add_argument("--cell", default="lstm", choices=CELLS, help="what carries the state from step to step")
    parser.add_argument("--hidden_size", type=positive, default=384, help="numbers in the state of a layer")
    parser.add_argument("--n_layers", type=positive, default=2, help="recurrent layers on top of each other")
    parser.add_argument("--bidirectional", action="store_true", help="read backwards too (digits, sentiment)")
    parser.add_argument("--dropout", type=share, default=0.4, help="share of each layer's outputs left out")
    parser.add_argument("--input_dropout", type=share, default=0.1, help="share of the inputs' features left out")
    parser.add_argument("--length", type=positive, default=128, help="steps that gradients flow back (char_lm)")
    parser.add_argument("--optimizer", default="muon", choices=OPTIMIZERS, help="what makes the steps")
    parser.add_argument("--weight_decay", type=amount, default=0.1, help="of weights, not of biases")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--clip", type=amount, default=1.0, help="largest norm of the gradients")
    parser.add_argument("--ema", type=share, default=0.998, help="decay of the weights' running average; 0: none")
    parser.add_argument("--save_every", type=positive, default=100, help="steps between two measurements and states")
    return parser


def train(task: Task, args: argparse.Namespace, state_path: Path, anew: bool) -> tuple[nn.Module, list[dict], float]:
    """Train, save the state every so many steps; return the model (with --ema its average), history and seconds.

    With `anew` a run that was interrupted before its first state begins again, even if it is to be resumed.
    """
    model = task.build().to(args.device)
    optimizers = make_optimizers(model, args.optimizer, args.lr, args.weight_decay)
    steps = args.max_steps
    warmup_steps = round(args.warmup * steps)
    schedules = [Schedule(optimizer, warmup(cosine(steps - warmup_steps), warmup_steps)) for optimizer in optimizers]
    average, timer = EMA(model, args.ema), Timer()
    parts = {"model": model, "average": average, "timer": timer, "task": task}
    parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
    parts |= {f"schedule_{i}": schedule for i, schedule in enumerate(schedules)}
    resume = args.resume and not (anew and not state_path.exists())
    done, history = load_state(state_path, args.flags, parts) if resume else (0, [])

    summed, counted = 0.0, 0
    bar = tqdm(range(done, steps), initial=done, total=steps, unit="step")
    for step in bar:
        # batch
        model.train()
        inputs, targets = task.batch()
        # forward
        with autocast(args.device, args.amp):
            outputs = model(*inputs)
        loss = task.loss(outputs, targets)
        # backward
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        clip_by_norm_(model.parameters(), args.clip)
        # step
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        average.update(model)
        # log and save
        summed, counted = summed + loss.item(), counted + 1
        if (step + 1) % args.save_every == 0 or step + 1 == steps:
            check_finite(summed, step)
            row = {"step": step + 1, "train_loss": summed / counted}
            row |= task.validate(average.model if args.ema else model)
            history.append(row | {"seconds": timer.seconds})
            bar.set_postfix({name: f"{value:.4f}" for name, value in row.items() if name != "step"})
            save_state(state_path, args.flags, step + 1, history, parts)
            summed, counted = 0.0, 0
    return (average.model if args.ema else model).eval(), history, timer.seconds


if __name__ == "__main__":
    run(main)
