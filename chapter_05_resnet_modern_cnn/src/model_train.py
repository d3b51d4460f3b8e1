"""Train a ResNet, or its plain twin without shortcuts, on STL-10; the flags' defaults are the shipped models' recipe.
在 STL-10 上训练 ResNet，或去掉捷径的普通网络；各选项的默认值就是仓库自带的模型的训练配方。

    python chapter_05_resnet_modern_cnn/src/model_train.py    # the shipped ResNet-18: on 2 CPU cores 45 min
    python chapter_05_resnet_modern_cnn/src/model_train.py --model_type plainnet    # its twin: 45 min
    python chapter_05_resnet_modern_cnn/src/model_train.py --compare    # both, one after the other, in one figure
    python chapter_05_resnet_modern_cnn/src/model_train.py --epochs 100 --batch_size 64 --lr 0.1    # shorter: 20 min
    python chapter_05_resnet_modern_cnn/src/model_train.py --dataset shapes --width 16 --epochs 16 --batch_size 50 \
        --cutmix 0 --mixup 0 --crop 0.6 --enlarge 1.15    # no download, 9 of 10 right: 3 min
    python chapter_05_resnet_modern_cnn/src/model_train.py --resume    # after an interruption, to the same numbers
    torchrun --nproc_per_node=2 chapter_05_resnet_modern_cnn/src/model_train.py    # each batch shared by 2 processes

Several machines: torchrun's --nnodes, --node_rank and --master_addr, and an --out_dir that all of them can read.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.base import Optimizer
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.regularization.augmentation import color_jitter
from chapter_03_optimization_regularization.regularization.mixing import smooth_labels, soft_cross_entropy
from chapter_03_optimization_regularization.training import make_optimizers
from chapter_05_resnet_modern_cnn.src.augmentation import mix_at_random, random_resized_crops
from chapter_05_resnet_modern_cnn.src.data_parallel import average, first_process_first, synchronise_norms_
from chapter_05_resnet_modern_cnn.src.dataset import DATASETS, SPLITS, load, to_input
from chapter_05_resnet_modern_cnn.src.figures.training import TYPES, training_curves
from chapter_05_resnet_modern_cnn.src.measuring import final_accuracies, measure, test_side
from chapter_05_resnet_modern_cnn.src.model import DEPTHS, STEMS, ResNet, ResNetConfig, build
from utils.checkpoint import load_state, probe_input, round_to_half, save_model, save_state
from utils.cli import (
    add_data_flag,
    add_train_size_flag,
    add_training_flags,
    amount,
    begin,
    positive,
    run,
    script_parser,
    share,
)
from utils.data import batches
from utils.device import autocast
from utils.distributed import process_group, rank, world_size
from utils.errors import UserError, check_finite
from utils.model_summary import model_summary
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed
from utils.tables import final_lines
from utils.timer import Timer

STOPS = 30  # times that a training stops to measure itself and to save its state, 130 MB each


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, epochs=210, batch_size=100, lr=0.1)
    add_data_flag(parser)
    add_recipe_flags(parser)
    parser.add_argument("--model_type", default="resnet", choices=TYPES, help="with or without shortcuts")
    parser.add_argument("--depth", type=int, default=18, choices=DEPTHS, help="layers")
    parser.add_argument("--width", type=positive, default=64, help="channels of the first stage")
    parser.add_argument("--stem", choices=STEMS, help="first layers; None: 32 for cifar10, 224 for what is larger")
    parser.add_argument(
        "--dataset", default="stl10", choices=DATASETS, help="photographs of 96 or 32 pixels; shapes: no download"
    )
    add_train_size_flag(parser)
    parser.add_argument("--split", default="test", choices=SPLITS, help="what to measure on, and so what to train on")
    parser.add_argument("--compare", action="store_true", help="train both types, one after the other")
    tiny = {"dataset": "shapes", "train_size": 64, "epochs": 3, "batch_size": 20, "width": 4, "amp": "off"}
    tiny |= {"small_side": 32}
    words = sys.argv[1:] if argv is None else argv
    args = begin(parser, words, tiny)
    with process_group(args.device):
        if not args.compare:
            train_and_write(args)
            return
        arms = {}
        for model_type in TYPES:  # each as if it had been called alone
            arm = [word for word in words if word != "--compare"]
            arm = begin(parser, [*arm, "--model_type", model_type, "--out_dir", str(args.out_dir)], tiny)
            arm.resume = args.resume and state_path(arm).exists()
            arms[model_type] = train_and_write(arm)
        if rank() == 0:
            write_comparison(arms, args)


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    """Add how to train: what both types have in common."""
    parser.add_argument("--weight_decay", type=amount, default=1e-3, help="of weights, not of biases and norms")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--ema", type=share, default=0.998, help="decay of the weights' running average; 0: none")
    parser.add_argument("--label_smoothing", type=share, default=0.1, help="share of the label spread evenly")
    parser.add_argument("--small_side", type=positive, default=64, help="pixels at first, if fewer than the pictures'")
    parser.add_argument("--small_share", type=share, default=0.7, help="share of the epochs at this size")
    parser.add_argument("--full_side", type=positive, help="pixels of the last epochs; None: the pictures' own")
    parser.add_argument("--enlarge", type=amount, default=4 / 3, help="factor by which pictures are larger in tests")
    parser.add_argument("--crop", type=share, default=0.25, help="area of the smallest piece that is cut out")
    parser.add_argument("--degrees", type=amount, default=10.0, help="pictures turn by up to so much either way")
    parser.add_argument("--jitter", type=share, default=0.3, help="strength of the change of colours")
    parser.add_argument("--cutmix", type=share, default=0.4, help="share of the batches with boxes of other pictures")
    parser.add_argument("--mixup", type=share, default=0.1, help="share of the batches that are blended with others")
    parser.add_argument("--unmixed", type=share, default=0.08, help="share of the epochs, the last ones, without both")


@dataclass
class Recipe:
    """How to train: the flags of these names, in this order."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup: float
    ema: float
    label_smoothing: float
    small_side: int
    small_share: float
    full_side: int | None
    enlarge: float
    crop: float
    degrees: float
    jitter: float
    cutmix: float
    mixup: float
    unmixed: float
    amp: str
    seed: int


def train_and_write(args: argparse.Namespace) -> dict:
    """Train and measure one network, write its files; return what stands in its results."""
    with first_process_first():
        *sets, classes = load(args.dataset, args.split, args.data_root, args.train_size)
    train_set, test_set = (tuple(t.to(args.device) for t in pictures) for pictures in sets)
    check_batch_size(args.batch_size, len(train_set[1]))
    stem = args.stem or ("32" if args.dataset == "cifar10" else "224")
    config = ResNetConfig(args.depth, len(classes), args.width, "v1", args.model_type == "resnet", stem)
    recipe = Recipe(
        args.epochs, args.batch_size, args.lr, args.weight_decay, args.warmup, args.ema, args.label_smoothing,
        args.small_side, args.small_share, args.full_side, args.enlarge, args.crop, args.degrees, args.jitter,
        args.cutmix, args.mixup, args.unmixed, args.amp, args.seed,
    )  # fmt: skip
    watched = test_set if args.split == "validation" else None
    model, history, seconds = train(train_set, watched, config, recipe, state_path(args), args.flags, args.resume)
    if rank() > 0:
        return {}
    round_to_half(model)
    side = test_side(test_set[0], args.enlarge)
    final = final_accuracies(model, train_set, test_set, side, args.split)
    final |= {"train_loss": history[-1]["train_loss"], "train_seconds": seconds, "processes": world_size()}
    summary = model_summary(model, torch.zeros(1, 3, side, side, device=args.device))
    final |= {"parameters": summary.parameters, "macs": summary.macs}
    with torch.no_grad():
        probe = model(probe_input(1, 3, side, side).to(args.device))[0].tolist()
    about = final | {"classes": classes, "dataset": args.dataset, "image_size": side, "probe": probe}
    save_model(args.out_dir / f"{name_of(args)}.pth", model, config, about)
    write_results(args.out_dir / f"{name_of(args)}.json", args, final, history)
    save_figure(training_curves({args.model_type: history}), args.out_dir / f"{name_of(args)}.png")
    print(name_of(args), *final_lines(final), f"written to {args.out_dir}", sep="\n")
    return {"final": final, "history": history}


def check_batch_size(batch_size: int, count: int) -> None:
    if batch_size > count:
        raise UserError(f"--batch_size {batch_size}: there are {count} pictures in all")
    if batch_size % world_size():
        raise UserError(f"--batch_size {batch_size} cannot be shared equally by {world_size()} processes")


def name_of(args: argparse.Namespace) -> str:
    return f"{args.model_type}{args.depth}_{args.dataset}"


def state_path(args: argparse.Namespace) -> Path:
    return args.out_dir / f"{name_of(args)}_state.pth"


def train(
    data: tuple[Tensor, Tensor],
    watched: tuple[Tensor, Tensor] | None,
    config: ResNetConfig,
    recipe: Recipe,
    state: Path,
    flags: dict,
    resume: bool,
) -> tuple[ResNet, list[dict], float]:
    """Train, save the state now and then; return the model (with --ema its average), the history, the seconds.

    Where there are `watched` pictures and labels, the history has the accuracy on them now and then.
    """
    images, labels = data
    model = build(vars(config)).to(images.device, memory_format=torch.channels_last)
    network: nn.Module = model
    if world_size() > 1:
        network = DistributedDataParallel(synchronise_norms_(model))  # averages the processes' gradients
    set_seed(recipe.seed)  # whatever the weights drew, both types are shown the same pictures in the same order
    [optimizer] = make_optimizers(model, "nesterov", recipe.lr, recipe.weight_decay)
    steps = recipe.epochs * (len(labels) // recipe.batch_size)
    warmup_steps = round(recipe.warmup * steps)
    schedule = Schedule(optimizer, warmup(cosine(steps - warmup_steps), warmup_steps))
    ema, timer = EMA(model, recipe.ema), Timer()
    averaged = ema.model if recipe.ema else model
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "ema": ema, "timer": timer}
    done, history = load_state(state, flags, parts) if resume else (0, [])
    targets = smooth_labels(labels, config.n_classes, recipe.label_smoothing)  # (N, K)
    side, every = recipe.full_side or images.shape[-1], math.ceil(recipe.epochs / STOPS)

    bar = tqdm(
        range(done, recipe.epochs),
        state.stem.removesuffix("_state"),
        initial=done,
        total=recipe.epochs,
        disable=rank() > 0,
    )
    for epoch in bar:
        size = min(side, recipe.small_side) if epoch < recipe.small_share * recipe.epochs else side
        mixed = epoch < (1 - recipe.unmixed) * recipe.epochs
        loss = train_epoch(network, images, targets, size, mixed, recipe, optimizer, schedule, ema)
        check_finite(loss, epoch)
        # log and save
        row = {"epoch": epoch + 1, "train_loss": loss}
        if rank() == 0 and ((epoch + 1) % every == 0 or epoch + 1 == recipe.epochs):
            row |= measure(averaged, data, watched, test_side(images, recipe.enlarge), recipe.amp)
            save_state(state, flags, epoch + 1, [*history, row], parts)
        history.append(row)
        bar.set_postfix({name: f"{value:.4f}" for name, value in row.items() if name != "epoch"})
    return averaged.eval(), history, timer.seconds


def train_epoch(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    side: int,
    mixed: bool,
    recipe: Recipe,
    optimizer: Optimizer,
    schedule: Schedule,
    ema: EMA,
) -> float:
    """Go once through the pictures (N, 3, H, W) and targets (N, K), shown at `side` pixels; return the mean loss."""
    network.train()
    summed, n_batches = torch.zeros((), device=images.device), len(images) // recipe.batch_size
    for batch, y in batches(images, targets, batch_size=recipe.batch_size, shuffle=True):
        if len(y) < recipe.batch_size:
            continue  # the few that are left over come in another epoch
        # batch
        # Every process draws and makes the whole batch, from the same seed: pictures can be mixed with those of
        # another process's share, and any number of processes trains on the same numbers.
        # 每个进程都用同一种子生成整个批次：图片可以与别的进程的图片混合，进程数也不影响训练所用的数据。
        pixels = random_resized_crops(batch, side, recipe.crop, recipe.degrees)  # (B, 3, side, side)
        x = to_input(255 * color_jitter(pixels, recipe.jitter, recipe.jitter, recipe.jitter))
        if mixed:
            x, y = mix_at_random(x, y, recipe.cutmix, recipe.mixup)
        x, y = (t.chunk(world_size())[rank()] for t in (x, y))  # (B / processes, ...): its share
        # forward
        with autocast(x.device, recipe.amp):
            logits = network(x)  # (B / processes, K)
        # loss
        loss = soft_cross_entropy(logits.float(), y)
        # backward
        optimizer.zero_grad()
        loss.backward()
        # step
        optimizer.step()
        schedule.step()
        if recipe.ema:
            ema.update(network.module if isinstance(network, DistributedDataParallel) else network)
        # log
        summed += loss.detach()
    return average(summed).item() / n_batches


def write_comparison(arms: dict[str, dict], args: argparse.Namespace) -> None:
    """Write what both networks did into one file and one figure."""
    history = [dict(zip(arms, rows, strict=True)) for rows in zip(*(a["history"] for a in arms.values()), strict=True)]
    final = {name: arm["final"] for name, arm in arms.items()}
    write_results(args.out_dir / f"depth{args.depth}.json", args, final, history)
    figure = training_curves({name: arm["history"] for name, arm in arms.items()})
    save_figure(figure, args.out_dir / "loss_comparison.png")


if __name__ == "__main__":
    run(main)
