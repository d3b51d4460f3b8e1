"""Linear, logistic and softmax regression, each solved twice: exactly, and by walking downhill.
线性回归、逻辑回归与 softmax 回归：每个都解两遍，一遍精确求解，一遍沿坡下降。

    python chapter_02_nn_basics_mlp/linear_demo.py                      # 25 s on one CPU core
    python chapter_02_nn_basics_mlp/linear_demo.py --dataset shapes     # 20 s, nothing to download

The small problems are drawn here and solved in float64; --dataset says what softmax regression learns at the end.
"""

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from tqdm import tqdm

from chapter_01_tensor_autograd.dataset import spirals
from chapter_02_nn_basics_mlp import linear_models as lm
from chapter_02_nn_basics_mlp.activations import ReLU
from chapter_02_nn_basics_mlp.figures import linear as figures
from chapter_02_nn_basics_mlp.losses import mse
from chapter_02_nn_basics_mlp.manual_backprop import cross_entropy_loss, loss_and_gradients
from chapter_02_nn_basics_mlp.measures import accuracy, rmse
from chapter_02_nn_basics_mlp.problems import pictures
from utils.cli import add_data_flag, add_output_flags, amount, begin, positive, run, script_parser
from utils.data import batches
from utils.errors import check_finite
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import final_lines
from utils.timer import Timer

F64 = {"dtype": torch.float64}
RENT = torch.tensor(
    [12, -2, -25, 300], **F64
)  # per square metre, per year of age, per km from the centre; and the bias
CLOSE = 1e-12  # a loss this near the best has arrived


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--steps", type=positive, default=20000, help="steps of descent on the small problems")
    parser.add_argument("--dataset", default="fashion_mnist", choices=["fashion_mnist", "shapes"], help="what to learn")
    parser.add_argument("--split", default="test", choices=["test", "validation"], help="what to be measured on")
    parser.add_argument("--epochs", type=positive, default=30, help="passes over the training set")
    parser.add_argument("--batch_size", type=positive, default=256, help="examples a step")
    parser.add_argument("--lr", type=amount, default=0.1, help="first learning rate; it falls to 0 along a cosine")
    parser.add_argument("--l2", type=amount, default=1e-3, help="penalty on the squared weights")
    args = begin(parser, argv, dry_run={"steps": 50, "dataset": "shapes", "epochs": 2})

    data = pictures(args.dataset, args.split, args.data_root, train_size=2000)  # first: it may be missing
    final = rents(args.steps) | polynomials(args.out_dir / "linear.png")
    final |= two_classes(args.steps, args.out_dir / "logistic.png")
    final |= three_classes(args.steps, args.out_dir / "softmax.png")
    learned, history = learn(data, args)
    final |= learned
    write_results(args.out_dir / "linear_demo.json", args, final, history)
    print()
    print("\n".join(final_lines(final)))
    print(f"written to {args.out_dir}")


def rents(steps: int) -> dict:
    """Fit the rent of 300 flats to area, age and distance by three methods, and by descent on unscaled features."""
    distance = 15 * torch.rand(300, **F64)  # km
    age = (90 - 5 * distance + 15 * torch.randn(300, **F64)).clamp(min=0)  # years: old flats are near the centre
    area = (70 + 20 * torch.randn(300, **F64)).clamp(min=20)  # square metres
    x = torch.stack([area, age, distance], dim=1)  # (300, 3)
    y = lm.predict(x, RENT) + 60 * torch.randn(300, **F64)

    z, mean, std = standardise(x)
    w, history = lm.linear_gradient_descent(z, y, steps)
    weights = w[:-1] / std  # w z = (w / std) x - (w / std) mean
    found = {
        "truth": RENT,
        "normal_equations": lm.linear_normal_equations(x, y),
        "qr": lm.linear_qr(x, y),
        "descent": torch.cat([weights, w[-1:] - weights @ mean]),
        "descent_unscaled": lm.linear_gradient_descent(x, y, steps)[0],
    }
    print(f"{'rent of a flat':20}{'per m2':>10}{'per year':>10}{'per km':>10}{'bias':>10}")
    for name, w in found.items():
        print(f"{name:20}" + "".join(f"{value:10.4f}" for value in w.tolist()))
    return {
        "rent": {name: w.tolist() for name, w in found.items()},
        "rent_condition": torch.linalg.cond(lm.with_bias(x)).item(),
        "rent_condition_scaled": torch.linalg.cond(lm.with_bias(z)).item(),
        "rent_normal_minus_qr": (found["normal_equations"] - found["qr"]).abs().max().item(),
        "rent_descent_minus_qr": (found["descent"] - found["qr"]).abs().max().item(),
        "rent_descent_steps": steps_until(history, mse(lm.predict(x, found["qr"]), y).item() * (1 + CLOSE)),
    }


def standardise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return x (N, D) with mean 0 and deviation 1 in every column, and what the means (D,) and deviations (D,) were."""
    mean, std = x.mean(dim=0), x.std(dim=0)
    return (x - mean) / std, mean, std


def steps_until(history: list[float], threshold: float) -> int | None:
    """How many steps it took until the loss was at most `threshold`; None if it never was."""
    return next((step for step, loss in enumerate(history) if loss <= threshold), None)


def polynomials(path: Path) -> dict:
    """See what conditioning costs the two closed forms, and what a penalty does for 15 noisy points."""
    t, rows = torch.linspace(0, 1, 50, **F64), []
    print("\ndegree   condition   error, normal equations   error, QR     (of weights that are all 1)")
    for degree in range(1, 16):
        x, w = powers(t, degree), torch.ones(degree + 1, **F64)
        y = lm.predict(x, w)
        normal, qr = ((solve(x, y) - w).abs().max().item() for solve in (lm.linear_normal_equations, lm.linear_qr))
        condition = torch.linalg.cond(lm.with_bias(x)).item()
        rows.append({"degree": degree, "condition": condition, "normal_error": normal, "qr_error": qr})
        if degree % 3 == 0:
            print(f"{degree:6} {condition:11.0e} {normal:25.0e} {qr:11.0e}")

    few, many = torch.linspace(-1, 1, 15, **F64), torch.linspace(-1, 1, 1000, **F64)
    noisy, again = (torch.sin(4 * few) + 0.3 * torch.randn(15, **F64) for _ in range(2))  # measured twice
    x, fine, truth = powers(few, 12), powers(many, 12), torch.sin(4 * many)
    ridge = {p: lm.ridge(x, noisy, p) for p in [0.0, *torch.logspace(-8, 3, 45, **F64).tolist()]}
    chosen = min(ridge, key=lambda p: mse(lm.predict(x, ridge[p]), again).item())
    shown = {"none": 0.0, "chosen": chosen, "strongest": max(ridge)}

    penalties = [p for p in ridge if p > 0]
    errors = {
        "penalty": penalties,
        "points": [rmse(lm.predict(x, ridge[p]), noisy) for p in penalties],
        "again": [rmse(lm.predict(x, ridge[p]), again) for p in penalties],
        "truth": [rmse(lm.predict(fine, ridge[p]), truth) for p in penalties],
    }
    curves = {name: lm.predict(fine, ridge[p]) for name, p in shown.items()}
    drawn = curves | {"x": many, "truth": truth, "points": (few, noisy)}
    save_figure(figures.polynomials(rows, errors, shown, drawn), path)
    final = {f"ridge_error_{name}": rmse(curve, truth) for name, curve in curves.items()}
    return {"polynomial": rows, "ridge_penalty": chosen} | final


def powers(t: torch.Tensor, degree: int) -> torch.Tensor:
    """t (N,) -> t, t^2, ..., t^degree as columns (N, degree)."""
    return torch.stack([t**k for k in range(1, degree + 1)], dim=1)


def two_classes(steps: int, path: Path) -> dict:
    """Race Newton against descent to the same optimum; the second feature lies far from zero, as real ones often do."""
    y = (torch.arange(400) % 2).double()
    x = torch.randn(400, 2, **F64) @ torch.tensor([[1.0, 1.2], [0.0, 1.6]], **F64)
    x = x + y[:, None] * torch.tensor([1.5, -1.0], **F64) + torch.tensor([0.0, 5.0], **F64)
    newton, losses = lm.logistic_newton(x, y)
    descent, descent_losses = lm.logistic_gradient_descent(x, y, steps)
    _, scaled_losses = lm.logistic_gradient_descent(standardise(x)[0], y, steps)
    runs = {"newton": losses, "descent_scaled": scaled_losses, "descent": descent_losses}
    gaps = {name: [loss - min(losses) for loss in run] for name, run in runs.items()}

    save_figure(figures.race(gaps, newton, x, y.long()), path)
    final = {f"logistic_{name}_steps": steps_until(gap, CLOSE) for name, gap in gaps.items()}
    return final | {
        "logistic_difference": (newton - descent).abs().max().item(),
        "logistic_newton_gaps": gaps["newton"],
    }


def three_classes(steps: int, path: Path) -> dict:
    """Solve softmax regression on three clusters, where straight borders will do, and on spirals, where they cannot."""
    y = torch.arange(300) % 3
    x = torch.tensor([[-1.5, -0.5], [1.5, -1.0], [0.3, 1.5]], **F64)[y] + 0.9 * torch.randn(300, 2, **F64)
    newton, losses = lm.softmax_newton(x, y, n_classes=3)
    descent, descent_losses = lm.softmax_gradient_descent(x, y, 3, steps)
    spiral_x, spiral_y = map(torch.from_numpy, spirals(3000, 0.15, np.random.default_rng(0)))
    spiral_x = spiral_x.double()
    best, _ = lm.softmax_newton(spiral_x, spiral_y, n_classes=3)
    final = {
        "softmax_newton_steps": steps_until(losses, min(losses) + CLOSE),
        "softmax_descent_steps": steps_until(descent_losses, min(losses) + CLOSE),
        "softmax_difference": (newton - descent).abs().max().item(),
        "clusters_accuracy": accuracy(lm.predict(x, newton), y),
        "spirals_accuracy": accuracy(lm.predict(spiral_x, best), spiral_y),
    }
    panels = {
        f"Three clusters: {final['clusters_accuracy']:.0%} right": (newton, x, y),
        f"Three spirals: {final['spirals_accuracy']:.0%} right": (best, spiral_x[:900], spiral_y[:900]),
    }
    save_figure(figures.borders(panels), path)
    return final


def learn(data: tuple, args: argparse.Namespace) -> tuple[dict, list[dict]]:
    """Train softmax regression on --dataset batch by batch: as the network without hidden layers that it is."""
    train, test, classes = data
    (train_x, train_y), (test_x, test_y) = ([t.to(args.device) for t in part] for part in (train, test))
    weight, bias = train_x.new_zeros(len(classes), train_x.shape[1]), train_x.new_zeros(len(classes))
    timer, history = Timer(), []
    for epoch in tqdm(range(args.epochs), unit="epoch"):
        lr, loss_sum = args.lr * 0.5 * (1 + math.cos(math.pi * epoch / args.epochs)), 0.0
        for x, y in batches(train_x, train_y, batch_size=args.batch_size, shuffle=True):
            # forward and backward
            loss, [(dw, db)] = loss_and_gradients([(weight, bias)], x, y, ReLU(), cross_entropy_loss)
            # step
            weight -= lr * (dw + args.l2 * weight)
            bias -= lr * db
            # log
            loss_sum += loss.item() * len(x)
        check_finite(loss_sum, epoch)
        history.append({"epoch": epoch + 1, "train_loss": loss_sum / len(train_x)})
    w = torch.cat([weight.T, bias[None]])  # (D + 1, C), as linear_models has it
    averages = torch.stack([train_x[train_y == label].mean(dim=0) for label in range(len(classes))])  # (C, 784)
    save_figure(figures.templates(weight, averages, classes), args.out_dir / "templates.png")
    return {
        f"softmax_{args.split}_accuracy": accuracy(lm.predict(test_x, w), test_y),
        f"softmax_{args.split}_count": len(test_y),
        "split": args.split,
        "softmax_train_accuracy": accuracy(lm.predict(train_x, w), train_y),
        "train_seconds": timer.seconds,
    }, history


if __name__ == "__main__":
    run(main)
