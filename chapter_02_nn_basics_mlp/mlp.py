"""Train the chapter's MLP: on a noisy curve, on a surface, beyond the edge of its data, on pictures of clothes.
训练本章的 MLP：拟合带噪声的曲线与曲面，走出数据的边界，识别衣物图片。

    python chapter_02_nn_basics_mlp/mlp.py --mode standard           # three seeds: 20 s on one CPU core
    python chapter_02_nn_basics_mlp/mlp.py --mode 2d_surface         # 12 s
    python chapter_02_nn_basics_mlp/mlp.py --mode extrapolate        # ReLU, Tanh and Snake: 35 s
    python chapter_02_nn_basics_mlp/mlp.py --mode classify           # Fashion-MNIST: minutes
    python chapter_02_nn_basics_mlp/mlp.py --mode standard --engine  # on chapter 1's engine as well: 14 s
    python chapter_02_nn_basics_mlp/mlp.py --mode standard --resume  # go on after an interruption, to the same numbers

Each mode trains several seeds, reports means and spreads, and ships the first seed's network, never the luckiest.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from tqdm import tqdm

from chapter_02_nn_basics_mlp import dataset, engine_mlp, scores
from chapter_02_nn_basics_mlp.figures import mlp as figures
from chapter_02_nn_basics_mlp.losses import cross_entropy, mse
from chapter_02_nn_basics_mlp.measures import network_outputs, rmse, two_view_probabilities
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from chapter_02_nn_basics_mlp.problems import PROBLEMS, Points, jitter, pictures
from chapter_02_nn_basics_mlp.recipes import (
    BEST_RATES,
    MODES,
    RECIPES,
    add_network_flags,
    add_picture_flags,
    chosen_mode,
)
from chapter_02_nn_basics_mlp.training_files import prepare_states, save_network
from utils.checkpoint import load_state, round_to_half, save_state
from utils.cli import add_training_flags, amount, begin, positive, run, script_parser
from utils.data import batches
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed
from utils.spread import over_seeds
from utils.tables import final_lines
from utils.timer import Timer

from matplotlib.figure import Figure

ROWS = 50  # in the history of a training, and as many states are saved on the way


def main(argv: list[str] | None = None) -> None:
    mode = chosen_mode(sys.argv[1:] if argv is None else argv)
    parser = script_parser(__doc__, __file__)
    parser.add_argument("--mode", default="standard", choices=MODES, help="what to learn; sets the other defaults")
    add_training_flags(parser, epochs=1, batch_size=64, lr=1e-2)
    parser.add_argument("--seeds", type=positive, default=3, help="how many seeds to train, from --seed upwards")
    add_network_flags(parser)
    parser.add_argument("--rates", type=amount, nargs="+", help="extrapolate: only compare these rates, inside")
    parser.add_argument("--engine", action="store_true", help="standard: train on chapter 1's engine, and compare")
    add_picture_flags(parser)
    parser.set_defaults(**RECIPES[mode])
    tiny = {"epochs": 2, "d_hidden": 16, "seeds": 2, "dataset": "shapes", "train_size": 200}
    args = begin(parser, argv, dry_run=tiny)

    if args.engine and args.mode != "standard":
        raise UserError(f"--engine fits the curve of --mode standard, not {args.mode}")
    if args.rates and args.mode != "extrapolate":
        raise UserError(f"--rates compares the activations of --mode extrapolate, not {args.mode}")
    if args.mode != "classify":
        torch.set_num_threads(1)  # for matrices this small, threads cost more than they save
    by_mode = {"standard": fit, "2d_surface": fit, "extrapolate": extrapolate, "classify": classify}
    experiment = compare_engines if args.engine else compare_rates if args.rates else by_mode[args.mode]
    prepare_states(args.out_dir, args.mode, args.resume)
    experiment(args)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Points,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    lr: float,
    name: str,
    args: argparse.Namespace,
    augment: Callable[[Tensor], Tensor] = lambda x: x,
) -> tuple[list[dict], float]:
    """Train `model`, keep its state in state_<name>.pth, and return the history and the seconds taken."""
    timer = Timer()
    parts = {"model": model, "optimizer": optimizer, "timer": timer}
    state_path = args.out_dir / f"state_{name}.pth"
    done, history = load_state(state_path, args.flags, parts) if args.resume and state_path.exists() else (0, [])

    n_batches, epochs_per_row = math.ceil(len(data[0]) / args.batch_size), math.ceil(args.epochs / ROWS)
    loss_sum = n_examples = 0
    for epoch in tqdm(range(done, args.epochs), initial=done, total=args.epochs, desc=name, unit="epoch"):
        model.train()
        # batch
        for step, (x, y) in enumerate(batches(*data, batch_size=args.batch_size, shuffle=True), epoch * n_batches):
            # forward
            with autocast(args.device, args.amp):
                prediction = model(augment(x))
            # loss
            loss = loss_function(prediction, y)
            # backward
            optimizer.zero_grad()
            loss.backward()
            # step
            optimizer.param_groups[0]["lr"] = lr * lr_factor(step / (n_batches * args.epochs), args.warmup)
            optimizer.step()
            # log
            loss_sum += loss.item() * len(x)
            n_examples += len(x)
        check_finite(loss_sum, epoch)
        # save
        if (epoch + 1) % epochs_per_row == 0 or epoch + 1 == args.epochs:
            history.append({"epoch": epoch + 1, "train_loss": loss_sum / n_examples})
            loss_sum = n_examples = 0
            save_state(state_path, args.flags, epoch + 1, history, parts)
    return history, timer.seconds


def lr_factor(progress: float, warmup: float) -> float:
    """Return the learning rate as a share of its peak: up in a straight line, and down along a cosine."""
    rising = min(1.0, progress / warmup) if warmup else 1.0
    return rising * (1 + math.cos(math.pi * progress)) / 2


def train_network(
    config: MLPConfig, seed: int, data: Points, name: str, args: argparse.Namespace, lr: float | None = None, **parts
) -> tuple[MLP, list[dict], float]:
    """Train a new network by AdamW and round it; return it with its history and the seconds taken.

    `lr` is --lr if not given; `parts` may hold a `loss_function` (by default `mse`) and an `augment`.
    """
    set_seed(seed)
    model = MLP(config).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=args.weight_decay, fused=True)
    parts = {"loss_function": mse, "lr": args.lr if lr is None else lr} | parts
    history, seconds = train(model, optimizer, data, name=name, args=args, **parts)
    round_to_half(model)
    return model, history, seconds


def fit(args: argparse.Namespace) -> None:
    """Fit the curve or the surface."""
    problem = PROBLEMS[args.mode]
    data, test = problem.points("train", args.device), problem.points("test", args.device)
    config = network_config(args, d_in=test[0].shape[1])
    models, histories, rows = [], [], []
    for seed in range(args.seed, args.seed + args.seeds):
        model, history, seconds = train_network(config, seed, data, f"{args.mode}_{seed}", args)
        models.append(model)
        histories.append(history)
        rows.append({"seed": seed} | scores.fit_scores(model, problem, test) | {"train_seconds": seconds})
    final = over_seeds(rows) | scores.fit_baselines(problem, data, test)
    final |= {"shipped_test_rmse": rows[0]["test_rmse"], "test_count": len(test[1])}
    if final["test_rmse"] > final["mean_rmse"]:
        print("this is worse than always answering the mean: try a lower --lr, or more --epochs")
    draw_fit = {"standard": figures.curve, "2d_surface": figures.surface}[args.mode]
    figure = draw_fit(problem, data, test, models, histories)
    write_run(args.mode, args, final, histories[0], rows, figure, (models[0], config))


def extrapolate(args: argparse.Namespace) -> None:
    """Fit a wave on an interval with three activations, on equal terms, and ask for its continuation."""
    problem = PROBLEMS[args.mode]
    data, inside, outside = (problem.points(part, args.device) for part in ("train", "test", "outside"))
    models, histories, rows = {name: [] for name in BEST_RATES}, {name: [] for name in BEST_RATES}, []
    for seed in range(args.seed, args.seed + args.seeds):
        row = {"seed": seed}
        for name, lr in BEST_RATES.items():
            model, history, row[f"{name}_train_seconds"] = train_activation(name, args.lr or lr, seed, data, args)
            models[name].append(model)
            histories[name].append(history)
        newest = {name: trained[-1] for name, trained in models.items()}
        rows.append(row | scores.extrapolation_scores(newest, inside, outside))
    final = (
        over_seeds(rows)
        | scores.extrapolation_baselines(problem, data, outside)
        | {
            "shipped_rmse_inside": rows[0]["snake_rmse_inside"],
            "shipped_rmse_outside": rows[0]["snake_rmse_outside"],
            "inside_count": len(inside[1]),
            "outside_count": len(outside[1]),
        }
    )
    history = [{"activation": name} | row for name in BEST_RATES for row in histories[name][0]]
    figure = figures.extrapolation(problem, data, outside, models, histories, final)
    shipped = models["snake"][0], replace(network_config(args), activation="snake")
    write_run(args.mode, args, final, history, rows, figure, shipped)


def train_activation(
    activation: str, lr: float, seed: int, data: Points, args: argparse.Namespace
) -> tuple[MLP, list[dict], float]:
    config = replace(network_config(args), activation=activation)
    return train_network(config, seed, data, f"{args.mode}_{activation}_{lr:g}_{seed}", args, lr)


def compare_rates(args: argparse.Namespace) -> None:
    """Train each activation at each of --rates, and measure it inside, on points drawn for this choice alone."""
    problem = PROBLEMS[args.mode]
    data = problem.points("train", args.device)
    set_seed(args.seed + 1000)
    x = dataset.periodic(10_000)[0].to(args.device)
    table, seeds = [], range(args.seed, args.seed + args.seeds)
    for lr in args.rates:
        row = {"lr": lr}
        for name in BEST_RATES:
            models = [train_activation(name, lr, seed, data, args)[0] for seed in seeds]
            row[name] = mean(rmse(network_outputs(model, x), problem.target(x)) for model in models)
        table.append(row)
        print("   ".join(f"{name} {value:.4f}" for name, value in row.items()))
    write_results(args.out_dir / "extrapolate_rates.json", args, {"table": table, "count": len(x)})


def classify(args: argparse.Namespace) -> None:
    """Tell pictures apart, with an MLP and, in the same loop, with softmax regression."""
    *sets, classes = pictures(args.dataset, args.split, args.data_root, args.train_size)
    data, test = (tuple(t.to(args.device) for t in labelled) for labelled in sets)
    config = network_config(args, d_in=784, d_out=len(classes))
    if config.batch_norm and 1 in (args.batch_size, len(data[1]) % args.batch_size):
        raise UserError("a batch would hold a single picture, which has no variance: choose another --batch_size")
    smoothed = partial(cross_entropy, label_smoothing=args.label_smoothing)
    augment = partial(jitter, flip=args.flip, shift=args.shift)
    models, histories, rows = [], [], []
    for seed in range(args.seed, args.seed + args.seeds):
        parts = {"loss_function": smoothed, "augment": augment}
        model, history, seconds = train_network(config, seed, data, f"{args.mode}_mlp_{seed}", args, **parts)
        linear, parts = replace(config, n_hidden=0), {"loss_function": cross_entropy}
        softmax, _, _ = train_network(linear, seed, data, f"{args.mode}_softmax_{seed}", args, **parts)
        models.append(model)
        histories.append(history)
        row = {"seed": seed} | scores.picture_scores(model, softmax, data, test, args.split)
        rows.append(row | {"train_seconds": seconds})
    final = over_seeds(rows) | {
        "shipped_accuracy": rows[0][f"{args.split}_accuracy"],
        "split": args.split,
        f"{args.split}_count": len(test[1]),
        "parameters": sum(p.numel() for p in models[0].parameters()),
    }
    figure = figures.pictures(*test, two_view_probabilities(models[0], test[0]), classes, histories)
    about = {"dataset": args.dataset, "classes": classes}
    write_run(args.mode, args, final, histories[0], rows, figure, (models[0], config), about)


def compare_engines(args: argparse.Namespace) -> None:
    """Fit the curve twice from the same weights with the same batches in float64: on the engine and with PyTorch."""
    config = network_config(args)
    if config.activation not in engine_mlp.ACTIVATIONS or config.batch_norm or config.dropout:
        raise UserError(f"--engine has Linear, {' and '.join(engine_mlp.ACTIVATIONS)}, and nothing else")
    args.device = torch.device("cpu")
    problem = PROBLEMS[args.mode]
    data, (test_x, test_y) = ([t.double() for t in problem.points(part, args.device)] for part in ("train", "test"))

    trained = []
    for name, (make, loss_function) in engine_mlp.ENGINES.items():
        set_seed(args.seed)
        model, optimizer = make(config, args.weight_decay)
        history, seconds = train(model, optimizer, data, loss_function, args.lr, f"standard_{name}", args)
        trained.append((model, history, seconds))
    (ours, history, engine_seconds), (theirs, torch_history, torch_seconds) = trained

    for row, other in zip(history, torch_history, strict=True):
        row["torch_train_loss"] = other["train_loss"]
    final = scores.engine_scores(ours.predict(test_x), network_outputs(theirs, test_x), test_y, history)
    final |= {"engine_seconds": engine_seconds, "torch_seconds": torch_seconds, "test_count": len(test_y)}
    write_run("standard_engine", args, final, history, None, figures.engines(problem, data, ours, theirs, history))


def network_config(args: argparse.Namespace, d_in: int = 1, d_out: int = 1) -> MLPConfig:
    """Return the network that the flags describe."""
    shape = (d_in, args.d_hidden, args.n_hidden, d_out)
    return MLPConfig(*shape, args.activation, batch_norm=args.norm == "batch", dropout=args.dropout)


def write_run(
    name: str,
    args: argparse.Namespace,
    final: dict,
    history: list[dict],
    per_seed: list[dict] | None,
    figure: Figure,
    shipped: tuple[MLP, MLPConfig] | None = None,
    about: dict | None = None,
) -> None:
    """Write results, figure and the network that is `shipped`, and print what was measured."""
    if shipped:
        about = final | {"mode": args.mode, "seed": args.seed} | (about or {})
        save_network(args.out_dir / f"mlp_{args.mode}.pth", *shipped, about)
    write_results(args.out_dir / f"{name}.json", args, final, history, per_seed)
    save_figure(figure, args.out_dir / f"fit_{name}.png")
    print("\n".join(final_lines(final)))
    print(f"written to {args.out_dir}")


if __name__ == "__main__":
    run(main)
