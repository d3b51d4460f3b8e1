"""Train an MLP with our own engine: NumPy arrays and the gradients of this chapter, nothing else.
用自制引擎训练 MLP：只用 NumPy 数组和本章的梯度。

    python chapter_01_tensor_autograd/train.py                      # Fashion-MNIST, 70 s on 2 CPU cores
    python chapter_01_tensor_autograd/train.py --dataset spirals    # built in, 5 s
    python chapter_01_tensor_autograd/train.py --resume             # go on after an interruption, to the same numbers
"""

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from tqdm import tqdm

from chapter_01_tensor_autograd.dataset import FASHION_CLASSES, normalise, spirals, split_fashion_mnist, two_moons
from chapter_01_tensor_autograd.engine import Tensor, no_grad, ops
from chapter_01_tensor_autograd.model import MLPConfig, mlp
from chapter_01_tensor_autograd.nn import Adam, Sequential
from utils.checkpoint import load_state, probe_input, save_state, write_model
from utils.cli import add_data_flag, add_training_flags, amount, begin, positive, run, script_parser
from utils.data import batches
from utils.errors import check_finite
from utils.plotting import new_figure, save_figure
from utils.results import write_results
from utils.shape_checks import check_labels
from utils.tables import final_lines
from utils.timer import Timer

Arrays = tuple[torch.Tensor, torch.Tensor]


@np.errstate(over="ignore", invalid="ignore")  # a training that diverges is stopped by `check_finite`
def main(argv: list[str] | None = None) -> None:
    args = parse(argv)

    # data and model
    train, test, classes = load_data(args.dataset, args.split, args.data_root, args.seed)
    config = MLPConfig(widths=(train[0].shape[1], *args.d_hidden, len(classes)))
    model = mlp(config, np.random.default_rng(args.seed))
    optimizer = Adam(model.parameters(), args.lr, weight_decay=args.weight_decay)
    timer = Timer()

    # resume
    parts = {"model": model, "optimizer": optimizer, "timer": timer}
    state_path = args.out_dir / f"state_{args.dataset}.pth"
    done, history = load_state(state_path, args.flags, parts) if args.resume else (0, [])

    for epoch in tqdm(range(done, args.epochs), initial=done, total=args.epochs, unit="epoch"):
        optimizer.lr = args.lr * 0.5 * (1 + math.cos(math.pi * epoch / args.epochs))  # from lr down to nearly 0
        total = 0.0
        # batch
        for x, y in batches(*train, batch_size=args.batch_size, shuffle=True):
            # forward
            logits = model(Tensor(x.numpy()))  # (B, n_classes)
            # loss
            loss = ops.cross_entropy(logits, y.numpy())
            # backward
            model.zero_grad()
            loss.backward()
            # step
            optimizer.step()
            total += loss.item() * len(x)
        # log
        check_finite(total, epoch)
        history.append({"epoch": epoch + 1, "train_loss": total / len(train[0])})
        # save
        save_state(state_path, args.flags, epoch + 1, history, parts)

    train_seconds = timer.seconds
    model.round_to_half()  # what ships is what is measured
    final = {
        f"{args.split}_accuracy": accuracy(model, *test),
        f"{args.split}_count": len(test[1]),
        "split": args.split,
        "train_accuracy": accuracy(model, *train),
        "train_seconds": train_seconds,
    }
    write(args, model, config, final, history, classes)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the flags' values."""
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_training_flags(parser, epochs=30, batch_size=256, lr=2e-3)
    add_data_flag(parser)
    parser.add_argument(
        "--dataset",
        default="fashion_mnist",
        choices=["fashion_mnist", "two_moons", "spirals"],
        help="pictures of clothes, to be downloaded; or points in the plane, which are built in",
    )
    parser.add_argument(
        "--split",
        default="test",
        choices=["test", "validation"],
        help="measure on the test set, or on 5,000 pictures left out of the training",
    )
    parser.add_argument("--d_hidden", type=positive, nargs="+", default=[256, 128], help="units in the hidden layers")
    parser.add_argument("--weight_decay", type=amount, default=0.4, help="how fast unused weights shrink")
    return begin(parser, argv, dry_run={"dataset": "spirals", "epochs": 2, "d_hidden": [16]})


def load_data(name: str, split: str, root: Path, seed: int) -> tuple[Arrays, Arrays, tuple[str, ...]]:
    """Return training data, evaluation data and class names; inputs are (N, d_in) in float32, about unit scale."""
    if name == "fashion_mnist":
        train, test = split_fashion_mnist(root, split)
        return (normalise(train[0]), train[1]), (normalise(test[0]), test[1]), FASHION_CLASSES
    draw, classes = {"two_moons": (two_moons, 2), "spirals": (spirals, 3)}[name]
    rng = np.random.default_rng(seed)
    train, test = (tuple(map(torch.from_numpy, draw(3000, 0.15, rng))) for _ in range(2))
    return train, test, tuple(f"arm {i}" for i in range(classes))


@no_grad()
def accuracy(model: Sequential, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the share of inputs whose largest logit is the label's."""
    right = 0
    for inputs, labels in batches(x, y, batch_size=1000):
        logits = model(Tensor(inputs.numpy())).data  # (B, n_classes)
        check_labels(logits, labels)
        right += (logits.argmax(axis=1) == labels.numpy()).sum().item()
    return right / len(y)


def write(
    args: argparse.Namespace,
    model: Sequential,
    config: MLPConfig,
    final: dict,
    history: list[dict],
    classes: tuple[str, ...],
) -> None:
    """Write the model in 16 bits, the results and the loss curve into --out_dir, and print the results."""
    weights = {name: array.astype(np.float16) for name, array in model.state_dict().items()}
    probe = model(Tensor(probe_input(1, config.widths[0]).numpy())).data[0].tolist()
    about = final | {"dataset": args.dataset, "classes": list(classes), "probe": probe}
    write_model(args.out_dir / f"mlp_{args.dataset}.pth", weights, config, about)
    write_results(args.out_dir / f"train_{args.dataset}.json", args, final, history)
    plot_loss(history, args.out_dir / f"loss_{args.dataset}.png")
    print("\n".join(final_lines(final)))
    print(f"written to {args.out_dir}")


def plot_loss(history: list[dict], path: Path) -> None:
    """Draw the training loss by epoch."""
    figure, axes = new_figure()
    axes.plot([h["epoch"] for h in history], [h["train_loss"] for h in history])
    axes.set(xlabel="epoch", ylabel="training loss (nats)", yscale="log")
    save_figure(figure, path)


if __name__ == "__main__":
    run(main)
