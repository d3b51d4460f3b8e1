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

from chapter_02_nn_basics_mlp import dataset, engine_twin
from chapter_02_nn_basics_mlp.activations import ACTIVATIONS
from chapter_02_nn_basics_mlp.figures import mlp as mlp_figures
from chapter_02_nn_basics_mlp.losses import cross_entropy, mse
from chapter_02_nn_basics_mlp.measures import accuracy, answers, rmse, summary, two_views
from chapter_02_nn_basics_mlp.mlp_files import prepare_states, publish, ship
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from chapter_02_nn_basics_mlp.problems import ARMS, MODES, PROBLEMS, Points, jitter, pictures
from utils.checkpoint import load_state, round_to_half, save_state
from utils.cli import add_data_flag, add_training_flags, amount, begin, positive, run, script_parser, share
from utils.data import batches
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.results import write_results
from utils.seed import set_seed
from utils.timer import Timer

ROWS = 50  # in the history of a training, and as many states are saved on the way
SMALL = {"batch_size": 64, "lr": 1e-2, "d_hidden": 64, "amp": "off"}  # bfloat16's 8 bits cannot fit a curve
RECIPES = {  # the defaults of each mode, where they are its own
    "standard": SMALL | {"epochs": 650},
    "2d_surface": SMALL | {"epochs": 80, "activation": "relu"},
    "extrapolate": SMALL | {"epochs": 1000, "batch_size": 200, "lr": None},  # a rate for each activation, in ARMS
    "classify": {"epochs": 62, "batch_size": 512, "lr": 4e-3, "d_hidden": 1024, "activation": "relu", "norm": "batch"}
    | {"label_smoothing": 0.1, "weight_decay": 0.3, "flip": 0.5, "shift": 1},
}


def main(argv: list[str] | None = None) -> None:
    mode = chosen_mode(argv)
    parser = script_parser(__doc__, __file__)
    parser.add_argument("--mode", default="standard", choices=MODES, help="what to learn; sets the other defaults")
    add_training_flags(parser, epochs=1, batch_size=64, lr=1e-2)
    parser.add_argument("--seeds", type=positive, default=3, help="how many seeds to train, from --seed upwards")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--weight_decay", type=amount, default=0.0, help="how fast unused weights shrink")
    parser.add_argument("--d_hidden", type=positive, default=64, help="units in each hidden layer")
    parser.add_argument(
        "--n_hidden", type=int, default=2, choices=range(9), metavar="N", help="hidden layers; 0 makes the model linear"
    )
    parser.add_argument(
        "--activation", default="tanh", choices=ACTIVATIONS, help="not for extrapolate, which has three"
    )
    parser.add_argument("--norm", default="none", choices=["none", "batch"], help="normalisation in the hidden layers")
    parser.add_argument("--dropout", type=share, default=0.0, help="share of the hidden units that a step leaves out")
    parser.add_argument("--rates", type=amount, nargs="+", help="extrapolate: only compare these rates, inside")
    parser.add_argument("--engine", action="store_true", help="standard: train on chapter 1's engine, and compare")
    add_data_flag(parser)
    parser.add_argument("--dataset", default="fashion_mnist", choices=["fashion_mnist", "shapes"], help="to classify")
    parser.add_argument("--train_size", type=positive, default=20000, help="how many of the shapes to draw")
    parser.add_argument("--split", default="test", choices=["test", "validation"], help="what classify is measured on")
    parser.add_argument("--label_smoothing", type=share, default=0.0, help="classify: share of the label spread evenly")
    parser.add_argument("--flip", type=share, default=0.0, help="classify: share of the pictures that are mirrored")
    parser.add_argument(
        "--shift", type=int, default=0, choices=range(9), metavar="N", help="classify: ... and moved by up to N pixels"
    )
    parser.set_defaults(**RECIPES[mode])
    tiny = {"epochs": 2, "d_hidden": 16, "seeds": 2, "dataset": "shapes", "train_size": 200}
    args = begin(parser, argv, dry_run=tiny)

    if args.engine and args.mode != "standard":
        raise UserError(f"--engine fits the curve of --mode standard, not {args.mode}")
    if args.mode != "classify":
        torch.set_num_threads(1)  # for matrices this small, threads cost more than they save
    beyond = try_rates if args.rates else extrapolate
    chosen = compare_engines if args.engine else {"extrapolate": beyond, "classify": classify}.get(args.mode, fit)
    chosen(args)


def chosen_mode(argv: list[str] | None) -> str:
    """Look ahead for --mode, on which the defaults of other flags depend."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--mode", default="standard")
    mode = parser.parse_known_args(argv)[0].mode
    if mode not in MODES:
        raise UserError(f"there is no --mode {mode}: choose one of {', '.join(MODES)}")
    return mode


def train(
    model: nn.Module,
    data: Points,
    measure_loss: Callable[[Tensor, Tensor], Tensor],
    args: argparse.Namespace,
    name: str,
    augment: Callable[[Tensor], Tensor] = lambda x: x,
    optimizer: torch.optim.Optimizer | None = None,
) -> tuple[list[dict], float]:
    """Train `model`, keep its state in state_<name>.pth, and return the history and the seconds taken."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), weight_decay=args.weight_decay, fused=True)
    timer = Timer()
    parts = {"model": model, "optimizer": optimizer, "timer": timer}
    state_path = args.out_dir / f"state_{name}.pth"
    done, history = load_state(state_path, args.flags, parts) if args.resume and state_path.exists() else (0, [])

    steps_each, epochs_a_row = math.ceil(len(data[0]) / args.batch_size), math.ceil(args.epochs / ROWS)
    total = count = 0
    for epoch in tqdm(range(done, args.epochs), initial=done, total=args.epochs, desc=name, unit="epoch"):
        model.train()
        for step, (x, y) in enumerate(batches(*data, batch_size=args.batch_size, shuffle=True), epoch * steps_each):
            optimizer.param_groups[0]["lr"] = args.lr * rate(step / (steps_each * args.epochs), args.warmup)
            with autocast(args.device, args.amp):
                prediction = model(augment(x))
            loss = measure_loss(prediction, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
            count += len(x)
        check_finite(total, epoch)
        if (epoch + 1) % epochs_a_row == 0 or epoch + 1 == args.epochs:
            history.append({"epoch": epoch + 1, "train_loss": total / count})
            total = count = 0
            save_state(state_path, args.flags, epoch + 1, history, parts)
    return history, timer.seconds


def rate(progress: float, warmup: float) -> float:
    """Return the learning rate, as a share of its peak: up in a straight line, and down along a cosine."""
    rise = min(1.0, progress / warmup) if warmup else 1.0
    return rise * (1 + math.cos(math.pi * progress)) / 2


def fit(args: argparse.Namespace) -> None:
    """Fit the curve or the surface."""
    problem = PROBLEMS[args.mode]
    data, (test_x, test_y) = problem.points("train", args.device), problem.points("test", args.device)
    truth = problem.target(test_x)
    config = network(args, d_in=test_x.shape[1])
    prepare_states(args)
    models, histories, rows = [], [], []
    for seed in range(args.seed, args.seed + args.seeds):
        set_seed(seed)
        model = MLP(config).to(args.device)
        history, seconds = train(model, data, mse, args, f"{args.mode}_{seed}")
        round_to_half(model)
        output = answers(model, test_x)
        models.append(model)
        histories.append(history)
        row = {"seed": seed, "test_rmse": rmse(output, test_y), "truth_rmse": rmse(output, truth)}
        rows.append(row | {"train_seconds": seconds})
    final = summary(rows) | {
        "noise_rmse": rmse(truth, test_y),  # the truth's own score
        "mean_rmse": rmse(data[1].mean(), test_y),  # the score of always answering the mean
        "shipped_test_rmse": rows[0]["test_rmse"],
        "test_count": len(test_y),
    }
    if final["test_rmse"] > final["mean_rmse"]:
        print("this is worse than always answering the mean: try a lower --lr, or more --epochs")
    draw = {"standard": mlp_figures.curve, "2d_surface": mlp_figures.surface}[args.mode]
    figure = draw(problem, data, (test_x, test_y), models, histories)
    ship(args, models[0], config, final)
    publish(args, args.mode, final, histories[0], rows, figure)


def extrapolate(args: argparse.Namespace) -> None:
    """Fit a wave on an interval with three activations, on equal terms, and ask for its continuation."""
    problem = PROBLEMS[args.mode]
    data, inside, outside = (problem.points(part, args.device) for part in ("train", "test", "outside"))
    prepare_states(args)
    models, histories, rows = {arm: [] for arm in ARMS}, {arm: [] for arm in ARMS}, []
    for seed in range(args.seed, args.seed + args.seeds):
        row = {"seed": seed}
        for arm in ARMS:
            model, history, row[f"{arm}_train_seconds"] = fit_arm(arm, args.lr or ARMS[arm], seed, data, args)
            for place, (x, y) in (("inside", inside), ("outside", outside)):
                row[f"{arm}_rmse_{place}"] = rmse(answers(model, x), y)
            models[arm].append(model)
            histories[arm].append(history)
        for arm in ("relu", "tanh"):
            row[f"gain_over_{arm}"] = row[f"{arm}_rmse_outside"] / row["snake_rmse_outside"]
        rows.append(row)
    final = summary(rows) | {
        "noise_rmse": rmse(problem.target(outside[0]), outside[1]),
        "mean_rmse_outside": rmse(data[1].mean(), outside[1]),
        "shipped_rmse_inside": rows[0]["snake_rmse_inside"],
        "shipped_rmse_outside": rows[0]["snake_rmse_outside"],
        "inside_count": len(inside[1]),
        "outside_count": len(outside[1]),
    }
    history = [{"activation": arm} | row for arm in ARMS for row in histories[arm][0]]
    figure = mlp_figures.arms(problem, data, outside, models, histories, final)
    ship(args, models["snake"][0], replace(network(args), activation="snake"), final)
    publish(args, args.mode, final, history, rows, figure)


def fit_arm(arm: str, lr: float, seed: int, data: Points, args: argparse.Namespace) -> tuple[MLP, list[dict], float]:
    """Train the network with the activation `arm`; return it with its history and the seconds taken."""
    set_seed(seed)
    model = MLP(replace(network(args), activation=arm)).to(args.device)
    args = argparse.Namespace(**vars(args) | {"lr": lr})
    history, seconds = train(model, data, mse, args, f"{args.mode}_{arm}_{lr:g}_{seed}")
    round_to_half(model)
    return model, history, seconds


def try_rates(args: argparse.Namespace) -> None:
    """Train each activation at each of --rates, and measure it inside, on points drawn for this choice alone."""
    problem = PROBLEMS[args.mode]
    data = problem.points("train", args.device)
    set_seed(args.seed + 1000)
    x = dataset.periodic(10_000)[0].to(args.device)
    prepare_states(args)
    table, seeds = [], range(args.seed, args.seed + args.seeds)
    for lr in args.rates:
        errors = {
            arm: [rmse(answers(fit_arm(arm, lr, s, data, args)[0], x), problem.target(x)) for s in seeds]
            for arm in ARMS
        }
        table.append({"lr": lr} | {arm: mean(values) for arm, values in errors.items()})
        print("   ".join(f"{name} {value:.4f}" for name, value in table[-1].items()))
    write_results(args.out_dir / "extrapolate_rates.json", args, {"table": table, "count": len(x)})


def classify(args: argparse.Namespace) -> None:
    """Tell pictures apart, with an MLP and, in the same loop, with softmax regression."""
    *sets, classes = pictures(args.dataset, args.split, args.data_root, args.train_size)
    data, (test_x, test_y) = (tuple(t.to(args.device) for t in labelled) for labelled in sets)
    config = network(args, d_in=784, d_out=len(classes))
    if config.batch_norm and 1 in (args.batch_size, len(data[1]) % args.batch_size):
        raise UserError("a batch would hold a single picture, which has no variance: choose another --batch_size")
    prepare_states(args)
    models, histories, rows = [], [], []
    for seed in range(args.seed, args.seed + args.seeds):
        set_seed(seed)
        model = MLP(config).to(args.device)
        loss = partial(cross_entropy, label_smoothing=args.label_smoothing)
        augment = partial(jitter, flip=args.flip, shift=args.shift)
        history, seconds = train(model, data, loss, args, f"{args.mode}_mlp_{seed}", augment)
        round_to_half(model)

        set_seed(seed)
        softmax = MLP(replace(config, n_hidden=0)).to(args.device)
        train(softmax, data, cross_entropy, args, f"{args.mode}_softmax_{seed}")
        round_to_half(softmax)

        models.append(model)
        histories.append(history)
        row = {"seed": seed, f"{args.split}_accuracy": accuracy(two_views(model, test_x), test_y)}
        row[f"{args.split}_accuracy_single_view"] = accuracy(answers(model, test_x), test_y)
        row |= {"train_accuracy": accuracy(answers(model, data[0]), data[1]), "train_seconds": seconds}
        rows.append(row | {f"softmax_{args.split}_accuracy": accuracy(answers(softmax, test_x), test_y)})
    final = summary(rows) | {
        "shipped_accuracy": rows[0][f"{args.split}_accuracy"],
        "split": args.split,
        f"{args.split}_count": len(test_y),
        "parameters": sum(p.numel() for p in models[0].parameters()),
    }
    figure = mlp_figures.pictures(test_x, test_y, two_views(models[0], test_x), classes, histories)
    ship(args, models[0], config, final, dataset=args.dataset, classes=classes)
    publish(args, args.mode, final, histories[0], rows, figure)


def compare_engines(args: argparse.Namespace) -> None:
    """Fit the curve twice from the same weights with the same batches in float64: on the engine and with PyTorch."""
    config = network(args)
    if config.activation not in engine_twin.ACTIVATIONS or config.batch_norm or config.dropout:
        raise UserError(f"--engine has Linear, {' and '.join(engine_twin.ACTIVATIONS)}, and nothing else")
    args.device = torch.device("cpu")
    problem = PROBLEMS[args.mode]
    data, (test_x, test_y) = ([t.double() for t in problem.points(part, args.device)] for part in ("train", "test"))
    prepare_states(args)
    set_seed(args.seed)
    twin = engine_twin.Twin(MLP(config).double(), config.activation)
    optimizer = engine_twin.TwinAdamW(twin, args.weight_decay)
    ours, engine_seconds = train(twin, data, engine_twin.twin_mse, args, "standard_engine", optimizer=optimizer)
    set_seed(args.seed)
    model = MLP(config).double()
    theirs, torch_seconds = train(model, data, mse, args, "standard_torch")

    engine_output, torch_output = twin.predict(test_x), answers(model, test_x)
    history = [row | {"torch_train_loss": other["train_loss"]} for row, other in zip(ours, theirs, strict=True)]
    final = {
        "engine_test_rmse": rmse(engine_output, test_y),
        "torch_test_rmse": rmse(torch_output, test_y),
        "largest_prediction_difference": (engine_output - torch_output).abs().max().item(),
        "largest_loss_difference": max(abs(row["train_loss"] - row["torch_train_loss"]) for row in history),
        "engine_seconds": engine_seconds,
        "torch_seconds": torch_seconds,
        "test_count": len(test_y),
    }
    figure = mlp_figures.twins(problem, data, twin.predict, model, history)
    publish(args, "standard_engine", final, history, None, figure)


def network(args: argparse.Namespace, d_in: int = 1, d_out: int = 1) -> MLPConfig:
    """Return the network that the flags describe."""
    shape = (d_in, args.d_hidden, args.n_hidden, d_out)
    return MLPConfig(*shape, args.activation, batch_norm=args.norm == "batch", dropout=args.dropout)


if __name__ == "__main__":
    run(main)
