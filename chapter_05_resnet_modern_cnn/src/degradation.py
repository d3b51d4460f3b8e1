"""Deeper and worse: plain networks of 20 to 56 layers against residual ones on CIFAR-10 (He et al. 2016a, section 4.2).
越深越差：20 到 56 层的普通网络与残差网络在 CIFAR-10 上的对比（He 等人 2016a，第 4.2 节）。

    python chapter_05_resnet_modern_cnn/src/degradation.py    # on 2 CPU cores: 1.6 h
    python chapter_05_resnet_modern_cnn/src/degradation.py --resume    # after an interruption, to the same numbers
    python chapter_05_resnet_modern_cnn/src/degradation.py --dataset shapes --runs 1    # no download: 8 min

As in the paper: depths, width, shortcuts without parameters, SGD with momentum in batches of 128, flips and shifts.
Scaled down: 12 epochs, not 164, under one cosine, in bfloat16 where that is fast; and a first convolution of stride 2,
so that the maps are of 16, 8 and 4 pixels a side, not 32, 16 and 8. The paper has one learning rate for all. Here each
kind of network gets its own, the best of the same few in short trainings at the greatest depth.
"""

import argparse
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import nn
from tqdm import tqdm

from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.regularization.augmentation import random_flip, random_shift
from chapter_03_optimization_regularization.training import make_optimizers, probabilities, score
from chapter_04_cnn_classic.dataset import DATASETS, SIDE, load, to_input
from chapter_05_resnet_modern_cnn.src.depth_summary import summarise
from chapter_05_resnet_modern_cnn.src.figures import degradation as figures
from chapter_05_resnet_modern_cnn.src.networks.cifar_resnet import KINDS, CifarConfig, CifarResNet, build
from chapter_05_resnet_modern_cnn.src.probes.signals import norms_by_layer
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import (
    add_amp_flag,
    add_data_flag,
    add_output_flags,
    add_train_size_flag,
    amount,
    begin,
    natural,
    positive,
    run,
    script_parser,
    share,
)
from utils.data import batches
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.file_io_util import write_json
from utils.flags import check_flags
from utils.model_summary import model_summary
from utils.plotting import save_figure
from utils.rate_search import best_rate, search_rates
from utils.results import write_results
from utils.seed import set_seed
from utils.timer import Timer

DEFINING = ["dataset", "train_size", "width", "stem", "epochs", "batch_size", "lr", "weight_decay", "warmup"]
DEFINING += ["flip", "shift", "amp"]  # flags that a network, once trained, must agree with
PROBE = 256  # training pictures on which gradients are measured


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    trainings = Trainings(args)
    rates, trials = choose_rates(trainings, args)
    rows = [trainings(kind, depth, seed, rates[kind]) for kind, depth, seed in plan(args.depths, args.runs, args.seed)]
    trainings.bar.close()
    final = summarise(rows, args.depths) | {
        "trials": trials,
        "epochs": args.epochs,
        "train_count": len(trainings.train_set[1]),
        "test_count": len(trainings.test_set[1]),
        "split": "test",
        "train_seconds": trainings.seconds,
    }
    own = ("kind", "depth", "seed")
    history = [{k: row[k] for k in own} | without(epoch, "norms") for row in rows for epoch in row["history"]]
    per_seed = [without(row, "history", "defined_by") for row in rows]
    write_results(args.out_dir / "degradation.json", args, final, history, per_seed)
    save_figure(figures.degradation(final["networks"], history, per_seed), args.out_dir / "degradation.png")
    save_figure(figures.gradient_norms(final["norms"], args.depths[-1]), args.out_dir / "gradient_norms.png")
    report(final, args.depths)
    print(f"written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS, help="photographs, or drawn shapes")
    add_train_size_flag(parser)
    parser.add_argument("--depths", type=positive, nargs="+", default=[20, 32, 44, 56], help="layers: 6n + 2")
    parser.add_argument("--runs", type=positive, default=3, help="seeds at the ends of --depths, from --seed on")
    parser.add_argument("--width", type=positive, default=16, help="channels of the first stage")
    parser.add_argument("--stem", default="96", choices=["32", "96"], help="32: the paper's, for 4 times the work")
    parser.add_argument("--epochs", type=positive, default=12, help="passes over the training set")
    parser.add_argument("--trial_share", type=share, default=0.2, help="part of these epochs that a trial takes")
    parser.add_argument("--batch_size", type=positive, default=128, help="pictures a step")
    parser.add_argument("--lr", type=amount, nargs="+", default=[0.03, 0.1, 0.3], help="rates to choose from")
    parser.add_argument("--weight_decay", type=amount, default=1e-4, help="of weights, not of biases and norms")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--flip", type=share, default=0.5, help="share of the pictures that are mirrored")
    parser.add_argument("--shift", type=natural, default=4, help="pixels that a picture moves at most")
    add_amp_flag(parser)
    parser.add_argument("--resume", action="store_true", help="continue in --out_dir; what is finished there is kept")
    tiny = {"dataset": "shapes", "train_size": 40, "depths": [8, 14], "runs": 2, "width": 4, "epochs": 2}
    args = begin(parser, argv, dry_run=tiny | {"batch_size": 20, "lr": [0.1, 0.3], "amp": "off"})
    args.depths, args.lr = sorted(set(args.depths)), sorted(set(args.lr))
    if args.shift >= SIDE:
        raise UserError(f"--shift {args.shift}: the pictures have {SIDE} pixels a side")
    for depth in args.depths:
        if depth < 8 or depth % 6 != 2:
            raise UserError(f"--depths {depth}: these networks have 6n + 2 layers, such as 20 or 56")
    return args


def plan(depths: list[int], runs: int, seed: int) -> list[tuple[str, int, int]]:
    """Return all (kind, depth, seed): at the least and greatest depth every seed, between one; v2 at the greatest."""
    found = []
    for k in range(runs):
        for depth in depths if k == 0 else sorted({depths[0], depths[-1]}):
            found += [(kind, depth, seed + k) for kind in KINDS if kind != "residual_v2" or depth == depths[-1]]
    return found


def choose_rates(trainings: "Trainings", args: argparse.Namespace) -> tuple[dict[str, float], list[dict]]:
    """Return each kind's best learning rate at the greatest depth, and all trials, equally many for each kind."""
    if len(args.lr) == 1:
        return dict.fromkeys(KINDS, args.lr[0]), []

    def accuracy(kind: str, lr: float) -> float:
        return trainings(kind, args.depths[-1], args.seed, lr, trial=True)["train_accuracy"]

    found = search_rates(accuracy, dict.fromkeys(KINDS, args.lr), ratio=math.sqrt(10), reach=2)
    trials = [{"kind": kind, "lr": lr, "train_accuracy": value} for kind in found for lr, value in found[kind].items()]
    return {kind: best_rate(scores) for kind, scores in found.items()}, trials


class Trainings:
    """Trains a network when asked to, and stores what is known of it in --out_dir: --resume will not train it again."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.seconds = args, 0.0
        train_set, test_set, self.classes = load(args.dataset, "test", args.data_root, args.train_size)
        self.train_set, self.test_set = (tuple(t.to(args.device) for t in s) for s in (train_set, test_set))
        if args.batch_size > len(train_set[1]):
            raise UserError(f"--batch_size {args.batch_size}: there are {len(train_set[1])} pictures in all")
        trials = len(KINDS) * len(args.lr) if len(args.lr) > 1 else 0  # at least: the grid may grow
        self.bar = tqdm(total=trials + len(plan(args.depths, args.runs, args.seed)), unit="network")

    def __call__(self, kind: str, depth: int, seed: int, lr: float, trial: bool = False) -> dict:
        """Return the record of one network. A trial is shorter, and not tested."""
        args, lr = self.args, float(f"{lr:.3g}")
        name = f"trial_{kind}_{depth}_lr{lr}" if trial else f"{kind}_{depth}_seed{seed}"
        path = args.out_dir / "networks" / f"{name}.json"
        state = path.with_suffix(".state")
        epochs = max(1, round(args.trial_share * args.epochs)) if trial else args.epochs
        defined_by = {key: args.flags[key] for key in DEFINING + ["trial_share", "seed"] * trial}
        self.bar.total = max(self.bar.total, self.bar.n + 1)  # a grid of rates has grown
        self.bar.set_description(name)
        row = finished(path, defined_by) if args.resume else None
        if row is None:
            set_seed(seed)
            config = CifarConfig(depth, len(self.classes), args.width, stem=args.stem, **KINDS[kind])
            model, history, seconds = self.train(config, lr, epochs, state, defined_by)
            row = {"defined_by": defined_by, "kind": kind, "depth": depth, "seed": seed, "lr": lr}
            row["train_seconds"] = seconds
            if trial:
                row["train_accuracy"] = history[-1]["train_accuracy_augmented"]
            else:
                row |= {"history": history} | self.test(model, history)
                save_model(path.with_suffix(".pth"), model, config, without(row, "history", "defined_by"))
            write_json(path, row)
            state.unlink()
        self.seconds += row["train_seconds"]
        self.bar.update()
        return row

    def train(
        self, config: CifarConfig, lr: float, epochs: int, state_path: Path, flags: dict
    ) -> tuple[CifarResNet, list[dict], float]:
        """Train, save the state after each epoch; return the model, the history, the seconds."""
        args, (images, labels) = self.args, self.train_set
        model = build(vars(config)).to(args.device, memory_format=torch.channels_last)
        (optimizer,) = make_optimizers(model, "sgd", lr, args.weight_decay, momentum=0.9)
        steps_per_epoch = len(labels) // args.batch_size
        warmup_steps = round(args.warmup * epochs * steps_per_epoch)
        schedule = Schedule(optimizer, warmup(cosine(epochs * steps_per_epoch - warmup_steps), warmup_steps))
        timer = Timer()
        parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "timer": timer}
        done, history = 0, [{"epoch": 0} | self.probe(model)]
        if args.resume and state_path.exists():
            done, history = load_state(state_path, flags, parts)

        for epoch in range(done, epochs):
            model.train()
            summed, right = 0.0, 0
            for x, y in batches(images, labels, batch_size=args.batch_size, shuffle=True):
                if len(y) < args.batch_size:
                    continue  # the few that are left over come in another epoch
                # batch
                x = random_shift(random_flip(x, args.flip), args.shift, padding="reflect")  # (B, 3, 32, 32)
                # forward
                with autocast(args.device, args.amp):
                    logits = model(to_input(x))  # (B, K)
                # loss
                loss = cross_entropy(logits.float(), y)
                # backward
                optimizer.zero_grad()
                loss.backward()
                # step
                optimizer.step()
                schedule.step()
                # log
                summed += loss.item()
                right += (logits.argmax(dim=1) == y).sum().item()
            row = {"epoch": epoch + 1, "train_loss": summed / steps_per_epoch}
            row["train_accuracy_augmented"] = right / (steps_per_epoch * args.batch_size)
            if epoch + 1 in (1, epochs):
                row = self.probe(model) | row
            history.append(row)
            self.bar.set_postfix_str(f"epoch {epoch + 1} of {epochs}, loss {row['train_loss']:.3f}")
            # save
            save_state(state_path, flags, epoch + 1, history, parts)
            if not math.isfinite(summed):
                break  # a trial at too high a rate just loses
        return model, history, timer.seconds

    def probe(self, model: nn.Module) -> dict:
        """Return the loss on the first training pictures, and the norms by layer of its gradients and of weights."""
        x, y = (t[:PROBE] for t in self.train_set)
        loss, gradients, weights = norms_by_layer(model, to_input(x), y)
        return {"train_loss": loss, "norms": {"gradient": gradients, "weight": weights}}

    def test(self, model: CifarResNet, history: list[dict]) -> dict:
        """Round the weights, and return what is reported of the network.

        Raises:
            UserError: its loss had become infinite.
        """
        check_finite(history[-1]["train_loss"], history[-1]["epoch"])
        round_to_half(model)
        images, labels = self.test_set
        accuracy, loss = score(probabilities(model, images, to_input=to_input), labels)
        summary = model_summary(model, to_input(images[:1]))
        return {
            "parameters": summary.parameters,
            "macs": summary.macs,
            "train_loss": history[-1]["train_loss"],
            "train_accuracy_augmented": history[-1]["train_accuracy_augmented"],
            "test_accuracy": accuracy,
            "test_loss": loss,
        }


def finished(path: Path, defined_by: dict) -> dict | None:
    """Return the record of a network that an earlier call has trained; None if there is none.

    Raises:
        UserError: it was trained with other flags.
    """
    if not path.exists():
        return None
    row = json.loads(path.read_text(encoding="utf-8"))
    check_flags(path, row["defined_by"], defined_by)
    return row


def without(row: dict, *names: str) -> dict:
    return {name: value for name, value in row.items() if name not in names}


def report(final: dict, depths: list[int]) -> None:
    """Print what was found."""
    print(f"{'network':16}{'rate':>7}{'training loss':>18}{'test accuracy (%)':>20}{'gradient, first / last':>24}")
    for name, row in final["networks"].items():
        loss = f"{row['train_loss']:.3f} ± {row['train_loss_std']:.3f}"
        accuracy = f"{100 * row['test_accuracy']:.1f} ± {100 * row['test_accuracy_std']:.1f}"
        print(f"{name:16}{row['lr']:7.3g}{loss:>18}{accuracy:>20}{row['first_gradient_over_last']:24.3g}")
    shallow, deep = depths[0], depths[-1]
    print(f"training loss of plain {deep} less that of ...   mean   least of any two seeds")
    for other, name in ((f"plain {shallow}", "shallow_plain"), (f"residual {deep}", "deep_residual")):
        print(f"{other:>41}{final[f'deep_plain_minus_{name}']:7.3f}{final[f'deep_plain_minus_{name}_least']:9.3f}")


if __name__ == "__main__":
    run(main)
