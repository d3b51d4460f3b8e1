"""CIFAR-10 to 94 % as fast as a CPU can: a small plain network, and every idea that makes its training shorter.
用 CPU 尽快把 CIFAR-10 训练到 94 %：一个小小的普通网络，加上每一个能缩短训练的想法。

    python chapter_05_resnet_modern_cnn/src/speedrun.py    # three seeds on 2 CPU cores: 22 min
    python chapter_05_resnet_modern_cnn/src/speedrun.py --ideas --epochs 5 --runs 1    # the worth of each idea: 50 min
    python chapter_05_resnet_modern_cnn/src/speedrun.py --ideas --epochs 5 --only "AdamW for Muon"    # 40 min
    python chapter_05_resnet_modern_cnn/src/speedrun.py --dataset shapes --epochs 3    # no download: 2 min

The clock runs while the network is made and trained, with all that pictures go through; it stops for measurements.
After airbench94 (Jordan 2024). The recipe was chosen on the last 5,000 training pictures (--split validation).
"""

import argparse
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers import SGD, AdamW, Muon
from chapter_03_optimization_regularization.optimizers.base import Optimizer
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
from chapter_05_resnet_modern_cnn.src.figures.speedrun import loss_by_clock, worth_of_ideas
from chapter_05_resnet_modern_cnn.src.networks.speed_net import (
    SpeedConfig,
    SpeedNet,
    build,
    probabilities_by_views,
    rescale_,
    whitening_filters,
)
from chapter_05_resnet_modern_cnn.src.speed_recipe import IDEAS, RATES, Recipe
from utils.checkpoint import round_to_half, save_model
from utils.cli import (
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
from utils.model_summary import model_summary
from utils.plotting import save_figure
from utils.rate_search import best_rate, search_rate
from utils.results import write_results
from utils.seed import set_seed
from utils.spread import over_seeds
from utils.timer import Timer

SAMPLE = 1000  # pictures that tell which directions whiten


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    split = "validation" if args.ideas else args.split  # ideas are chosen from, and not on test pictures
    *sets, classes = load(args.dataset, split, args.data_root, args.train_size)
    train_set, test_set = (tuple(t.to(args.device) for t in pictures) for pictures in sets)
    remaining = round((1 - args.drop) * len(train_set[1]))
    if args.batch_size > remaining:
        raise UserError(f"--batch_size {args.batch_size}: there are {remaining} pictures after --drop {args.drop}")
    recipe = Recipe(
        args.epochs, args.batch_size, tuple(args.widths), args.optimizer, args.lr, args.momentum, args.beta1,
        args.bias_lr, args.head_lr, args.label_smoothing, args.shift, args.cutout, args.jitter, args.flip, args.first,
        args.start, args.lengths, args.small_side, args.small_share, args.drop, args.drop_from, args.amp,
    )  # fmt: skip
    race = Race(train_set, test_set, classes, split, range(args.seed, args.seed + args.runs))
    ideas = ["the recipe", *(args.only or IDEAS)] if args.ideas else ["the recipe"]
    table = [race.measure(idea, recipe) for idea in dict.fromkeys(ideas)]

    summary = model_summary(build({"n_classes": len(classes), "widths": args.widths}), torch.zeros(1, 3, SIDE, SIDE))
    final = {f"{split}_count": len(test_set[1]), "split": split, "views": 6}
    final |= {"table": table} if args.ideas else {name: v for name, v in table[0].items() if name != "idea"}
    final |= {"parameters": summary.parameters, "macs": summary.macs}
    name = "speedrun_ideas" if args.ideas else "speedrun"
    if not args.ideas:
        about = race.per_seed[-1] | {"classes": classes}
        save_model(args.out_dir / "speedrun.pth", race.model, race.model.config, about)
    save_figure(worth_of_ideas(table) if args.ideas else loss_by_clock(race.history), args.out_dir / f"{name}.png")
    write_results(args.out_dir / f"{name}.json", args, final, race.history, race.per_seed)
    print(f"written to {args.out_dir}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the flags."""
    parser = script_parser(__doc__, __file__)
    parser.set_defaults(**asdict(Recipe()) | {"widths": list(Recipe().widths)})
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS, help="photographs, or drawn shapes")
    add_train_size_flag(parser)
    parser.add_argument("--split", default="test", choices=["test", "validation"], help="what to measure on at the end")
    parser.add_argument("--ideas", action="store_true", help="measure each idea's worth, on validation pictures")
    parser.add_argument("--only", nargs="+", choices=IDEAS, help="of --ideas these, beside the recipe; None: all")
    parser.add_argument("--runs", type=positive, default=3, help="seeds, from --seed on")
    parser.add_argument("--epochs", type=positive, help="passes over the training set")
    parser.add_argument("--batch_size", type=positive, help="pictures a step")
    parser.add_argument("--widths", type=positive, nargs=3, help="channels of each stage")
    parser.add_argument("--optimizer", choices=["muon", "adamw"], help="of the convolutions")
    parser.add_argument("--lr", type=amount, help="of the convolutions, falling in a line")
    parser.add_argument("--momentum", type=share, help="Muon's, for the convolutions")
    parser.add_argument("--beta1", type=share, help="AdamW's decay of the mean gradient, in Muon's place")
    parser.add_argument("--bias_lr", type=amount, help="of the norms' biases, for losses summed up")
    parser.add_argument("--head_lr", type=amount, help="of the last layer, for losses summed up")
    parser.add_argument("--label_smoothing", type=share, help="share of the label spread evenly")
    parser.add_argument("--shift", type=natural, help="pixels that a picture moves at most")
    parser.add_argument("--cutout", type=natural, help="side of the square that is hidden; 0: none")
    parser.add_argument("--jitter", type=share, help="strength of the change of brightness and contrast")
    parser.add_argument("--flip", choices=["alternate", "random"], help="when to mirror a picture")
    parser.add_argument("--first", choices=["whitened", "learned"], help="the first layer")
    parser.add_argument("--start", choices=["identity", "random"], help="of the convolutions")
    parser.add_argument("--lengths", choices=["kept", "free"], help="of the convolutions' weights")
    parser.add_argument("--small_side", type=positive, help="pixels at first, if fewer than the pictures'")
    parser.add_argument("--small_share", type=share, help="share of the epochs at this size")
    parser.add_argument("--drop", type=share, help="share of the pictures, the easiest, left out later")
    parser.add_argument("--drop_from", type=share, help="share of the epochs before any is left out")
    parser.add_argument("--amp", choices=["auto", "off", "bf16"], help="bfloat16 autocast")
    tiny = {"dataset": "shapes", "train_size": 100, "runs": 2, "epochs": 2, "batch_size": 20, "widths": [8, 8, 8]}
    args = begin(parser, argv, dry_run=tiny | {"small_side": 24, "drop": 0.5, "jitter": 0.1, "amp": "off"})
    if args.shift >= SIDE:
        raise UserError(f"--shift {args.shift}: the pictures have {SIDE} pixels a side")
    if args.small_side < 9:
        raise UserError(f"--small_side {args.small_side}: of fewer than 9 pixels three poolings leave nothing")
    return args


class Race:
    """Trains a recipe with every seed, and keeps what happened."""

    def __init__(self, train_set: tuple, test_set: tuple, classes: list[str], split: str, seeds: range):
        self.train_set, self.test_set, self.n_classes = train_set, test_set, len(classes)
        self.split, self.seeds = split, seeds
        self.history: list[dict] = []  # of every epoch
        self.per_seed: list[dict] = []
        self.model: SpeedNet  # the last one

    def measure(self, idea: str, recipe: Recipe) -> dict:
        """Return an idea's row of the table; if it has RATES, at the one that is best on the mean over all seeds."""
        recipe, row = replace(recipe, **IDEAS[idea]), {"idea": idea}
        name = f"{self.split}_accuracy"
        if idea not in RATES:
            rows, log = self.train_all(idea, recipe)
        else:
            done = {}

            def trial(lr: float) -> float:
                done[lr] = self.train_all(idea, replace(recipe, lr=lr))
                return over_seeds(done[lr][0], [name])[name]

            scores = search_rate(trial, RATES[idea], ratio=2, reach=3)
            lr = best_rate(scores)
            rows, log = done[lr]
            row |= {"lr": lr, "trials": [{"lr": rate, name: value} for rate, value in scores.items()]}
        for epoch in log:
            check_finite(epoch["train_loss"], epoch["epoch"])
        self.per_seed += rows
        self.history += log
        return row | over_seeds(rows, [name for name in rows[0] if name not in ("idea", "seed")])

    def train_all(self, idea: str, recipe: Recipe) -> tuple[list[dict], list[dict]]:
        """Return what each seed reached, and what happened in each of its epochs."""
        rows, log = [], []
        for seed in self.seeds:
            set_seed(seed)
            watched = self.test_set if self.split == "validation" else None
            self.model, epochs, seconds = train(self.train_set, self.n_classes, recipe, watched)
            own = {"idea": idea, "seed": seed}
            log += [own | row for row in epochs]
            if not math.isfinite(epochs[-1]["train_loss"]):
                reached = {6: 1 / self.n_classes, 1: 1 / self.n_classes}  # it ran away: as good as guessing
            else:
                round_to_half(self.model)
                images, labels = self.test_set
                votes = {n: probabilities_by_views(self.model, images, n, to_input) for n in (6, 1)}
                reached = {n: score(p, labels)[0] for n, p in votes.items()}
            rows.append(own | {f"{self.split}_accuracy": reached[6]})
            rows[-1] |= {f"{self.split}_accuracy_single_view": reached[1], "train_seconds": seconds}
            rate = f"{idea}, rate {recipe.lr:.2g}"
            print(f"{rate:48} seed {seed}  {reached[6]:.2%}  one view {reached[1]:.2%}  {seconds:.0f} s", flush=True)
        return rows, log


def train(
    data: tuple[Tensor, Tensor], n_classes: int, recipe: Recipe, watched: tuple[Tensor, Tensor] | None
) -> tuple[SpeedNet, list[dict], float]:
    """Return a trained network, what happened in each epoch, and the seconds that the clock ran."""
    timer, seconds, history = Timer(), 0.0, []
    images, labels = data
    device = images.device
    config = SpeedConfig(n_classes, list(recipe.widths), recipe.start == "identity")
    model = build(vars(config)).to(device, memory_format=torch.channels_last)
    if recipe.first == "whitened":
        model.whiten.weight.copy_(whitening_filters(to_input(images[torch.randperm(len(images))[:SAMPLE]])))
    else:
        model.whiten.weight.requires_grad_(True)
    optimizers = make_optimizers(model, recipe)
    sizes = [  # pictures of each epoch
        len(labels) if e < recipe.drop_from * recipe.epochs else round((1 - recipe.drop) * len(labels))
        for e in range(recipe.epochs)
    ]
    steps = sum(size // recipe.batch_size for size in sizes)
    schedules = [Schedule(optimizer, lambda step: max(0.0, 1 - step / steps)) for optimizer in optimizers]
    mirrored = torch.rand(len(labels), device=device) < 0.5  # (N,): in which epochs, the even or the odd ones
    hardness = torch.zeros(len(labels), device=device)  # (N,): each picture's loss when last seen

    for epoch, size in enumerate(tqdm(sizes, "epochs", leave=False)):
        side = recipe.small_side if epoch < recipe.small_share * recipe.epochs else images.shape[-1]
        if recipe.flip == "random":
            mirrored = torch.rand(len(labels), device=device) < 0.5
        chosen = hardness.topk(size).indices  # (size,): the hardest
        turned = mirrored ^ bool(epoch % 2)  # (N,)
        loss = train_epoch(model, data, chosen, turned, hardness, side, recipe, optimizers, schedules)
        # log
        seconds += timer.seconds
        history.append({"epoch": epoch + 1, "seconds": seconds, "train_loss": loss})
        if not math.isfinite(loss):
            break
        if watched:
            p = probabilities_by_views(model, watched[0], 1, to_input, recipe.amp)
            history[-1]["validation_accuracy"] = score(p, watched[1])[0]
        timer = Timer()
    return model.eval(), history, seconds


def make_optimizers(model: SpeedNet, recipe: Recipe) -> list[Optimizer]:
    """Return the convolutions' optimizer, and SGD for the norms' biases and the last layer."""
    convolutions = [p for p in model.parameters() if p.ndim == 4 and p.requires_grad]
    biases = [p for p in model.parameters() if p.ndim == 1 and p.requires_grad]
    if recipe.optimizer == "muon":
        first: Optimizer = Muon(convolutions, lr=recipe.lr, momentum=recipe.momentum, weight_decay=0.0)
    else:
        first = AdamW(convolutions, lr=recipe.lr, betas=(recipe.beta1, 0.95), weight_decay=0.0)
    groups = [{"params": biases, "lr": recipe.bias_lr}, {"params": [model.head.weight], "lr": recipe.head_lr}]
    return [first, SGD(groups, lr=recipe.bias_lr, momentum=0.85, nesterov=True)]


def train_epoch(
    model: SpeedNet,
    data: tuple[Tensor, Tensor],
    chosen: Tensor,
    mirrored: Tensor,
    hardness: Tensor,
    side: int,
    recipe: Recipe,
    optimizers: list[Optimizer],
    schedules: list[Schedule],
) -> float:
    """Go once through the `chosen` pictures, shown at `side` pixels; note how hard each was, return the mean loss."""
    model.train()
    (images, labels), summed = data, 0.0
    followed = [p for stage in model.stages for p in stage.parameters() if p.ndim == 4]  # by a norm
    for [index] in batches(chosen, batch_size=recipe.batch_size, shuffle=True):
        if len(index) < recipe.batch_size:
            continue  # the few that are left over come in another epoch
        # batch
        pixels = random_flip(images[index], mirrored[index].float().view(-1, 1, 1, 1))  # (B, 3, 32, 32)
        pixels = random_shift(pixels, recipe.shift, padding="reflect")
        if recipe.cutout:
            pixels = cutout(pixels, recipe.cutout, fill=MEAN_GREY)
        if recipe.jitter:
            pixels = color_jitter(pixels, recipe.jitter, recipe.jitter)
        x = to_input(pixels)
        if side < x.shape[-1]:
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=True)  # (B, 3, side, side)
        # forward
        with autocast(x.device, recipe.amp):
            logits = model(x)  # (B, K)
        # loss
        targets = smooth_labels(labels[index], logits.shape[1], recipe.label_smoothing)  # (B, K)
        loss = soft_cross_entropy(logits.float(), targets)
        # backward
        for optimizer in optimizers:
            optimizer.zero_grad()
        (loss * recipe.batch_size).backward()  # a sum: then the rates hold for any batch size
        # step
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        if recipe.lengths == "kept":
            rescale_(followed)
        # log
        if recipe.drop:
            hardness[index] = F.cross_entropy(logits.detach().float(), labels[index], reduction="none")
        summed += loss.item()
    return summed / (len(chosen) // recipe.batch_size)


if __name__ == "__main__":
    run(main)
