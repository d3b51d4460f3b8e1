"""Train the chapter's MLP: on a noisy curve, on a surface, beyond the edge of its data, on pictures of clothes.
训练本章的 MLP：拟合带噪声的曲线与曲面，走出数据的边界，识别衣物图片。

    python chapter_02_nn_basics_mlp/mlp.py --mode standard           # three seeds, 15 s on one CPU core
    python chapter_02_nn_basics_mlp/mlp.py --mode 2d_surface         # 10 s
    python chapter_02_nn_basics_mlp/mlp.py --mode extrapolate        # ReLU, Tanh and Snake: 35 s
    python chapter_02_nn_basics_mlp/mlp.py --mode classify           # Fashion-MNIST: minutes
    python chapter_02_nn_basics_mlp/mlp.py --mode standard --engine  # once more, on chapter 1's engine
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from chapter_02_nn_basics_mlp import engine_twin, mlp_figures
from chapter_02_nn_basics_mlp.activations import ACTIVATIONS
from chapter_02_nn_basics_mlp.losses import cross_entropy, mse
from chapter_02_nn_basics_mlp.measures import accuracy, answers, rmse, summary
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from chapter_02_nn_basics_mlp.problems import ARMS, MODES, PROBLEMS, Points, jitter, pictures
from utils.checkpoint import load_state, probe_input, round_to_half, save_model, save_state
from utils.cli import add_data_flag, add_training_flags, begin, positive, run, script_parser
from utils.data import batches
from utils.device import autocast
from utils.errors import UserError, check_finite
from utils.plotting import save_figure
from utils.results import write_results
from utils.seed import set_seed
from utils.timer import Timer

ROWS = 50  # in the history of a training, and as many states are saved on the way
SMALL = {"batch_size": 64, "lr": 1e-2, "d_hidden": 64, "amp": "off"}  # bfloat16's 8 bits cannot fit a curve
RECIPES = {  # the defaults of each mode, where they are its own
    "standard": SMALL | {"epochs": 650},
    "2d_surface": SMALL | {"epochs": 80, "activation": "relu"},
    "extrapolate": SMALL | {"epochs": 1000, "batch_size": 200},
    "classify": {"epochs": 50, "batch_size": 512, "lr": 4e-3, "d_hidden": 1024, "activation": "relu", "norm": "batch"}
    | {"label_smoothing": 0.1, "weight_decay": 0.2, "flip": 0.5, "shift": 1},
}


def main(argv: list[str] | None = None) -> None:
    mode = chosen_mode(argv)
    parser = script_parser(__doc__, __file__)
    parser.add_argument("--mode", default="standard", choices=MODES, help="what to learn; sets the other defaults")
    add_training_flags(parser, epochs=1, batch_size=64, lr=1e-2)
    parser.add_argument("--seeds", type=positive, default=3, help="how many seeds to train, from --seed upwards")
    parser.add_argument("--warmup", type=share, default=0.05, help="share of the steps in which the rate rises")
    parser.add_argument("--weight_decay", type=float, default=0.0, help="how fast unused weights shrink")
    parser.add_argument("--d_hidden", type=positive, default=64, help="units in each hidden layer")
    parser.add_argument(
        "--n_hidden", type=int, default=2, choices=range(9), metavar="N", help="hidden layers; 0 makes the model linear"
    )
    parser.add_argument(
        "--activation", default="tanh", choices=ACTIVATIONS, help="not for extrapolate, which has three"
    )
    parser.add_argument("--norm", default="none", choices=["none", "batch"], help="normalisation in the hidden layers")
    parser.add_argument("--dropout", type=share, default=0.0, help="share of the hidden units that a step leaves out")
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
    chosen = compare_engines if args.engine else {"extrapolate": extrapolate, "classify": classify}.get(args.mode, fit)
    chosen(args)


def chosen_mode(argv: list[str] | None) -> str:
    """Look ahead for --mode, on which the defaults of other flags depend."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--mode", default="standard")
    mode = parser.parse_known_args(argv)[0].mode
    if mode not in MODES:
        raise UserError(f"there is no --mode {mode}: choose one of {', '.join(MODES)}")
    return mode


def share(text: str) -> float:
    """An argparse type: a number from 0 to less than 1."""
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not from 0 to less than 1")
    return number


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
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), weight_decay=args.weight_decay)
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
            set_seed(seed)
            model = MLP(replace(network(args), activation=arm)).to(args.device)
            history, row[f"{arm}_train_seconds"] = train(model, data, mse, args, f"{args.mode}_{arm}_{seed}")
            round_to_half(model)
            for place, (x, y) in (("inside", inside), ("outside", outside)):
                row[f"{arm}_rmse_{place}"] = rmse(answers(model, x), y)
            models[arm].append(model)
            histories[arm].append(history)
        others = (row[f"{arm}_rmse_outside"] for arm in ARMS if arm != "snake")
        row["snake_gain_outside"] = min(others) / row["snake_rmse_outside"]
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
        row = {"seed": seed, f"{args.split}_accuracy": accuracy(answers(model, test_x), test_y)}
        row |= {"train_accuracy": accuracy(answers(model, data[0]), data[1]), "train_seconds": seconds}
        rows.append(row | {f"softmax_{args.split}_accuracy": accuracy(answers(softmax, test_x), test_y)})
    final = summary(rows) | {
        "shipped_accuracy": rows[0][f"{args.split}_accuracy"],
        "split": args.split,
        f"{args.split}_count": len(test_y),
        "parameters": sum(p.numel() for p in models[0].parameters()),
    }
    figure = mlp_figures.pictures(test_x, test_y, answers(models[0], test_x), classes, histories)
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


def prepare_states(args: argparse.Namespace) -> None:
    """A new training forgets the states of the one before it; a resumed one needs some."""
    found = list(args.out_dir.glob(f"state_{args.mode}_*.pth"))
    if args.resume and not found:
        raise UserError(f"{args.out_dir} holds no state of --mode {args.mode} to resume")
    if not args.resume:
        for path in found:
            path.unlink()


def publish(args, name: str, final: dict, history: list[dict], per_seed: list[dict] | None, figure: Figure) -> None:
    """Write results and figure, and print what was measured."""
    write_results(args.out_dir / f"{name}.json", args, final, history, per_seed)
    save_figure(figure, args.out_dir / f"fit_{name}.png")
    for key, value in final.items():
        if not key.endswith("_std"):
            spread = f" ± {final[key + '_std']:.2g}" if f"{key}_std" in final else ""
            print(f"{key:30} {value:.4g}{spread}" if isinstance(value, float) else f"{key:30} {value}")
    print(f"written to {args.out_dir}")


def ship(args: argparse.Namespace, model: MLP, config: MLPConfig, final: dict, **about: object) -> None:
    """Write the first seed's network, with its output on a fixed input, by which anyone can check a copy of it."""
    probe = answers(model, probe_input(1, config.d_in).to(args.device))[0].tolist()
    about = final | {"mode": args.mode, "seed": args.seed, "probe": probe} | about
    save_model(args.out_dir / f"mlp_{args.mode}.pth", model, config, about)


if __name__ == "__main__":
    run(main)
