"""Train a small convolutional network on clothes, with the chapter's optimizers, schedules, norms and regularisers.
训练一个识别衣物的小型卷积网络，可任选本章的优化器、学习率计划、归一化与正则化方法。

    python chapter_03_optimization_regularization/train.py    # Fashion-MNIST, on 2 CPU cores: 28 min
    python chapter_03_optimization_regularization/train.py --dataset shapes --epochs 5    # no download: 1 min
    python chapter_03_optimization_regularization/train.py --optimizer lion --lr 3e-4 --weight_decay 0.5
    python chapter_03_optimization_regularization/train.py --resume    # after an interruption, to the same numbers

The recipe in the flags' defaults was chosen on the last 5,000 training pictures (--split validation).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from chapter_03_optimization_regularization.dataset import DATASETS, load, to_input
from chapter_03_optimization_regularization.model import CNN, CNNConfig
from chapter_03_optimization_regularization.normalization import NORMS
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS
from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import SCHEDULES, Schedule, warmup
from chapter_03_optimization_regularization.regularization import augmentation, mixing
from chapter_03_optimization_regularization.training import make_optimizers, probabilities, score
from utils.checkpoint import load_state, probe_input, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, natural, positive, run, script_parser, share
from utils.data import batches
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.plotting import COLOURS, save_figure
from utils.results import write_results
from utils.timer import Timer


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, epochs=26, batch_size=128, lr=1e-2)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="fashion_mnist", choices=DATASETS, help="what to learn")
    parser.add_argument("--train_size", type=positive, default=4000, help="how many of the shapes to draw")
    parser.add_argument("--split", default="test", choices=["test", "validation"], help="what to measure on at the end")
    parser.add_argument("--width", type=positive, default=32, help="channels of the first stage")
    parser.add_argument("--n_convs", type=positive, default=2, help="convolutions in each of the three stages")
    parser.add_argument("--norm", default="batch", choices=NORMS, help="normalisation after each convolution")
    parser.add_argument("--optimizer", default="muon", choices=OPTIMIZERS, help="what makes the steps")
    parser.add_argument("--schedule", default="cosine", choices=SCHEDULES, help="course of the learning rate")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--weight_decay", type=amount, default=0.05, help="of weights, not of biases and norms")
    parser.add_argument("--clip", type=amount, default=0.0, help="largest norm of the gradient; 0: any")
    parser.add_argument("--ema", type=share, default=0.998, help="decay of the weights' running average; 0: none")
    parser.add_argument("--dropout", type=share, default=0.1, help="share of the features left out before the head")
    parser.add_argument("--label_smoothing", type=share, default=0.1, help="share of the label spread evenly")
    parser.add_argument("--mixup", type=amount, default=0.0, help="alpha of mixup; 0: none")
    parser.add_argument("--cutmix", type=amount, default=0.0, help="alpha of CutMix; 0: none")
    parser.add_argument("--flip", type=share, default=0.5, help="share of the pictures that are mirrored")
    parser.add_argument("--shift", type=natural, default=2, help="pixels that a picture moves at most")
    parser.add_argument("--cutout", type=natural, default=8, help="side of the square that is hidden; 0: none")
    tiny = {"dataset": "shapes", "train_size": 200, "epochs": 2, "batch_size": 50, "width": 4, "amp": "off"}
    tiny |= {"ema": 0.9, "mixup": 0.2, "cutmix": 1.0, "clip": 1.0}
    args = begin(parser, argv, dry_run=tiny)

    *sets, classes = load(args.dataset, args.split, args.data_root, args.train_size)
    train_set, (test_x, test_y) = (tuple(t.to(args.device) for t in pictures) for pictures in sets)
    model, history, seconds = train(train_set, len(classes), args)
    round_to_half(model)
    p = probabilities(model, test_x, views=2, to_input=to_input)
    alone = probabilities(model, test_x, to_input=to_input)
    final = dict(zip((f"{args.split}_accuracy", f"{args.split}_loss"), score(p, test_y), strict=True))
    final |= {
        f"{args.split}_accuracy_single_view": score(alone, test_y)[0],
        f"{args.split}_count": len(test_y),
        "train_accuracy": score(probabilities(model, train_set[0][:10_000], to_input=to_input), train_set[1][:10_000])[
            0
        ],
        "train_seconds": seconds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "split": args.split,
    }
    figure, per_class = confusion(p, test_y, classes, history)
    about = final | {"classes": classes, "dataset": args.dataset, "probe": probe(model, args.device)}
    save_model(args.out_dir / f"cnn_{args.dataset}.pth", model, network(args, len(classes)), about)
    write_results(args.out_dir / f"train_{args.dataset}.json", args, final | {"per_class": per_class}, history)
    save_figure(figure, args.out_dir / f"confusion_{args.dataset}.png")
    for name, value in final.items():
        print(f"{name:30} {value:.4f}" if isinstance(value, float) else f"{name:30} {value}")
    print(f"written to {args.out_dir}")


def train(data: tuple[Tensor, Tensor], n_classes: int, args: argparse.Namespace) -> tuple[CNN, list[dict], float]:
    """Train, save the state after each epoch; return the model (with --ema its average), the history, the seconds."""
    model = CNN(network(args, n_classes)).to(args.device, memory_format=torch.channels_last)
    optimizers = make_optimizers(model, args.optimizer, args.lr, args.weight_decay)
    steps_each = len(data[1]) // args.batch_size
    if steps_each == 0:
        raise UserError(f"--batch_size {args.batch_size}: there are {len(data[1])} pictures in all")
    total = args.epochs * steps_each
    rise = round(args.warmup * total)
    schedules = [Schedule(o, warmup(SCHEDULES[args.schedule](total - rise), rise)) for o in optimizers]
    average, timer = EMA(model, args.ema), Timer()
    parts = {"model": model, "average": average, "timer": timer}
    parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
    parts |= {f"schedule_{i}": schedule for i, schedule in enumerate(schedules)}
    state_path = args.out_dir / "state.pth"
    done, history = load_state(state_path, args.flags, parts) if args.resume else (0, [])

    bar = tqdm(range(done, args.epochs), initial=done, total=args.epochs, unit="epoch")
    for epoch in bar:
        model.train()
        summed = 0.0
        for images, labels in batches(*data, batch_size=args.batch_size, shuffle=True):
            if len(labels) < args.batch_size:
                continue  # the few that are left over come in another epoch
            x, targets = prepare(images, labels, n_classes, args)
            with autocast(args.device, args.amp):
                logits = model(x)
            loss = mixing.soft_cross_entropy(logits.float(), targets)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            if args.clip:
                clip_by_norm_(model.parameters(), args.clip)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            if args.ema:
                average.update(model)
            summed += loss.item()
        check_finite(summed, epoch)
        history.append({"epoch": epoch + 1, "train_loss": summed / steps_each})
        bar.set_postfix(loss=f"{summed / steps_each:.4f}")
        save_state(state_path, args.flags, epoch + 1, history, parts)
    return average.model if args.ema else model, history, timer.seconds


def prepare(images: Tensor, labels: Tensor, n_classes: int, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Augment pictures (B, 1, 28, 28), uint8; return inputs and soft targets (B, K)."""
    images = augmentation.random_shift(augmentation.random_flip(images, args.flip), args.shift)
    if args.cutout:
        images = augmentation.cutout(images, args.cutout)
    x, targets = to_input(images), mixing.smooth_labels(labels, n_classes, args.label_smoothing)
    if args.mixup:
        x, targets = mixing.mixup(x, targets, args.mixup)
    if args.cutmix:
        x, targets = mixing.cutmix(x, targets, args.cutmix)
    return x, targets


def network(args: argparse.Namespace, n_classes: int) -> CNNConfig:
    """Return the network that the flags describe."""
    return CNNConfig(n_classes, args.width, args.n_convs, args.norm, args.dropout)


@torch.no_grad()
def probe(model: CNN, device: torch.device) -> list[float]:
    """Return the output on a fixed input, by which anyone can check a copy of the model."""
    return model.eval()(probe_input(1, 1, 28, 28).to(device))[0].tolist()


def confusion(p: Tensor, labels: Tensor, classes: list[str], history: list[dict]) -> tuple[Figure, dict[str, float]]:
    """Draw the loss and the confusion of the classes; return the figure, and each class's accuracy."""
    k = len(classes)
    counts = torch.bincount(labels * k + p.argmax(dim=1), minlength=k * k).view(k, k).cpu().numpy()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    loss, table = figure.subplots(1, 2, width_ratios=[1, 1.1])
    loss.plot([row["epoch"] for row in history], [row["train_loss"] for row in history], color=COLOURS[0])
    loss.set(xlabel="epoch", ylabel="training loss (nats), labels smoothed")
    table.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(shares > 0.005):
        shade = "white" if shares[i, j] > 0.4 else "0.2"
        table.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=7, color=shade)
    table.set_xticks(range(k), classes, rotation=45, ha="right", fontsize=8)
    table.set_yticks(range(k), classes, fontsize=8)
    table.set(xlabel="network's answer", ylabel="true class (each row: 100 %)")
    table.grid(False)
    return figure, {name: float(shares[i, i]) for i, name in enumerate(classes)}


if __name__ == "__main__":
    run(main)
