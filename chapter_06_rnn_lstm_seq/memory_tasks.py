"""How far back can each cell learn? The adding problem and the copy task, at ever longer distances.
各种单元能学到多远之前的信息？在越来越长的距离上做加法问题与复制任务。

    python chapter_06_rnn_lstm_seq/memory_tasks.py      # 75 min on 1 CPU core
    python chapter_06_rnn_lstm_seq/memory_tasks.py --start pytorch      # from PyTorch's initial weights instead

Every batch is drawn anew. All networks have equally many hidden units a layer and make equally many steps; each has its
learning rate chosen by the same search, once for each task, at the two shortest distances with two seeds, on draws that
serve for nothing else. minGRU, whose gates do not see the state, runs with one layer and with two.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import Adam
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, warmup_stable_decay
from chapter_06_rnn_lstm_seq.figures.memory import draw_errors, draw_gradients
from chapter_06_rnn_lstm_seq.long_memory import (
    N_COPIED,
    N_TOKENS,
    adding_problem,
    copy_problem,
    gradient_by_lag,
    long_memory_init_,
)
from chapter_06_rnn_lstm_seq.recurrent import Recurrent, make_recurrent
from utils.cli import add_output_flags, amount, begin, positive, run, script_parser
from utils.plotting import save_figure
from utils.rate_search import best_rate, search_rates
from utils.results import write_results
from utils.seed import set_seed
from utils.spread import over_seeds
from utils.tables import aligned
from utils.timer import Timer

CELLS = {"rnn": ("rnn", 1), "lstm": ("lstm", 1), "gru": ("gru", 1), "mingru": ("mingru", 1), "mingru_2": ("mingru", 2)}
TEST_SEED, TUNING_SEED = 1_000_000, 2_000_000  # draws of their own
SOLVED = 0.01  # mean squared error, or share of wrong symbols


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument(
        "--start",
        default="memory",
        choices=["memory", "pytorch"],
        help="initial weights: for long memory, or PyTorch's",
    )
    parser.add_argument("--hidden", type=positive, default=64, help="hidden units")
    parser.add_argument("--batch_size", type=positive, default=64, help="sequences a step")
    parser.add_argument("--adding_steps", type=positive, default=600, help="steps of a training on the adding problem")
    parser.add_argument("--copy_steps", type=positive, default=1500, help="steps of a training on the copy task")
    parser.add_argument(
        "--lr", type=amount, nargs="+", default=[1e-2, 3e-2, 1e-1], help="learning rates to choose from"
    )
    parser.add_argument(
        "--lengths", type=positive, nargs="+", default=[50, 100, 200, 400], help="of the adding problem"
    )
    parser.add_argument("--lags", type=positive, nargs="+", default=[10, 40], help="of the copy task")
    parser.add_argument("--test_size", type=positive, default=1000, help="sequences to measure on")
    parser.add_argument("--runs", type=positive, default=3, help="seeds, from --seed on")
    tiny = {
        "hidden": 4,
        "batch_size": 4,
        "adding_steps": 3,
        "copy_steps": 3,
        "lengths": [8],
        "lags": [1],
        "test_size": 8,
        "runs": 2,
    }
    args = begin(parser, argv, dry_run=tiny | {"lr": [1e-2]})

    timer, final, per_seed, trained = Timer(), {}, [], {}
    tasks = {"adding": sorted(args.lengths), "copy": sorted(args.lags)}
    bar = tqdm(unit="training")  # how many there are is known once the search for rates has ended
    for task, distances in tasks.items():
        found = tune(task, distances[:2], args, bar)
        rates = {cell: best_rate(scores) for cell, scores in found.items()}
        final |= {f"{task}_{cell}_lr": rate for cell, rate in rates.items()}
        final |= {f"{task}_{cell}_tuning": [[lr, -score] for lr, score in found[cell].items()] for cell in CELLS}
        for cell in CELLS:
            for distance in distances:
                setting = Setting(task, cell, distance, rates[cell])
                rows = []
                for seed in range(args.seed, args.seed + args.runs):
                    net, readout, skipped = train(setting, seed, args)
                    error = measure(setting, net, readout, args, TEST_SEED)
                    rows.append({"seed": seed, "error": error, "solved": float(error < SOLVED), "skipped": skipped})
                    per_seed.append(setting._asdict() | rows[-1])
                    bar.update()
                    if task == "adding" and seed == args.seed:
                        trained[cell] = net, readout  # in the end that of the longest distance
                final |= {f"{task}_{cell}_{distance}_{name}": v for name, v in over_seeds(rows).items()}
    bar.close()
    final["gradients"] = measure_gradients(trained, tasks["adding"][-1], args)
    final |= {"test_count": args.test_size, "split": "drawn for the test", "seconds": timer.seconds}

    name = "memory_tasks" if args.start == "memory" else f"memory_tasks_{args.start}"
    write_results(args.out_dir / f"{name}.json", args, final, per_seed=per_seed)
    report(final, tasks)
    save_figure(draw_errors(per_seed, tasks, CELLS), args.out_dir / f"{name}.png")
    save_figure(draw_gradients(final["gradients"], CELLS), args.out_dir / f"{name}_gradients.png")
    print(f"written to {args.out_dir}")


class Setting(NamedTuple):
    task: str
    cell: str
    distance: int  # the length of the adding problem's sequences, or the copy task's lag
    lr: float


def make_batch(task: str, batch: int, distance: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return inputs (B, T, D) and targets, (B,) sums or (B, 5) symbols."""
    if task == "adding":
        return adding_problem(batch, distance, generator)
    tokens, targets = copy_problem(batch, distance, generator)
    return F.one_hot(tokens, N_TOKENS).float(), targets


def answer(task: str, net: Recurrent, readout: nn.Module, x: Tensor) -> Tensor:
    """Return sums (B,) after the last step, or logits (B, 5, 8) of the last five."""
    output, _ = net(x)  # (B, T, H)
    return readout(output[:, -1])[:, 0] if task == "adding" else readout(output[:, -N_COPIED:])


def build(setting: Setting, start: str, seed: int, args: argparse.Namespace) -> tuple[Recurrent, nn.Module]:
    """Return a network and its readout, with the initial weights that `start` names."""
    set_seed(seed)
    cell, n_layers = CELLS[setting.cell]
    n_inputs, n_outputs = (2, 1) if setting.task == "adding" else (N_TOKENS, N_TOKENS - 2)
    net = make_recurrent(cell, n_inputs, args.hidden, n_layers)
    if start == "memory":
        length = setting.distance if setting.task == "adding" else setting.distance + 2 * N_COPIED
        long_memory_init_(net, length, torch.Generator().manual_seed(seed))
    return net.to(args.device), nn.Linear(args.hidden, n_outputs).to(args.device)


def train(setting: Setting, seed: int, args: argparse.Namespace) -> tuple[Recurrent, nn.Module, int]:
    """Return the trained network, its readout, and how many steps were skipped because the gradients overflowed."""
    net, readout = build(setting, args.start, seed, args)
    generator = torch.Generator().manual_seed(seed)
    parameters = [*net.parameters(), *readout.parameters()]
    optimizer = Adam(parameters, lr=setting.lr)
    n_steps = args.adding_steps if setting.task == "adding" else args.copy_steps
    schedule = Schedule(optimizer, warmup_stable_decay(n_steps, decay_share=0.5))
    skipped = 0
    for _ in range(n_steps):
        x, y = (t.to(args.device) for t in make_batch(setting.task, args.batch_size, setting.distance, generator))
        prediction = answer(setting.task, net, readout, x)
        if setting.task == "adding":
            loss = F.mse_loss(prediction, y)
        else:
            loss = F.cross_entropy(prediction.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = clip_by_norm_(parameters, 1.0, check=False)
        if norm.isfinite():
            optimizer.step()
        else:
            skipped += 1
        schedule.step()
    return net, readout, skipped


@torch.no_grad()
def measure(setting: Setting, net: Recurrent, readout: nn.Module, args: argparse.Namespace, seed: int) -> float:
    """Return the mean squared error of the sums, or the share of wrong symbols, on the draws that `seed` makes."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (t.to(args.device) for t in make_batch(setting.task, args.test_size, setting.distance, generator))
    prediction = answer(setting.task, net, readout, x)
    wrong = (prediction - y).square() if setting.task == "adding" else prediction.argmax(dim=-1) != y
    return wrong.float().mean().item()


def tune(task: str, distances: Sequence[int], args: argparse.Namespace, bar: tqdm) -> dict[str, dict[float, float]]:
    """Return each cell's scores by rate: minus the mean error at these distances, with two seeds each.

    Where any cell's best rate is at the grid's edge, the grid grows there, twice at each end at most.
    """

    def trial(cell: str, lr: float) -> float:
        errors = []
        for distance in distances:
            setting = Setting(task, cell, distance, lr)
            for seed in (TUNING_SEED, TUNING_SEED + 1):
                net, readout, _ = train(setting, seed, args)
                errors.append(measure(setting, net, readout, args, seed + 2))
                bar.update()
        return -statistics.fmean(errors)

    return search_rates(trial, {cell: args.lr for cell in CELLS}, ratio=math.sqrt(10), reach=2)


def measure_gradients(
    trained: dict[str, tuple], distance: int, args: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """Return each cell's gradient by lag, as shares of lag 0's: before training from either start, and after it."""
    x, _ = make_batch("adding", args.batch_size, distance, torch.Generator().manual_seed(TEST_SEED))
    found = {"pytorch": {}, "memory": {}, "trained": {}}
    for cell in CELLS:
        fresh = Setting("adding", cell, distance, 0.0)
        for name in found:
            net, readout = trained[cell] if name == "trained" else build(fresh, name, args.seed, args)
            norms = gradient_by_lag(net, x.to(args.device), readout)  # (T,)
            found[name][cell] = (norms / norms[0]).tolist()
    return found


def report(final: dict, tasks: dict[str, list[int]]) -> None:
    """Print the errors, each with its spread over the seeds."""
    for task, distances in tasks.items():
        rows = [(task, *distances, "lr")]
        for cell in CELLS:
            places = [f"{task}_{cell}_{distance}_error" for distance in distances]
            errors = [f"{final[place]:.4f} ± {final[f'{place}_std']:.4f}" for place in places]
            rows.append((cell, *errors, f"{final[f'{task}_{cell}_lr']:.1e}"))
        print(*aligned(rows, "<>"), sep="\n")


if __name__ == "__main__":
    run(main)
