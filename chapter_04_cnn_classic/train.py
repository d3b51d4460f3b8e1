"""Train one of the five classic networks on CIFAR-10; the flags' defaults are the recipe of the shipped VGG.
在 CIFAR-10 上训练五个经典网络之一；各选项的默认值就是仓库自带的 VGG 的训练配方。

    python chapter_04_cnn_classic/train.py    # the shipped model: on 2 CPU cores 50 min
    python chapter_04_cnn_classic/train.py --epochs 100 --batch_size 128 --lr 0.001    # longer: 3 h, a GPU minutes
    python chapter_04_cnn_classic/train.py --model lenet --epochs 20    # 3 min
    python chapter_04_cnn_classic/train.py --dataset shapes --epochs 6    # no download: 2 min
    python chapter_04_cnn_classic/train.py --resume    # after an interruption, to the same numbers

The recipe was chosen on the last 5,000 training pictures (--split validation).
"""

import argparse
import copy
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from chapter_02_nn_basics_mlp.losses import log_softmax
from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, Optimizer
from chapter_03_optimization_regularization.regularization.augmentation import cutout, random_flip, random_shift
from chapter_03_optimization_regularization.training import make_optimizers, probabilities, score
from chapter_04_cnn_classic.dataset import DATASETS, MEAN_GREY, SIDE, load, to_input
from chapter_04_cnn_classic.model import MODELS, WIDEST, ConvNet, ModelConfig, build
from utils.checkpoint import load_state, probe_input, round_to_half, save_model, save_state
from utils.cli import (
    add_data_flag,
    add_train_size_flag,
    add_training_flags,
    amount,
    begin,
    natural,
    run,
    script_parser,
    share,
)
from utils.errors import UserError
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results
from utils.tables import final_lines
from utils.timer import Timer

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    *sets, classes = load(args.dataset, args.split, args.data_root, args.train_size)
    train_set, (test_x, test_y) = (tuple(t.to(args.device) for t in pictures) for pictures in sets)
    config = ModelConfig(args.model, len(classes), args.width, args.dropout)
    watched = (test_x, test_y) if args.split == "validation" else None
    model, history, seconds = train(train_set, config, args, watched)
    round_to_half(model)
    accuracy, loss = score(probabilities(model, test_x, to_input=to_input), test_y)
    final = {
        f"{args.split}_accuracy": accuracy,
        f"{args.split}_loss": loss,
        f"{args.split}_accuracy_flip": score(probabilities(model, test_x, views=2, to_input=to_input), test_y)[0],
        f"{args.split}_count": len(test_y),
        "train_accuracy": score(probabilities(model, train_set[0][:5000], to_input=to_input), train_set[1][:5000])[0],
        "train_seconds": seconds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "split": args.split,
    }
    with torch.no_grad():
        probe = model(probe_input(1, 3, SIDE, SIDE).to(args.device))[0].tolist()
    about = final | {"classes": classes, "dataset": args.dataset, "probe": probe}
    save_model(args.out_dir / "best_model.pth", model, config, about)
    write_results(args.out_dir / f"train_{args.model}.json", args, final, history)
    save_figure(draw_history(history, final), args.out_dir / f"training_{args.model}.png")
    print("\n".join(final_lines(final)))
    print(f"written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, epochs=28, batch_size=256, lr=2e-2)
    add_data_flag(parser)
    parser.add_argument("--optimizer", default="muon", choices=OPTIMIZERS, help="what makes the steps")
    parser.add_argument("--weight_decay", type=amount, default=0.05, help="of weights, not of biases and norms")
    parser.add_argument("--warmup", type=share, default=0.1, help="share of the steps in which the rate rises")
    parser.add_argument("--dropout", type=share, default=0.0, help="share left out before each linear layer")
    parser.add_argument("--label_smoothing", type=share, default=0.2, help="share of the label spread evenly")
    parser.add_argument("--flip", type=share, default=0.5, help="share of the pictures that are mirrored")
    parser.add_argument("--shift", type=natural, default=4, help="pixels that a picture moves at most")
    parser.add_argument("--cutout", type=natural, default=10, help="side of the square that is hidden; 0: none")
    parser.add_argument("--model", default="vgg", choices=MODELS, help="which network")
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS, help="photographs, or drawn shapes")
    add_train_size_flag(parser)
    parser.add_argument("--split", default="test", choices=["test", "validation"], help="what to measure on at the end")
    parser.add_argument("--width", type=amount, default=1.0, help="factor on every number of channels")
    parser.add_argument("--ema", type=share, default=0.998, help="decay of the weights' running average; 0: none")
    tiny = {"dataset": "shapes", "train_size": 150, "epochs": 2, "batch_size": 50, "width": 0.1, "amp": "off"}
    args = begin(parser, argv, dry_run=tiny)
    if args.width > WIDEST:
        raise UserError(f"--width {args.width:g}: at most {WIDEST}")
    if args.shift >= SIDE:
        raise UserError(f"--shift {args.shift}: the pictures have {SIDE} pixels a side")
    return args


def train(
    data: tuple[Tensor, Tensor], config: ModelConfig, args: argparse.Namespace, watched: tuple[Tensor, Tensor] | None
) -> tuple[ConvNet, list[dict], float]:
    """Train, save the state after each epoch; return the model (with --ema its average), the history, the seconds.

    Where there are `watched` pictures and labels, the history has the accuracy on them after each epoch.
    """
    n_pictures = len(data[1])
    if n_pictures < args.batch_size:
        raise UserError(f"--batch_size {args.batch_size}: there are {n_pictures} pictures in all")
    model = build(vars(config)).to(args.device, memory_format=torch.channels_last)
    optimizers = make_optimizers(model, args.optimizer, args.lr, args.weight_decay)  # Muon is joined by an AdamW
    phase = torch.rand(n_pictures, device=args.device)  # (N,): when it is a picture's turn to be mirrored
    average = copy.deepcopy(model).eval().requires_grad_(False)  # of the weights and of the norms' statistics
    timer = Timer()
    parts = {"model": model, "average": average, "timer": timer}
    parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(optimizers)}
    state_path = args.out_dir / "state.pth"
    done, history = load_state(state_path, args.flags, parts) if args.resume else (0, [])

    bar = tqdm(range(done, args.epochs), initial=done, total=args.epochs, unit="epoch")
    for epoch in bar:
        mirrored = (phase + epoch * args.flip) % 1 < args.flip  # (N,): with 0.5 every picture in every other epoch
        row = {"epoch": epoch + 1, **train_epoch(model, average, optimizers, *data, mirrored, epoch, args)}
        if watched:
            p = probabilities(average if args.ema else model, watched[0], args.amp, to_input=to_input)
            row["validation_accuracy"] = score(p, watched[1])[0]
        history.append(row)
        bar.set_postfix({name: f"{value:.4f}" for name, value in row.items() if name != "epoch"})

        # Save.
        save_state(state_path, args.flags, epoch + 1, history, parts)
    return (average if args.ema else model).eval(), history, timer.seconds


def train_epoch(
    model: ConvNet,
    average: ConvNet,
    optimizers: list[Optimizer],
    images: Tensor,
    labels: Tensor,
    mirrored: Tensor,
    epoch: int,
    args: argparse.Namespace,
) -> dict[str, float]:
    """Show the network all pictures (N, 3, 32, 32), uint8, once; return the mean loss, and the accuracy on the way."""
    steps_per_epoch = len(labels) // args.batch_size  # the few pictures that are left over come in another epoch
    steps, n_classes = args.epochs * steps_per_epoch, model.head[-1].weight.shape[0]
    warmup_steps = round(args.warmup * steps)
    pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
    averages = [(mean, latest) for mean, latest in pairs if mean.is_floating_point()]
    loss_sum, n_right = 0.0, 0
    model.train()
    order = torch.randperm(len(labels)).to(labels.device)
    for i in range(steps_per_epoch):
        # Batch.
        batch = order[i * args.batch_size : (i + 1) * args.batch_size]  # (B,)
        x, y = images[batch], labels[batch]  # (B, 3, 32, 32), (B,)

        # Augmentation: mirror those whose turn it is, move all, hide a square of each.
        x = random_flip(x, mirrored[batch].float().view(-1, 1, 1, 1))
        x = random_shift(x, args.shift, padding="reflect")
        x = cutout(x, args.cutout, fill=MEAN_GREY) if args.cutout else x

        # Forward.
        with torch.autocast(x.device.type, torch.bfloat16, enabled=args.amp == "bf16"):
            logits = model(to_input(x))  # (B, K)

        # Loss: cross-entropy, with a share of each label spread evenly over all classes.
        targets = (1 - args.label_smoothing) * F.one_hot(y, n_classes) + args.label_smoothing / n_classes  # (B, K)
        loss = -(targets * log_softmax(logits.float())).sum(dim=1).mean()

        # Backward.
        model.zero_grad()
        loss.backward()

        # Step, at a rate that rises in a straight line and then falls along half a cosine wave.
        step = epoch * steps_per_epoch + i
        if step < warmup_steps:
            rate = args.lr * (step + 1) / (warmup_steps + 1)
        else:
            rate = args.lr * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps))) / 2
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

        # Running average: over the last tenth of the steps at first, later over about 1 / (1 - ema) of them.
        for mean, latest in averages:
            mean.lerp_(latest, 1 - min(args.ema, step / (step + 9)))

        # Log.
        loss_sum += loss.item()
        n_right += (logits.argmax(dim=1) == y).sum().item()
    if not math.isfinite(loss_sum):
        raise UserError(f"the loss became {loss_sum} in epoch {epoch + 1}: start again with a lower --lr")
    return {
        "train_loss": loss_sum / steps_per_epoch,
        "train_accuracy_augmented": n_right / (steps_per_epoch * args.batch_size),
    }


def draw_history(history: list[dict], final: dict) -> Figure:
    """Draw loss and accuracy by epoch; at the end, what the finished network reaches on pictures left as they are."""
    epochs, split = [row["epoch"] for row in history], final["split"]
    figure, (loss, accuracy) = new_figure(8.5, 3.4, ncols=2)
    loss.plot(epochs, [row["train_loss"] for row in history])
    loss.set(xlabel="epoch", ylabel="training loss (nats)", title="loss, with smoothed labels")
    curves = {"train_accuracy_augmented": "training pictures, augmented", "validation_accuracy": "validation pictures"}
    for (name, label), colour in zip(curves.items(), (COLOURS[0], COLOURS[1]), strict=True):
        if name in history[0]:
            accuracy.plot(epochs, [100 * row[name] for row in history], color=colour, label=label)
    ends = {"train_accuracy": ("training pictures as they are", "^"), f"{split}_accuracy": (f"{split} pictures", "o")}
    for (name, (label, marker)), colour in zip(ends.items(), (COLOURS[0], COLOURS[1]), strict=True):
        value = 100 * final[name]
        accuracy.plot(epochs[-1], value, marker, color=colour, ms=8, ls="", label=f"{label}: {value:.1f}")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", title="accuracy; marks: the finished network")
    accuracy.legend(frameon=False, loc="lower right")
    for axes in (loss, accuracy):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


if __name__ == "__main__":
    run(main)
