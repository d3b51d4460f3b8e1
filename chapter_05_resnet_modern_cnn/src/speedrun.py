"""CIFAR-10 to 94 % as fast as a CPU can: a small plain network, and every idea that makes its training shorter.
用 CPU 尽快把 CIFAR-10 训练到 94 %：一个小小的普通网络，加上每一个能缩短训练的想法。

    python chapter_05_resnet_modern_cnn/src/speedrun.py    # three seeds on 2 CPU cores: 22 min
    python chapter_05_resnet_modern_cnn/src/speedrun.py --ideas --epochs 5 --runs 1    # the worth of each idea: 40 min
    python chapter_05_resnet_modern_cnn/src/speedrun.py --dataset shapes --epochs 3    # no download: 2 min

The clock runs while the network is made and trained, with all that pictures go through; it stops for measurements.
After airbench94 (Jordan 2024). The recipe was chosen on the last 5,000 training pictures (--split validation).
"""

import argparse
import sys
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.exp_normalization import spread
from chapter_03_optimization_regularization.optimizers import SGD, AdamW, Muon
from chapter_03_optimization_regularization.optimizers.schedules import Schedule
from chapter_03_optimization_regularization.regularization.augmentation import (
    color_jitter,
    cutout,
    random_flip,
    random_shift,
)
from chapter_03_optimization_regularization.regularization.mixing import smooth_labels, soft_cross_entropy
from chapter_03_optimization_regularization.training import score
from chapter_04_cnn_classic.dataset import DATASETS, MEAN_GREY, SIDE, load, to_input
from chapter_05_resnet_modern_cnn.src.networks.speed_net import SpeedConfig, SpeedNet, build, whitening_filters
from utils.checkpoint import round_to_half, save_model
from utils.cli import add_data_flag, add_output_flags, amount, begin, natural, positive, run, script_parser, share
from utils.data import batches
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.model_summary import model_summary
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results
from utils.seed import set_seed
from utils.timer import Timer

SAMPLE = 1000  # pictures that tell which directions whiten
IDEAS = {  # what --ideas changes in the recipe: one of its ideas left out, or one that was not kept
    "the recipe": {},
    "first layer learned, not whitened": {"first": "learned"},
    "convolutions start at random": {"start": "random"},
    "lengths not kept": {"lengths": "free"},
    "AdamW for Muon": {"optimizer": "adamw", "lr": 0.0035},  # at first steps as long as Muon's
    "AdamW for Muon, twice the rate": {"optimizer": "adamw", "lr": 0.007},
    "mirrored at random": {"flip": "random"},
    "labels not smoothed": {"label_smoothing": 0.0},
    "no small pictures at first": {"small_side": 32},
    "no easy picture left out": {"drop": 0.0},
    "squares hidden": {"cutout": 10},
    "brightness and contrast change": {"jitter": 0.14},
    "narrower": {"widths": [64, 192, 256]},
}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS, help="what to learn")
    parser.add_argument("--train_size", type=positive, default=4000, help="how many of the shapes to draw")
    parser.add_argument("--split", default="test", choices=["test", "validation"], help="what to measure on at the end")
    parser.add_argument("--ideas", action="store_true", help="measure each idea's worth, on validation pictures")
    parser.add_argument("--runs", type=positive, default=3, help="seeds, from --seed on")
    parser.add_argument("--epochs", type=positive, default=13, help="passes over the training set")
    parser.add_argument("--batch_size", type=positive, default=1000, help="pictures a step")
    parser.add_argument("--widths", type=positive, nargs=3, default=[64, 256, 256], help="channels of each stage")
    parser.add_argument("--optimizer", default="muon", choices=["muon", "adamw"], help="of the convolutions")
    parser.add_argument("--lr", type=amount, default=0.17, help="of the convolutions, falling in a line")
    parser.add_argument("--momentum", type=share, default=0.7, help="of the convolutions")
    parser.add_argument("--bias_lr", type=amount, default=0.05, help="of the norms' biases, for losses summed up")
    parser.add_argument("--head_lr", type=amount, default=0.6, help="of the last layer, for losses summed up")
    parser.add_argument("--label_smoothing", type=share, default=0.2, help="share of the label spread evenly")
    parser.add_argument("--shift", type=natural, default=2, help="pixels that a picture moves at most")
    parser.add_argument("--cutout", type=natural, default=0, help="side of the square that is hidden; 0: none")
    parser.add_argument("--jitter", type=share, default=0.0, help="strength of the change of brightness and contrast")
    parser.add_argument("--flip", default="alternate", choices=["alternate", "random"], help="when to mirror a picture")
    parser.add_argument("--first", default="whitened", choices=["whitened", "learned"], help="the first layer")
    parser.add_argument("--start", default="identity", choices=["identity", "random"], help="of the convolutions")
    parser.add_argument("--lengths", default="kept", choices=["kept", "free"], help="of the convolutions' weights")
    parser.add_argument("--small_side", type=positive, default=24, help="pixels at first, if fewer than the pictures'")
    parser.add_argument("--small_share", type=share, default=0.6, help="share of the epochs at this size")
    parser.add_argument("--drop", type=share, default=0.3, help="share of the pictures, the easiest, left out later")
    parser.add_argument("--drop_from", type=share, default=0.4, help="share of the epochs before any is left out")
    parser.add_argument("--amp", default="auto", choices=["auto", "off", "bf16"], help="bfloat16 autocast")
    tiny = {"dataset": "shapes", "train_size": 100, "runs": 2, "epochs": 2, "batch_size": 20, "widths": [8, 8, 8]}
    args = begin(parser, argv, dry_run=tiny | {"small_side": 24, "drop": 0.5, "jitter": 0.1, "amp": "off"})

    split = "validation" if args.ideas else args.split  # ideas are chosen from, and not on test pictures
    *sets, classes = load(args.dataset, split, args.data_root, args.train_size)
    train_set, test_set = (tuple(t.to(args.device) for t in pictures) for pictures in sets)
    if args.batch_size > (kept := round((1 - args.drop) * len(train_set[1]))):
        raise UserError(f"--batch_size {args.batch_size}: there are {kept} pictures after --drop {args.drop}")
    if args.shift >= SIDE:
        raise UserError(f"--shift {args.shift}: the pictures have {SIDE} pixels a side")
    if args.small_side < 9:
        raise UserError(f"--small_side {args.small_side}: of fewer than 9 pixels three poolings leave nothing")
    table, history, per_seed = [], [], []
    for idea, change in (IDEAS if args.ideas else {"the recipe": {}}).items():
        changed = argparse.Namespace(**(vars(args) | change | {"split": split}))
        rows = []
        for seed in range(args.seed, args.seed + args.runs):
            set_seed(seed)
            model, log, seconds = train(train_set, len(classes), changed, test_set if split == "validation" else None)
            round_to_half(model)
            accuracy, single = (score(vote(model, test_set[0], views), test_set[1])[0] for views in (6, 1))
            names = [f"{split}_accuracy", f"{split}_accuracy_single_view", "train_seconds"]
            rows.append(dict(zip(names, (accuracy, single, seconds), strict=True)))
            own = {"idea": idea, "seed": seed}
            history += [own | row for row in log]
            per_seed.append(own | rows[-1])
            print(f"{idea:32} seed {seed}  {accuracy:.2%}  one view {single:.2%}  {seconds:.0f} s", flush=True)
        means = {name: mean(row[name] for row in rows) for name in names}
        table.append({"idea": idea} | means | {f"{name}_std": spread([row[name] for row in rows]) for name in names})

    recipe = build({"n_classes": len(classes), "widths": args.widths}).to(args.device)
    summary = model_summary(recipe, torch.zeros(1, 3, 32, 32, device=args.device))
    final = {f"{split}_count": len(test_set[1]), "split": split, "views": 6}
    final |= {"table": table} if args.ideas else {name: v for name, v in table[0].items() if name != "idea"}
    final |= {"parameters": summary.parameters, "macs": summary.macs}
    name = "speedrun_ideas" if args.ideas else "speedrun"
    if not args.ideas:
        save_model(args.out_dir / "speedrun.pth", model, model.config, per_seed[-1] | {"classes": classes})
    save_figure(draw_ideas(table) if args.ideas else draw(history), args.out_dir / f"{name}.png")
    write_results(args.out_dir / f"{name}.json", args, final, history, per_seed)
    print(f"written to {args.out_dir}")


def train(
    data: tuple[Tensor, Tensor], n_classes: int, args: argparse.Namespace, watched: tuple[Tensor, Tensor] | None
) -> tuple[SpeedNet, list[dict], float]:
    """Return a trained network, what happened in each epoch, and the seconds that the clock ran."""
    timer, seconds, history = Timer(), 0.0, []
    images, labels = data
    config = SpeedConfig(n_classes, list(args.widths), args.start == "identity")
    model = build(vars(config)).to(args.device, memory_format=torch.channels_last)
    if args.first == "whitened":
        model.whiten.weight.copy_(whitening_filters(to_input(images[torch.randperm(len(images))[:SAMPLE]])))
    else:
        model.whiten.weight.requires_grad_(True)

    convolutions = [p for p in model.parameters() if p.ndim == 4 and p.requires_grad]
    biases = [p for p in model.parameters() if p.ndim == 1 and p.requires_grad]
    groups = [{"params": biases, "lr": args.bias_lr}, {"params": [model.head.weight], "lr": args.head_lr}]
    make = {"muon": partial(Muon, momentum=args.momentum), "adamw": partial(AdamW, betas=(args.momentum, 0.95))}
    optimizers = [
        make[args.optimizer](convolutions, lr=args.lr, weight_decay=0.0),
        SGD(groups, lr=args.bias_lr, momentum=0.85, nesterov=True),
    ]
    sizes = [
        len(labels) if e < args.drop_from * args.epochs else round((1 - args.drop) * len(labels))
        for e in range(args.epochs)
    ]
    total = sum(size // args.batch_size for size in sizes)
    schedules = [Schedule(optimizer, lambda step: max(0.0, 1 - step / total)) for optimizer in optimizers]
    mirrored = torch.rand(len(labels), device=args.device) < 0.5  # (N,): in which epochs, the even or the odd ones
    hardness = torch.zeros(len(labels), device=args.device)  # (N,): each picture's loss when last seen

    for epoch, size in enumerate(tqdm(sizes, "epochs", leave=False)):
        model.train()
        side = args.small_side if epoch < args.small_share * args.epochs else images.shape[-1]
        if args.flip == "random":
            mirrored = torch.rand(len(labels), device=args.device) < 0.5
        chosen = hardness.topk(size).indices  # (size,): the hardest
        summed = 0.0
        for [index] in batches(chosen, batch_size=args.batch_size, shuffle=True):
            if len(index) < args.batch_size:
                continue  # the few that are left over come in another epoch
            turned = (mirrored[index] ^ bool(epoch % 2)).float().view(-1, 1, 1, 1)
            pixels = random_shift(random_flip(images[index], turned), args.shift, padding="reflect")
            if args.cutout:
                pixels = cutout(pixels, args.cutout, fill=MEAN_GREY)
            if args.jitter:
                pixels = color_jitter(pixels, args.jitter, args.jitter)
            x = to_input(pixels)
            if side < x.shape[-1]:
                x = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
            with autocast(args.device, args.amp):
                logits = model(x)  # (B, n_classes)
            loss = soft_cross_entropy(logits.float(), smooth_labels(labels[index], n_classes, args.label_smoothing))
            for optimizer in optimizers:
                optimizer.zero_grad()
            (loss * args.batch_size).backward()  # a sum: then the rates hold for any batch size
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            if args.lengths == "kept":
                rescale([p for p in convolutions if p is not model.whiten.weight])  # no norm follows that one
            if args.drop:
                hardness[index] = F.cross_entropy(logits.detach().float(), labels[index], reduction="none")
            summed += loss.item()
        check_finite(summed, epoch)
        seconds += timer.seconds
        row = {"epoch": epoch + 1, "seconds": seconds, "train_loss": summed / (size // args.batch_size)}
        if watched:
            row["validation_accuracy"] = score(vote(model, watched[0], 1, args.amp), watched[1])[0]
        history.append(row)
        timer = Timer()
    return model.eval(), history, seconds


@torch.no_grad()
def rescale(convolutions: list[Tensor]) -> None:
    """Bring each convolution's length back to sqrt(C_out), as of a matrix with orthonormal rows.

    A norm follows, so it computes the same; but a step of the same length would turn a longer one by less.
    """
    for weight in convolutions:
        weight.mul_(len(weight) ** 0.5 / weight.norm())


@torch.no_grad()
def vote(model: SpeedNet, images: Tensor, views: int, amp: str = "off") -> Tensor:
    """Return class probabilities (N, K): of the pictures as they are, or the mean over six views of each.

    Six: as it is, moved by one pixel to the upper left and to the lower right, and the mirror images of the three.
    """
    model.eval()
    parts = []
    for part in images.split(500):
        x = to_input(part)  # (B, 3, H, W)
        seen = [x]
        if views == 6:
            framed, side = F.pad(x, (1, 1, 1, 1), mode="reflect"), x.shape[-1]
            seen += [framed[..., 2:, 2:], framed[..., :side, :side]]
            seen += [view.flip(-1) for view in seen]
        with autocast(images.device, amp):
            parts.append(torch.stack([model(view).float() for view in seen]).mean(dim=0).softmax(dim=1))
    return torch.cat(parts)


def draw(history: list[dict]) -> Figure:
    """Draw each seed's loss by the seconds on the clock."""
    figure, axes = new_figure(6, 3.2)
    for seed, colour in zip(sorted({row["seed"] for row in history}), cycle(COLOURS), strict=False):
        points = [(row["seconds"], row["train_loss"]) for row in history if row["seed"] == seed]
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=f"seed {seed}")
    axes.set(xlabel="seconds on the clock", ylabel="training loss (nats)", title="loss, with smoothed labels")
    axes.legend(frameon=False)
    return figure


def draw_ideas(table: list[dict]) -> Figure:
    """Draw accuracy and seconds of each idea, with the spread over the seeds, beside the recipe's."""
    figure, (accuracy, seconds) = new_figure(9, 0.6 + 0.3 * len(table), ncols=2, sharey=True)
    ideas = [row["idea"] for row in table]
    views = {"six views": "validation_accuracy", "one view": "validation_accuracy_single_view"}
    marks = [(accuracy, name, label, 100) for label, name in views.items()] + [(seconds, "train_seconds", None, 1)]
    for (axes, name, label, scale), colour in zip(marks, COLOURS, strict=False):
        values, spreads = ([scale * row[key] for row in table] for key in (name, f"{name}_std"))
        axes.errorbar(values, ideas, xerr=spreads, fmt="o", color=colour, label=label)
        axes.axvline(values[0], color=colour, lw=0.8, ls=":")  # the recipe
    accuracy.set(xlabel="validation accuracy (%)", title="accuracy; dotted: the recipe")
    accuracy.invert_yaxis()
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    seconds.set(xlabel="seconds on the clock", title="time", xlim=(0, None))
    return figure


if __name__ == "__main__":
    run(main)
