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
from statistics import mean
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import nn
from tqdm import tqdm

from chapter_02_nn_basics_mlp.losses import cross_entropy
from chapter_03_optimization_regularization.exp_normalization import best, spread, tune
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.regularization.augmentation import random_flip, random_shift
from chapter_03_optimization_regularization.training import make_optimizers, probabilities, score
from chapter_04_cnn_classic.dataset import DATASETS, SIDE, load, to_input
from chapter_05_resnet_modern_cnn.src.figures import degradation as figures
from chapter_05_resnet_modern_cnn.src.networks.cifar_resnet import CifarConfig, CifarResNet, build
from chapter_05_resnet_modern_cnn.src.probes.signals import layer_norms, typical
from utils.checkpoint import load_state, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_output_flags, amount, begin, natural, positive, run, script_parser, share
from utils.data import batches
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.file_io_util import write_json
from utils.model_summary import model_summary
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed
from utils.timer import Timer

KINDS = {
    "plain": {"residual": False},
    "residual": {"residual": True},
    "residual_v2": {"residual": True, "version": "v2"},  # at the greatest depth only
}
DEFINING = ["dataset", "train_size", "width", "stem", "batch_size", "weight_decay", "warmup", "flip", "shift", "amp"]
PROBE = 256  # training pictures on which gradients are measured
MOMENTS = {"start": 0, "epoch_1": 1, "end": -1}  # when: the place in a history


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS, help="what to learn")
    parser.add_argument("--train_size", type=positive, default=4000, help="how many of the shapes to draw")
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
    parser.add_argument("--amp", default="auto", choices=["auto", "off", "bf16"], help="bfloat16 autocast")
    parser.add_argument("--resume", action="store_true", help="continue in --out_dir; what is finished there is kept")
    tiny = {"dataset": "shapes", "train_size": 40, "depths": [8, 14], "runs": 2, "width": 4, "epochs": 2}
    args = begin(parser, argv, dry_run=tiny | {"batch_size": 20, "lr": [0.1, 0.3], "amp": "off"})
    args.depths, args.lr = sorted(set(args.depths)), sorted(set(args.lr))
    if args.shift >= SIDE:
        raise UserError(f"--shift {args.shift}: the pictures have {SIDE} pixels a side")
    for depth in args.depths:
        if depth < 8 or depth % 6 != 2:
            raise UserError(f"--depths {depth}: these networks have 6n + 2 layers, such as 20 or 56")

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

    def trial(kind: str, lr: float) -> SimpleNamespace:
        row = trainings(kind, args.depths[-1], args.seed, lr, trial=True)
        return SimpleNamespace(accuracy=row["history"][-1]["train_accuracy_augmented"])

    found = tune(list(KINDS), dict.fromkeys(KINDS, args.lr), trial, reach=2)
    trials = [
        {"kind": kind, "lr": row["lr"], "train_accuracy": row["accuracy"]} for kind in found for row in found[kind]
    ]
    return {kind: best(rows)["lr"] for kind, rows in found.items()}, trials


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
        defined_by = {key: args.flags[key] for key in DEFINING} | {"lr": lr, "seed": seed, "epochs": epochs}
        self.bar.total = max(self.bar.total, self.bar.n + 1)  # a grid of rates has grown
        self.bar.set_description(name)
        row = finished(path, defined_by) if args.resume else None
        if row is None:
            set_seed(seed)
            config = CifarConfig(depth, len(self.classes), args.width, stem=args.stem, **KINDS[kind])
            model, history, seconds = self.train(config, lr, epochs, state, defined_by)
            row = {"defined_by": defined_by, "kind": kind, "depth": depth, "seed": seed, "lr": lr}
            row |= {"train_seconds": seconds, "history": history}
            if not trial:
                row |= self.test(model, history)
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
        steps_each = len(labels) // args.batch_size
        rise = round(args.warmup * epochs * steps_each)
        schedule = Schedule(optimizer, warmup(cosine(epochs * steps_each - rise), rise))
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
                x = random_shift(random_flip(x, args.flip), args.shift, padding="reflect")
                with autocast(args.device, args.amp):
                    logits = model(to_input(x))  # (B, K)
                loss = cross_entropy(logits.float(), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                summed += loss.item()
                right += (logits.argmax(dim=1) == y).sum().item()
            row = {"epoch": epoch + 1, "train_loss": summed / steps_each}
            row["train_accuracy_augmented"] = right / (steps_each * args.batch_size)
            if epoch + 1 in (1, epochs):
                row = self.probe(model) | row
            history.append(row)
            self.bar.set_postfix_str(f"epoch {epoch + 1} of {epochs}, loss {row['train_loss']:.3f}")
            save_state(state_path, flags, epoch + 1, history, parts)
            if not math.isfinite(summed):
                break  # a trial at too high a rate just loses
        return model, history, timer.seconds

    def probe(self, model: nn.Module) -> dict:
        """Return the loss on the first training pictures, and the norms by layer of its gradients and of weights."""
        x, y = (t[:PROBE] for t in self.train_set)
        loss, gradients, weights = layer_norms(model, to_input(x), y)
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
    changed = [f"--{name} {value}" for name, value in row["defined_by"].items() if defined_by.get(name) != value]
    if changed:
        raise UserError(f"{path} was made with {' '.join(changed)}: repeat that, or start anew without --resume")
    return row


def without(row: dict, *names: str) -> dict:
    return {name: value for name, value in row.items() if name not in names}


def summarise(rows: list[dict], depths: list[int]) -> dict:
    """Return by network means and spreads over the seeds, the differences that matter, and norms by layer."""
    networks, norms, losses = {}, {}, {}
    for kind, depth in dict.fromkeys((row["kind"], row["depth"]) for row in rows):
        mine = [row for row in rows if (row["kind"], row["depth"]) == (kind, depth)]
        found = {name: mine[0][name] for name in ("kind", "depth", "lr", "parameters", "macs")} | {"runs": len(mine)}
        for name in ("train_loss", "train_accuracy_augmented", "test_accuracy", "train_seconds"):
            values = [row[name] for row in mine]
            found |= {name: mean(values), f"{name}_std": spread(values)}
        layers = {moment: {} for moment in MOMENTS}
        for moment, epoch in MOMENTS.items():
            for what in ("gradient", "weight"):
                layers[moment][what] = typical([row["history"][epoch]["norms"][what] for row in mine])
        first, *_, last, _ = layers["start"]["gradient"]  # of the convolutions
        networks[f"{kind}_{depth}"] = found | {"first_gradient_over_last": first / last}
        norms[f"{kind}_{depth}"] = layers
        losses[kind, depth] = [row["train_loss"] for row in mine]
    plain, shallow = losses["plain", depths[-1]], losses["plain", depths[0]]
    residual, shallow_residual = losses["residual", depths[-1]], losses["residual", depths[0]]
    differences = {  # of training losses; "least": over all pairs of seeds
        "deep_plain_minus_shallow_plain": mean(plain) - mean(shallow),
        "deep_plain_minus_shallow_plain_least": min(plain) - max(shallow),
        "deep_plain_minus_deep_residual": mean(plain) - mean(residual),
        "deep_plain_minus_deep_residual_least": min(plain) - max(residual),
        "deep_residual_minus_shallow_residual": mean(residual) - mean(shallow_residual),
    }
    return {"networks": networks, **differences, "norms": norms}


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
