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

import torch
from torch import Tensor
from tqdm import tqdm

from chapter_03_optimization_regularization.dataset import DATASETS, load, to_input
from chapter_03_optimization_regularization.figures.confusion import training_and_confusion
from chapter_03_optimization_regularization.model import CNN, CNNConfig
from chapter_03_optimization_regularization.normalization import NORMS
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS
from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.clipping import clip_by_norm_
from chapter_03_optimization_regularization.optimizers.schedules import SCHEDULES, Schedule, warmup
from chapter_03_optimization_regularization.regularization import augmentation, mixing
from chapter_03_optimization_regularization.training import (
    class_accuracies,
    confusion_counts,
    make_optimizers,
    probabilities,
    score,
)
from utils.checkpoint import load_state, probe_input, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, natural, positive, run, script_parser, share
from utils.data import batches
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import final_lines
from utils.timer import Timer


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    *sets, classes = load(args.dataset, args.split, args.data_root, args.train_size)
    train_set, (test_x, test_y) = (tuple(t.to(args.device) for t in pictures) for pictures in sets)
    config = CNNConfig(len(classes), args.width, args.n_convs, args.norm, args.dropout)
    model, history, seconds = train(train_set, config, args)
    round_to_half(model)

    p, single_view = (probabilities(model, test_x, views=views, to_input=to_input) for views in (2, 1))
    accuracy, loss = score(p, test_y)
    images, labels = (t[:10_000] for t in train_set)
    counts = confusion_counts(p, test_y)
    final = {
        f"{args.split}_accuracy": accuracy,
        f"{args.split}_loss": loss,
        f"{args.split}_accuracy_single_view": score(single_view, test_y)[0],
        f"{args.split}_count": len(test_y),
        "train_accuracy": score(probabilities(model, images, to_input=to_input), labels)[0],
        "train_seconds": seconds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "split": args.split,
    }
    with torch.no_grad():
        probe = model(probe_input(1, 1, 28, 28).to(args.device))[0].tolist()
    about = final | {"classes": classes, "dataset": args.dataset, "probe": probe}
    save_model(args.out_dir / f"cnn_{args.dataset}.pth", model, config, about)
    final |= {"per_class": class_accuracies(counts, classes)}
    write_results(args.out_dir / f"train_{args.dataset}.json", args, final, history)
    figure = training_and_confusion(history, counts, classes)
    save_figure(figure, args.out_dir / f"confusion_{args.dataset}.png")
    print("\n".join(final_lines(final)))
    print(f"written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, epochs=26, batch_size=128, lr=1e-2)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="fashion_mnist", choices=DATASETS, help="photographs, or drawn shapes")
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
    return begin(parser, argv, dry_run=tiny)


def train(data: tuple[Tensor, Tensor], config: CNNConfig, args: argparse.Namespace) -> tuple[CNN, list[dict], float]:
    """Train, save the state after each epoch; return the model (with --ema its average), the history, the seconds."""
    steps_per_epoch = len(data[1]) // args.batch_size
    if steps_per_epoch == 0:
        raise UserError(f"--batch_size {args.batch_size}: there are {len(data[1])} pictures in all")
    steps = args.epochs * steps_per_epoch
    warmup_steps = round(args.warmup * steps)

    model = CNN(config).to(args.device, memory_format=torch.channels_last)
    optimizers = make_optimizers(model, args.optimizer, args.lr, args.weight_decay)  # Muon is joined by an AdamW
    factor = warmup(SCHEDULES[args.schedule](steps - warmup_steps), warmup_steps)
    schedules = [Schedule(optimizer, factor) for optimizer in optimizers]
    average, timer = EMA(model, args.ema), Timer()
    parts = {"model": model, "average": average, "timer": timer}
    parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
    parts |= {f"schedule_{i}": schedule for i, schedule in enumerate(schedules)}
    state_path = args.out_dir / "state.pth"
    done, history = load_state(state_path, args.flags, parts) if args.resume else (0, [])

    bar = tqdm(range(done, args.epochs), initial=done, total=args.epochs, unit="epoch")
    for epoch in bar:
        model.train()
        loss_sum = 0.0
        for images, labels in batches(*data, batch_size=args.batch_size, shuffle=True):
            # Batch: augmented pictures, soft targets.
            if len(labels) < args.batch_size:
                continue  # the few that are left over come in another epoch
            x, targets = prepare(images, labels, config.n_classes, args)  # (B, 1, 28, 28), (B, K)

            # Forward and loss.
            with autocast(args.device, args.amp):
                logits = model(x)  # (B, K)
            loss = mixing.soft_cross_entropy(logits.float(), targets)

            # Backward.
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            if args.clip:
                clip_by_norm_(model.parameters(), args.clip)

            # Step, then the weights' average and the next step's rate.
            for optimizer in optimizers:
                optimizer.step()
            if args.ema:
                average.update(model)
            for schedule in schedules:
                schedule.step()
            loss_sum += loss.item()

        # Log and save.
        check_finite(loss_sum, epoch)
        history.append({"epoch": epoch + 1, "train_loss": loss_sum / steps_per_epoch})
        bar.set_postfix(loss=f"{loss_sum / steps_per_epoch:.4f}")
        save_state(state_path, args.flags, epoch + 1, history, parts)
    return (average.model if args.ema else model).eval(), history, timer.seconds


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


if __name__ == "__main__":
    run(main)
