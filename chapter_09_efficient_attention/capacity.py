"""What can a memory hold? Recall of pairs against the bytes that are kept, and parity, for every kind of attention.
记忆能装下什么？让各种注意力回忆键值对（对照各自保留的字节数），并跟踪奇偶性。

    python chapter_09_efficient_attention/capacity.py    # 90 min on 1 CPU core
    python chapter_09_efficient_attention/capacity.py --part recall    # one task alone, the other in another process;
    python chapter_09_efficient_attention/capacity.py --resume    # then both together; or after an interruption

All models have the same widths, layers, steps and batches; a training draws its sequences anew at every step, short and
long ones. The number of heads sets how much is kept: a state has D^2/H numbers, a window D/H tokens. Each mechanism has
its learning rate from the same search, in shorter trainings with a seed of their own, for recall with a middle memory.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_09_efficient_attention.capacity_models import MECHANISMS, small_decoder
from chapter_09_efficient_attention.capacity_tasks import IGNORED, guessed_recall, parity_batch, recall_batch
from chapter_09_efficient_attention.figures.capacity import draw_capacity
from chapter_09_efficient_attention.model import Decoder, cache_bytes
from utils.checkpoint import load_state, save_state
from utils.cli import add_output_flags, amount, begin, positive, run, script_parser, share
from utils.errors import UserError
from utils.evaluating import evaluating
from utils.plotting import save_figure
from utils.rate_search import best_rate, search_rates
from utils.results import write_results
from utils.seed import set_seed
from utils.spread import over_seeds
from utils.tables import aligned
from utils.timer import Timer

TASKS = {  # name: the flags that only it reads
    "recall": ("pairs", "n_keys", "n_values", "recall_heads", "recall_steps", "recall_tokens"),
    "parity": ("bits", "long", "parity_heads", "parity_steps", "parity_tokens"),
}
TUNING_SEED, TEST_SEED = 500_009, 1_000_003  # draws of their own
SOLVED = 0.99  # share of right answers


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    bar = tqdm(unit="training")  # how many there are is known once the search for rates has ended
    parts = [args.part] if args.part != "both" else TASKS
    final, per_seed = {}, []
    for trainings in [Trainings(task, args, bar) for task in parts]:
        task = trainings.task
        rates, tuning = choose_rates(trainings, args)
        rows = [
            trainings(Setting(mechanism, n_heads, rates[mechanism], seed, trainings.steps))
            for mechanism in trainings.mechanisms
            for n_heads in trainings.heads_of(mechanism)
            for seed in range(args.seed, args.seed + args.runs)
        ]
        per_seed += rows
        final |= tuning | summarize(task, rows)
        final[f"{task}_train_seconds"] = sum(row["train_seconds"] for row in trainings.rows)
    bar.close()
    for task in parts:
        print(*table(task, final), sep="\n")
    if args.part != "both":
        print(f"saved in {args.out_dir}; when the other part is too, --resume without --part writes the results")
        return
    final |= guessing(args) | {"test_count": args.test_size, "split": "drawn for the test", "n_seeds": args.runs}
    write_results(args.out_dir / "capacity.json", args, final, per_seed=per_seed)
    save_figure(draw_capacity(final), args.out_dir / "capacity.png")
    print(f"written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--part", default="both", choices=["both", *TASKS], help="which task to train on")
    parser.add_argument("--mechanisms", nargs="+", default=list(MECHANISMS), choices=MECHANISMS, help="which to train")
    parser.add_argument("--pairs", type=positive, nargs="+", default=[4, 8, 16, 32, 64], help="pairs to be recalled")
    parser.add_argument("--n_keys", type=positive, default=64, help="different keys")
    parser.add_argument("--n_values", type=positive, default=32, help="different values")
    parser.add_argument("--bits", type=positive, nargs="+", default=[8, 16, 32, 64], help="lengths to count over")
    parser.add_argument("--long", type=positive, default=256, help="bits that parity is also measured on, untrained")
    heads = "heads of the models on"
    parser.add_argument("--recall_heads", type=positive, nargs="+", default=[16, 8, 4, 1], help=f"{heads} recall")
    parser.add_argument("--parity_heads", type=positive, default=2, help=f"{heads} parity")
    parser.add_argument("--recall_steps", type=positive, default=1000, help="steps of a training on recall")
    parser.add_argument("--parity_steps", type=positive, default=500, help="steps of a training on parity")
    parser.add_argument("--recall_tokens", type=positive, default=1024, help="tokens of a step on recall, about")
    parser.add_argument("--parity_tokens", type=positive, default=2048, help="tokens of a step on parity, about")
    parser.add_argument("--trial_share", type=share, default=0.5, help="part of the steps that a trial of a rate takes")
    parser.add_argument("--lr", type=amount, nargs="+", default=[3e-3, 1e-2, 3e-2], help="rates to begin with")
    parser.add_argument("--d_model", type=positive, default=64, help="width of the models")
    parser.add_argument("--runs", type=positive, default=3, help="seeds, from --seed on")
    parser.add_argument("--test_size", type=positive, default=200, help="sequences of each length to measure on")
    parser.add_argument("--resume", action="store_true", help="continue in --out_dir; what is finished there is kept")
    tiny = {"pairs": [2, 3], "n_keys": 4, "n_values": 4, "bits": [4], "long": 8, "recall_steps": 2, "parity_steps": 2}
    tiny |= {"recall_heads": [4, 2], "recall_tokens": 24, "parity_tokens": 24, "lr": [1e-2, 2e-2]}
    tiny |= {"d_model": 32, "runs": 2, "test_size": 4}
    args = begin(parser, argv, dry_run=tiny | {"mechanisms": ["mha", "local", "gated_delta"]})
    for n in (*args.recall_heads, args.parity_heads):
        if args.d_model % (2 * n):
            raise UserError(f"--d_model {args.d_model} gives {n} heads no even width: take a multiple of {2 * n}")
    if args.n_keys < max(args.pairs):
        raise UserError(f"--n_keys {args.n_keys}: {max(args.pairs)} pairs need as many different keys")
    if args.long <= max(args.bits):
        raise UserError(f"--long {args.long}: to be untrained it must be more than {max(args.bits)} bits")
    if args.resume and not any((args.out_dir / f"{task}_state.pth").exists() for task in TASKS):
        raise UserError(f"--resume: {args.out_dir} holds no state of this script")
    return args


class Setting(NamedTuple):
    mechanism: str
    n_heads: int
    lr: float
    seed: int
    steps: int


def middle(heads: Sequence[int]) -> int:
    return heads[len(heads) // 2]


class Trainings:
    """Trains a model on one task when asked to, and stores what was measured: --resume will not train it again."""

    def __init__(self, task: str, args: argparse.Namespace, bar: tqdm):
        self.task, self.args, self.bar, self.path = task, args, bar, args.out_dir / f"{task}_state.pth"
        self.steps = args.recall_steps if task == "recall" else args.parity_steps
        self.tokens = args.recall_tokens if task == "recall" else args.parity_tokens
        self.mechanisms = [name for name in args.mechanisms if task == "parity" or name != "signed_delta"]
        self.distances = sorted(args.pairs if task == "recall" else args.bits)
        others = {"part"}.union(*(TASKS[other] for other in TASKS if other != task))  # a state is refused by its own
        self.flags = {name: value for name, value in args.flags.items() if name not in others}
        self.rows: list[dict] = []
        if args.resume and self.path.exists():
            self.rows = load_state(self.path, self.flags, {})[1]

    def heads_of(self, mechanism: str) -> list[int]:
        """Return the numbers of heads to train with: one where a list grows anyway, or the task needs little memory."""
        if self.task == "parity":
            return [self.args.parity_heads]
        heads = sorted(self.args.recall_heads, reverse=True)
        return [middle(heads)] if mechanism in ("mha", "hybrid") else heads

    def __call__(self, setting: Setting) -> dict:
        """Return the row of one training: share of right answers by distance, and what was kept meanwhile."""
        row = next((row for row in self.rows if setting._asdict().items() <= row.items()), None)
        if row is None:
            model, facts = self.train(setting)
            row = {"task": self.task} | setting._asdict() | facts | self.measure(model)
            self.rows.append(row)
            save_state(self.path, self.flags, len(self.rows), self.rows, {})
            longest = row["accuracy"][str(self.distances[-1])]
            self.bar.set_postfix_str(f"{self.task} {setting.mechanism} {longest:.2f}")
            self.bar.update()
        return row

    def train(self, setting: Setting) -> tuple[Decoder, dict]:
        """Return the trained model, and what to note of its training."""
        args, timer, skipped = self.args, Timer(), 0
        set_seed(setting.seed)
        recall = self.task == "recall"
        n_tokens = args.n_keys + args.n_values if recall else 2
        model = small_decoder(setting.mechanism, n_tokens, args.d_model, setting.n_heads, conv_mixed=recall)
        model.to(args.device).train()
        optimizers = make_optimizers(model, "muon", setting.lr, weight_decay=0.0)
        warmup_steps = round(0.1 * setting.steps)
        factor = warmup(cosine(setting.steps - warmup_steps), warmup_steps)
        schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
        generator = torch.Generator().manual_seed(setting.seed)  # so that all see the same batches
        for _ in range(setting.steps):
            # batch: of one distance, about equally many tokens whichever it is
            distance = self.distances[int(torch.randint(len(self.distances), (), generator=generator))]
            inputs, targets = self.batch(distance, max(1, self.tokens // self.n_tokens(distance)), generator)
            # forward, loss
            logits, _ = model(inputs)  # (B, T, V)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
            # backward
            model.zero_grad()
            loss.backward()
            norm = clip_by_norm_(model.parameters(), 1.0, check=False)
            # step: none where the gradients overflowed, so that one may fail without ending the others
            skipped += not norm.isfinite()
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                if norm.isfinite():
                    optimizer.step()
                schedule.step()
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return model, {"train_seconds": timer.seconds, "skipped": skipped, "n_parameters": parameters}

    def n_tokens(self, distance: int) -> int:
        """Return how long a sequence of so many pairs or bits is."""
        return 3 * distance if self.task == "recall" else distance

    def batch(self, distance: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `count` sequences of so many pairs or bits, inputs and targets (B, T)."""
        args = self.args
        if self.task == "recall":
            drawn = recall_batch(count, distance, args.n_keys, args.n_values, generator)
        else:
            drawn = parity_batch(count, distance, generator)
        return drawn[0].to(args.device), drawn[1].to(args.device)

    @torch.no_grad()
    def measure(self, model: Decoder) -> dict[str, dict[str, float]]:
        """Return by distance the share of right answers, of parity those in the second half, and the bytes of recall.

        These are what is kept, for one sequence, when the first question comes.
        """
        found = {"accuracy": {}, "bytes": {}}
        generator = torch.Generator().manual_seed(TEST_SEED)
        longer = [] if self.task == "recall" else [self.args.long]
        with evaluating(model):
            for distance in [*self.distances, *longer]:
                inputs, targets = self.batch(distance, self.args.test_size, generator)
                if self.task == "recall":
                    pairs = inputs[:1, : 2 * distance]
                    _, caches = model(pairs, model.new_caches(pairs.shape[1]))
                    found["bytes"][str(distance)] = cache_bytes(caches)
                else:
                    targets[:, : distance // 2] = IGNORED
                right = model(inputs)[0].argmax(dim=-1) == targets  # (B, T)
                found["accuracy"][str(distance)] = right[targets != IGNORED].double().mean().item()
        return found


def choose_rates(trainings: Trainings, args: argparse.Namespace) -> tuple[dict[str, float], dict]:
    """Return the best rate of each mechanism, and all that was tried, equally often for each, with the accuracies."""
    if len(args.lr) == 1:
        return dict.fromkeys(trainings.mechanisms, args.lr[0]), {}
    steps, task = max(1, round(args.trial_share * trainings.steps)), trainings.task

    def score(mechanism: str, lr: float) -> float:
        n_heads = middle(trainings.heads_of(mechanism))
        row = trainings(Setting(mechanism, n_heads, lr, args.seed + TUNING_SEED, steps))
        accuracies = [row["accuracy"][str(distance)] for distance in trainings.distances]
        return sum(accuracies) / len(accuracies)

    found = search_rates(score, dict.fromkeys(trainings.mechanisms, args.lr), ratio=3, reach=2)
    rates = {mechanism: best_rate(scores) for mechanism, scores in found.items()}
    tuning = {f"{task}_{name}_lr": lr for name, lr in rates.items()}
    tuning |= {f"{task}_{name}_tuning": [[lr, value] for lr, value in found[name].items()] for name in found}
    return rates, tuning


def summarize(task: str, rows: list[dict]) -> dict[str, float | int]:
    """Return means and spreads over the seeds, named by task, mechanism, heads (recall) and distance."""
    final = {}
    for mechanism, n_heads in dict.fromkeys((row["mechanism"], row["n_heads"]) for row in rows):
        own = [row for row in rows if (row["mechanism"], row["n_heads"]) == (mechanism, n_heads)]
        name = f"{task}_{mechanism}" + (f"_{n_heads}_heads" if task == "recall" else "")
        found = over_seeds([row["accuracy"] for row in own])
        final |= {f"{name}_{distance}": value for distance, value in found.items()}
        final |= {f"{name}_{distance}_bytes": value for distance, value in own[0]["bytes"].items()}
        final[f"{name}_n_parameters"] = own[0]["n_parameters"]
        final[f"{name}_skipped"] = sum(row["skipped"] for row in own) / len(own)  # steps, of each training
        if task == "parity":
            *trained, longer = zip(*(row["accuracy"].values() for row in own), strict=True)  # by length, of each seed
            final[f"{name}_solved"] = share_solved([min(values) for values in zip(*trained, strict=True)])
            final[f"{name}_solved_longer"] = share_solved(longer)
    return final


def share_solved(accuracies: Sequence[float]) -> float:
    """Return the share of seeds whose accuracy is high enough."""
    return sum(accuracy >= SOLVED for accuracy in accuracies) / len(accuracies)


def guessing(args: argparse.Namespace) -> dict[str, float]:
    """Return what is right by chance, and of recall also by always answering the sequence's most frequent value."""
    generator = torch.Generator().manual_seed(TEST_SEED)
    final = {"recall_chance": 1 / args.n_values, "parity_chance": 0.5}
    for n_pairs in sorted(args.pairs):
        _, targets = recall_batch(args.test_size, n_pairs, args.n_keys, args.n_values, generator)
        final[f"recall_most_frequent_{n_pairs}"] = guessed_recall(targets)
    return final


def table(task: str, final: dict) -> list[str]:
    """Return the lines of a table: share of right answers by distance, a line for each mechanism and size."""
    names = [name.removesuffix("_n_parameters") for name in final if name.startswith(task) and "n_parameters" in name]
    first = names[0]
    distances = [key.removeprefix(f"{first}_") for key in final if key.removeprefix(f"{first}_").isdigit()]
    cells = [[f"{final[f'{n}_{d}']:.3f} ± {final[f'{n}_{d}_std']:.3f}" for d in distances] for n in names]
    return aligned([[task, *distances], *([n, *row] for n, row in zip(names, cells, strict=True))], "<>")


if __name__ == "__main__":
    run(main)
