"""Train a ResNet, or its plain twin without shortcuts, on STL-10; the flags' defaults are the shipped models' recipe.
在 STL-10 上训练 ResNet，或去掉捷径的普通网络；各标志的默认值就是随附模型的训练配方。

    python chapter_05_resnet_modern_cnn/src/model_train.py    # the shipped ResNet-18: on 2 CPU cores 45 min
    python chapter_05_resnet_modern_cnn/src/model_train.py --model_type plainnet    # its twin: 45 min
    python chapter_05_resnet_modern_cnn/src/model_train.py --compare    # both, one after the other, in one figure
    python chapter_05_resnet_modern_cnn/src/model_train.py --epochs 100 --batch_size 64 --lr 0.1    # shorter: 20 min
    python chapter_05_resnet_modern_cnn/src/model_train.py --dataset shapes --epochs 10    # no download: 2 min
    python chapter_05_resnet_modern_cnn/src/model_train.py --resume    # after an interruption, to the same numbers
    torchrun --nproc_per_node=2 chapter_05_resnet_modern_cnn/src/model_train.py    # each batch shared by 2 processes

Several machines: torchrun's --nnodes, --node_rank and --master_addr, and an --out_dir that all of them can read.
"""

import argparse
import math
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from chapter_03_optimization_regularization.optimizers.averaging import EMA
from chapter_03_optimization_regularization.optimizers.schedules import Schedule, cosine, warmup
from chapter_03_optimization_regularization.regularization.augmentation import affine, affine_matrices, color_jitter
from chapter_03_optimization_regularization.regularization.mixing import (
    cutmix,
    mixup,
    smooth_labels,
    soft_cross_entropy,
)
from chapter_03_optimization_regularization.training import make_optimizers, probabilities, score
from chapter_05_resnet_modern_cnn.src.data_parallel import average, first_process_first, synchronise
from chapter_05_resnet_modern_cnn.src.dataset import DATASETS, SPLITS, load, resize, to_input
from chapter_05_resnet_modern_cnn.src.model import DEPTHS, STEMS, ResNet, ResNetConfig, build
from utils.checkpoint import load_state, probe_input, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, positive, run, script_parser, share
from utils.data import batches
from utils.device import autocast
from utils.distributed import process_group, rank, world_size
from utils.errors import UserError, check_finite
from utils.model_summary import model_summary
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results
from utils.seed import set_seed
from utils.timer import Timer

TYPES = {"resnet": "ResNet", "plainnet": "PlainNet"}
STOPS = 30  # times that a training stops to measure itself and to save its state, 130 MB each
RATIO = 4 / 3  # a piece that is cut out is at most so much wider than high, or higher than wide


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_training_flags(parser, epochs=210, batch_size=100, lr=0.1)
    add_data_flag(parser)
    add_recipe_flags(parser)
    parser.add_argument("--model_type", default="resnet", choices=TYPES, help="with or without shortcuts")
    parser.add_argument("--depth", type=int, default=18, choices=DEPTHS, help="layers")
    parser.add_argument("--width", type=positive, default=64, help="channels of the first stage")
    parser.add_argument("--stem", choices=STEMS, help="first layers; None: 32 for cifar10, 224 for what is larger")
    parser.add_argument("--dataset", default="stl10", choices=DATASETS, help="what to learn")
    parser.add_argument("--train_size", type=positive, default=4000, help="how many of the shapes to draw")
    parser.add_argument("--split", default="test", choices=SPLITS, help="what to measure on, and so what to train on")
    parser.add_argument("--compare", action="store_true", help="train both types, one after the other")
    tiny = {"dataset": "shapes", "train_size": 60, "epochs": 3, "batch_size": 20, "width": 4, "amp": "off"}
    tiny |= {"small_side": 32}
    words = sys.argv[1:] if argv is None else argv
    args = begin(parser, words, tiny)
    with process_group(args.device):
        if not args.compare:
            train_one(args)
            return
        arms = {}
        for model_type in TYPES:  # each as if it had been called alone
            arm = [word for word in words if word != "--compare"]
            arm = begin(parser, [*arm, "--model_type", model_type, "--out_dir", str(args.out_dir)], tiny)
            arm.resume = args.resume and state_path(arm).exists()
            arms[model_type] = train_one(arm)
        if rank() == 0:
            compare(arms, args)


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    """Add how to train: what both types have in common."""
    parser.add_argument("--weight_decay", type=amount, default=1e-3, help="of weights, not of biases and norms")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--ema", type=share, default=0.998, help="decay of the weights' running average; 0: none")
    parser.add_argument("--label_smoothing", type=share, default=0.1, help="share of the label spread evenly")
    parser.add_argument("--small_side", type=positive, default=64, help="pixels at first, if fewer than the pictures'")
    parser.add_argument("--small_share", type=share, default=0.7, help="share of the epochs at this size")
    parser.add_argument("--enlarge", type=amount, default=4 / 3, help="factor by which pictures are larger in tests")
    parser.add_argument("--crop", type=share, default=0.25, help="area of the smallest piece that is cut out")
    parser.add_argument("--degrees", type=amount, default=10.0, help="pictures turn by up to so much either way")
    parser.add_argument("--jitter", type=share, default=0.3, help="strength of the change of colours")
    parser.add_argument("--cutmix", type=share, default=0.4, help="share of the batches with boxes of other pictures")
    parser.add_argument("--mixup", type=share, default=0.1, help="share of the batches that are blended with others")
    parser.add_argument("--unmixed", type=share, default=0.08, help="share of the epochs, the last ones, without both")


def train_one(args: argparse.Namespace) -> dict:
    """Train and measure one network, write its files; return what stands in its results."""
    with first_process_first():
        *sets, classes = load(args.dataset, args.split, args.data_root, args.train_size)
    train_set, test_set = (tuple(t.to(args.device) for t in pictures) for pictures in sets)
    stem = args.stem or ("32" if args.dataset == "cifar10" else "224")
    config = ResNetConfig(args.depth, len(classes), args.width, "v1", args.model_type == "resnet", stem)
    model, history, seconds = train(train_set, test_set, config, args)
    if rank() > 0:
        return {}
    round_to_half(model)
    prepare = partial(test_input, args=args)
    side = prepare(test_set[0][:1]).shape[-1]
    split = "validation" if args.split == "validation" else "test"
    p, flipped = (probabilities(model, test_set[0], views=views, to_input=prepare) for views in (1, 2))
    accuracy, loss = score(p, test_set[1])
    train_accuracy, clean_loss = score(probabilities(model, train_set[0], to_input=prepare), train_set[1])
    summary = model_summary(model, torch.zeros(1, 3, side, side, device=args.device))
    final = {
        f"{split}_accuracy": accuracy,
        f"{split}_accuracy_flip": score(flipped, test_set[1])[0],
        f"{split}_loss": loss,
        f"{split}_count": len(test_set[1]),
        "split": args.split,
        "train_loss": history[-1]["train_loss"],
        "train_loss_clean": clean_loss,
        "train_accuracy": train_accuracy,
        "train_count": len(train_set[1]),
        "train_seconds": seconds,
        "processes": world_size(),
        "parameters": summary.parameters,
        "macs": summary.macs,
    }
    with torch.no_grad():
        probe = model(probe_input(1, 3, side, side).to(args.device))[0].tolist()
    about = final | {"classes": classes, "dataset": args.dataset, "image_size": side, "probe": probe}
    save_model(args.out_dir / f"{name_of(args)}.pth", model, config, about)
    write_results(args.out_dir / f"{name_of(args)}.json", args, final, history)
    save_figure(draw({args.model_type: history}), args.out_dir / f"{name_of(args)}.png")
    print(name_of(args))
    for name, value in final.items():
        print(f"  {name:24} {value:.4f}" if isinstance(value, float) else f"  {name:24} {value}")
    print(f"written to {args.out_dir}")
    return {"final": final, "history": history}


def name_of(args: argparse.Namespace) -> str:
    return f"{args.model_type}{args.depth}_{args.dataset}"


def state_path(args: argparse.Namespace) -> Path:
    return args.out_dir / f"{name_of(args)}_state.pth"


def train(
    data: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], config: ResNetConfig, args: argparse.Namespace
) -> tuple[ResNet, list[dict], float]:
    """Train, save the state now and then; return the model (with --ema its average), the history, the seconds."""
    steps_each = len(data[1]) // args.batch_size
    if steps_each == 0:
        raise UserError(f"--batch_size {args.batch_size}: there are {len(data[1])} pictures in all")
    if args.batch_size % world_size():
        raise UserError(f"--batch_size {args.batch_size} cannot be shared equally by {world_size()} processes")
    model = build(vars(config)).to(args.device, memory_format=torch.channels_last)
    network: nn.Module = model
    if world_size() > 1:
        synchronise(model)
        network = DistributedDataParallel(model)  # averages the processes' gradients
    set_seed(args.seed)  # whatever the weights drew, both types are shown the same pictures in the same order
    [optimizer] = make_optimizers(model, "nesterov", args.lr, args.weight_decay)
    total = args.epochs * steps_each
    rise = round(args.warmup * total)
    schedule = Schedule(optimizer, warmup(cosine(total - rise), rise))
    ema, timer = EMA(model, args.ema), Timer()
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "ema": ema, "timer": timer}
    done, history = load_state(state_path(args), args.flags, parts) if args.resume else (0, [])
    side, every = data[0].shape[-1], math.ceil(args.epochs / STOPS)

    bar = tqdm(range(done, args.epochs), name_of(args), initial=done, total=args.epochs, disable=rank() > 0)
    for epoch in bar:
        network.train()
        size = min(side, args.small_side) if epoch < args.small_share * args.epochs else side
        mixed = epoch < (1 - args.unmixed) * args.epochs
        summed = torch.zeros((), device=args.device)
        for images, labels in batches(*data, batch_size=args.batch_size, shuffle=True):
            if len(labels) < args.batch_size:
                continue  # the few that are left over come in another epoch
            # Every process draws and makes the whole batch, from the same seed: pictures can be mixed with those of
            # another process's share, and any number of processes trains on the same numbers.
            # 每个进程都用同一种子生成整个批次：图片可以与别的进程的图片混合，进程数也不影响训练所用的数据。
            x = augment(images, size, args)
            targets = smooth_labels(labels, config.n_classes, args.label_smoothing)  # (B, K)
            x, targets = mix(x, targets, args) if mixed else (x, targets)
            x, targets = (t.chunk(world_size())[rank()] for t in (x, targets))  # (B / processes, ...): its share
            with autocast(args.device, args.amp):
                logits = network(x)  # (B / processes, K)
            loss = soft_cross_entropy(logits.float(), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if args.ema:
                ema.update(model)
            summed += loss.detach()
        loss_seen = average(summed).item() / steps_each
        check_finite(loss_seen, epoch)
        row = {"epoch": epoch + 1, "train_loss": loss_seen}
        if rank() == 0 and ((epoch + 1) % every == 0 or epoch + 1 == args.epochs):
            row |= measure(ema.model if args.ema else model, data, held_out, args)
            save_state(state_path(args), args.flags, epoch + 1, [*history, row], parts)
        history.append(row)
        bar.set_postfix({name: f"{value:.4f}" for name, value in row.items() if name != "epoch"})
    return (ema.model if args.ema else model).eval(), history, timer.seconds


def augment(images: Tensor, size: int, args: argparse.Namespace) -> Tensor:
    """Turn pictures (B, 3, H, W), uint8, into inputs (B, 3, size, size): a piece of each, mirrored, turned, recoloured.

    All moves are one: each new pixel is looked up at its place in the old picture, and blurred but once.
    """
    pixels = images.float(memory_format=torch.contiguous_format) / 255
    draw = torch.rand(6, len(images), device=images.device)
    area, ratio = args.crop + (1 - args.crop) * draw[0], RATIO ** (2 * draw[1] - 1)
    part = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1)  # (B, 2): of width, height
    whole = part.new_tensor([images.shape[-1], images.shape[-2]])
    centre = (draw[2:4].T - 0.5) * (1 - part) * whole  # (B, 2): the piece lies inside the picture
    stretch = part * whole / size  # (B, 2): pixels of the old picture to one of the new
    stretch[:, 0] *= torch.where(draw[4] < 0.5, -1.0, 1.0)
    turn = affine_matrices((2 * draw[5] - 1) * args.degrees)[:, :, :2]  # (B, 2, 2)
    matrices = torch.cat([turn * stretch[:, None], centre[:, :, None]], dim=2)  # (B, 2, 3)
    pixels = affine(pixels, matrices, "reflect", (size, size))
    return to_input(255 * color_jitter(pixels, args.jitter, args.jitter, args.jitter))


def mix(x: Tensor, targets: Tensor, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Leave the batch as it is, or give the pictures parts of one another (CutMix), or blend them (mixup)."""
    chance = torch.rand(()).item()
    if chance < args.cutmix:
        return cutmix(x, targets)
    return mixup(x, targets) if chance < args.cutmix + args.mixup else (x, targets)


def measure(model: nn.Module, data: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], args) -> dict[str, float]:
    """Return accuracy and loss on every fourth training picture as it is, and the accuracy on validation pictures."""
    images, labels = (t[::4] for t in data)
    row = dict(zip(("train_accuracy", "train_loss_clean"), score(classify(model, images, args), labels), strict=True))
    if args.split == "validation":
        row["validation_accuracy"] = score(classify(model, held_out[0], args), held_out[1])[0]
    return row


def classify(model: nn.Module, images: Tensor, args: argparse.Namespace) -> Tensor:
    return probabilities(model, images, args.amp, to_input=partial(test_input, args=args))


def test_input(images: Tensor, args: argparse.Namespace) -> Tensor:
    """Turn pictures (B, 3, H, W), uint8, into the larger inputs of a test.

    In training a piece of a picture fills the whole side, and what is on it looks larger. Tests follow (Touvron et al.
    2019): with pieces of a quarter of the picture at least, by 4/3 on average.
    """
    return to_input(resize(images, max(1, round(args.enlarge * images.shape[-1]))))


def compare(arms: dict[str, dict], args: argparse.Namespace) -> None:
    """Write what both networks did into one file and one figure."""
    history = [dict(zip(arms, rows, strict=True)) for rows in zip(*(a["history"] for a in arms.values()), strict=True)]
    final = {name: arm["final"] for name, arm in arms.items()}
    write_results(args.out_dir / f"depth{args.depth}.json", args, final, history)
    save_figure(draw({name: arm["history"] for name, arm in arms.items()}), args.out_dir / "loss_comparison.png")


def draw(histories: dict[str, list[dict]]) -> Figure:
    """Draw training loss and accuracy by epoch, a colour for each network."""
    figure, (loss, accuracy) = new_figure(9, 3.4, ncols=2)
    for (model_type, history), colour in zip(histories.items(), COLOURS, strict=False):
        name, epochs = TYPES[model_type], [row["epoch"] for row in history]
        loss.plot(epochs, [row["train_loss"] for row in history], color=colour, label=name)
        for key, label, style in (("train_accuracy", "training", "-"), ("validation_accuracy", "validation", "--")):
            points = [(row["epoch"], 100 * row[key]) for row in history if key in row]
            if points:
                accuracy.plot(*zip(*points, strict=True), style, color=colour, label=f"{name}, {label} pictures")
    loss.set(xlabel="epoch", ylabel="training loss (nats)", title="loss, on augmented pictures and soft labels")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", title="accuracy, on pictures as they are")
    for axes in (loss, accuracy):
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    run(main)
