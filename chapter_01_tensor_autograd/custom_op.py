"""An operation of your own for PyTorch: softplus with a hand-derived gradient, where the textbook formula breaks.
为 PyTorch 编写自己的算子：手工推导梯度的 softplus，用在教科书公式会出错的地方。

    python chapter_01_tensor_autograd/custom_op.py     # 20 s on one CPU core: custom_op.json, custom_op.png
"""

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from chapter_01_tensor_autograd.dataset import two_moons
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results
from utils.seed import set_seed


class Softplus(torch.autograd.Function):
    """softplus(x) = log(1 + e^x), with all its digits for every finite x.

    Forward. e^x overflows for large x, and 1 + e^x rounds to 1 for very negative x. Take the larger term out:

        log(1 + e^x) = max(x, 0) + log(e^-max(x, 0) + e^(x - max(x, 0))) = max(x, 0) + log(1 + e^-|x|)

    Now the exponential is at most 1, and log1p keeps the digits that "1 +" would round away.

    Backward. d softplus / dx = e^x / (1 + e^x) = sigmoid(x). An output depends on its own input alone, so the Jacobian
    is diagonal, and the vector-Jacobian product of g is g * sigmoid(x), element by element.
    """

    @staticmethod
    def forward(x):
        return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))

    @staticmethod
    def setup_context(ctx, inputs, output):
        # Saved is the input, not sigmoid(x): the input is a node of the graph, so what `backward` computes from it can
        # be differentiated again. A sigmoid(x) computed here would count as a constant: wrong second derivatives.
        # 保存的是输入 x，而不是算好的 sigmoid(x)：x 是计算图中的节点，backward 里由它算出的结果还能继续求导；
        # 若在这里就算好再保存，它会被当成常数，二阶导数就错了。
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.sigmoid(x)


# Four formulas for one loss: the cross-entropy of a 0/1 label y when the network's logit is z.


def textbook(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    p = torch.sigmoid(z)
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p))


def bce_loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy(torch.sigmoid(z), y, reduction="none")  # nn.BCELoss: the logarithms end at -100


def log_exp(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.log(1 + torch.exp(z)) - y * z


def stable(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return Softplus.apply((1 - 2 * y) * z)  # y = 1: log(1 + e^-z); y = 0: log(1 + e^z)


FORMULAS = {f.__name__: f for f in (textbook, bce_loss, log_exp, stable)}
Formula = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--steps", type=positive, default=1000, help="training steps; half-way all labels swap")
    parser.add_argument("--runs", type=positive, default=10, help="seeds to train with, from --seed on")
    parser.add_argument("--lr", type=float, default=0.5, help="learning rate")
    args = begin(parser, argv, dry_run={"steps": 60, "runs": 1})

    x = torch.tensor([-800.0, -30, -1, -1e-3, 0, 1e-3, 1, 30, 800], dtype=torch.float64, requires_grad=True)
    final = {
        "gradcheck": torch.autograd.gradcheck(Softplus.apply, x),
        "gradgradcheck": torch.autograd.gradgradcheck(Softplus.apply, x),
        "run_count": args.runs,
    }
    print(f"softplus: gradcheck {final['gradcheck']}, gradgradcheck {final['gradgradcheck']}")
    for label, meaning in ((0.0, "z > 0 is wrong"), (1.0, "z > 0 is right")):
        print(f"\nloss and gradient, float32, for label {label:.0f}: {meaning}")
        print_values(torch.tensor([-20.0, 0, 15, 17, 30, 100]), label)
    z, label = torch.tensor(-20.0), torch.tensor(0.0)
    final |= {"tail_ours": stable(z, label).item(), "tail_library": F.binary_cross_entropy_with_logits(z, label).item()}
    print(f"\nlabel 0, z = -20: stable {final['tail_ours']:.3g}, PyTorch's own from logits {final['tail_library']:.3g}")
    final |= {f"{name}_breaks_at": breaks_at(formula) for name, formula in FORMULAS.items()}
    print("label 0: the gradient is wrong by over 0.01, or NaN, from this logit on (none up to 1000: -)")
    print("       " + "".join(f"{cell(final[f'{name}_breaks_at']):>20}" for name in FORMULAS))

    curves, summaries = {}, {}
    for name, formula in tqdm(FORMULAS.items(), unit="formula"):
        runs = [train_with(formula, args.seed + k, args.steps, args.lr, args.device) for k in range(args.runs)]
        curves[name], summaries[name] = runs[0]["losses"], summary(runs)
        final |= {f"{name}_{key}": figure for key, figure in summaries[name].items()}
    print(f"\n{args.runs} trainings with each formula; half-way, at step {args.steps // 2}, all labels swap")
    print(f"{'formula':<10}{'NaN or inf':>12}{'at step':>10}{'finished':>10}{'of these > 99 %':>17}{'final loss':>12}")
    for name, figures in summaries.items():
        stops, step, count, solved, loss = figures.values()
        print(f"{name:<10}{stops:>12}{cell(step):>10}{count:>10}{solved:>17}{cell(loss):>12}")

    history = [{"step": t} | {n: c[t] for n, c in curves.items() if t < len(c)} for t in range(0, args.steps, 10)]
    write_results(args.out_dir / "custom_op.json", args, final, history)
    plot(curves, args.out_dir / "custom_op.png")
    print(f"wrote custom_op.json and custom_op.png to {args.out_dir}")


def loss_and_gradient(formula: Formula, z: torch.Tensor, label: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of each logit in `z` against one label, and its derivative by the logit."""
    z = z.detach().requires_grad_()
    loss = formula(z, torch.full_like(z, label))
    return loss.detach(), torch.autograd.grad(loss.sum(), z)[0]


def breaks_at(formula: Formula) -> float | None:
    """The first logit from 0 to 1000, in float32, whose gradient for label 0 is NaN or 0.01 from sigmoid(z)."""
    z = torch.arange(0, 1000, 0.01)
    gradient = loss_and_gradient(formula, z, 0.0)[1]
    wrong = ~((gradient - z.sigmoid()).abs() < 0.01)  # NaN compares as false
    return z[wrong][0].item() if wrong.any() else None


def print_values(logits: torch.Tensor, label: float) -> None:
    """Print what each formula makes of the logits against one label."""
    columns = [zip(*(t.tolist() for t in loss_and_gradient(f, logits, label)), strict=True) for f in FORMULAS.values()]
    print("    z  " + "".join(f"{name:>20}" for name in FORMULAS))
    for z, *pairs in zip(logits.tolist(), *columns, strict=True):
        print(f"{z:5.0f}  " + "".join(f"{f'{loss:.3g}, {gradient:.2g}':>20}" for loss, gradient in pairs))


def cell(number: float | None) -> str:
    return "-" if number is None else f"{number:.3g}"


def train_with(formula: Formula, seed: int, steps: int, lr: float, device: torch.device) -> dict:
    """Train on two moons, swapping all labels half-way: a network that is sure of itself has to change its mind.

    Returns:
        losses (up to a NaN or inf), the step at which one stopped it, and the training accuracy at the end.
    """
    set_seed(seed)
    points, labels = (torch.from_numpy(a).to(device) for a in two_moons(500, 0.1, np.random.default_rng(seed)))
    labels = labels.float()
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    losses = []
    for step in range(steps):
        if step == steps // 2:
            labels = 1 - labels
        # forward, loss
        logits = model(points)[:, 0]  # (500,)
        loss = formula(logits, labels).mean()
        if not loss.isfinite():
            return {"losses": losses, "stopped": step, "accuracy": None}
        # backward
        optimizer.zero_grad()
        loss.backward()
        # step
        optimizer.step()
        losses.append(loss.item())
    return {"losses": losses, "stopped": None, "accuracy": ((logits > 0) == (labels > 0)).float().mean().item()}


def summary(runs: list[dict]) -> dict:
    """Count how the trainings ended. Means are None where there is nothing to average."""
    stops = [r["stopped"] for r in runs if r["stopped"] is not None]
    finished = [r for r in runs if r["stopped"] is None]
    return {
        "stopped_count": len(stops),
        "stopped_step": mean(stops) if stops else None,
        "finished_count": len(finished),
        "solved_count": sum(r["accuracy"] > 0.99 for r in finished),
        "loss": mean(r["losses"][-1] for r in finished) if finished else None,
    }


def plot(curves: dict[str, list[float]], path: Path) -> None:
    """Draw the formulas' error and gradient over the logit (label 0), and the loss of the first training."""
    figure, (error_axes, gradient_axes, loss_axes) = new_figure(13, 4.2, ncols=3)
    z = torch.linspace(-40, 100, 1401)
    exact = np.logaddexp(0, z.double().numpy())  # in float64 and by NumPy: independent of our formula
    steps = max(map(len, curves.values()))
    widths = {"stable": 6, "log_exp": 3.5}  # the lines lie on top of each other: the wide ones below
    colours = dict(zip(FORMULAS, COLOURS, strict=False))
    for name, formula in sorted(FORMULAS.items(), key=lambda item: item[0] not in widths):
        loss, gradient = (t.double().numpy() for t in loss_and_gradient(formula, z, 0.0))
        style = {
            "label": name,
            "color": colours[name],
            "lw": widths.get(name, 1.5),
            "alpha": 0.35 if name == "stable" else 0.9,
        }
        plot_curve(error_axes, z.numpy(), largest_nearby(np.abs(loss - exact) / exact), style)
        plot_curve(gradient_axes, z.numpy(), gradient, style)
        plot_curve(loss_axes, np.arange(steps), np.array(curves[name] + [np.nan] * (steps - len(curves[name]))), style)
    error_axes.axhline(2**-24, color="0.4", lw=1, ls=":")
    error_axes.text(100, 2**-24 * 1.3, "half a unit of float32's last digit", fontsize=7.5, color="0.3", ha="right")
    for place, height, note in ((-31, 2.2, "all digits lost"), (28, 8, "the loss ends at 100")):
        error_axes.text(place, height, note, fontsize=8, color="0.3", ha="left")
    gradient_axes.plot([], [], "X", color="0.3", markersize=9, label="inf or NaN from here on")
    gradient_axes.legend(loc="center right", fontsize=8)
    error_axes.set(title="Error of the loss, float32, label 0", xlabel="logit z", yscale="log", ylim=(1e-9, 100))
    error_axes.set_ylabel("relative error, largest within ± 1.5")
    gradient_axes.set(title="Its gradient by the logit", xlabel="logit z", ylabel="gradient")
    loss_axes.set(title="A training; half-way all labels swap", xlabel="step", ylabel="loss (nats)", yscale="log")
    save_figure(figure, path)


def largest_nearby(errors: np.ndarray, reach: int = 15) -> np.ndarray:
    """Return each error's largest neighbour within `reach` places, at least 1e-9: errors of rounding jump about."""
    padded = np.pad(np.maximum(errors, 1e-9), reach, constant_values=1e-9)
    largest = np.nanmax(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
    return np.where(np.isfinite(errors), largest, np.nan)


def plot_curve(axes, x: np.ndarray, y: np.ndarray, style: dict) -> None:
    """Draw a curve; a cross marks the last value before it stops being finite."""
    axes.plot(x, np.where(np.isfinite(y), y, np.nan), **style)
    if not np.isfinite(y[-1]):
        last = np.flatnonzero(np.isfinite(y))[-1]
        axes.plot(x[last], y[last], "X", color=style["color"], markersize=9, markeredgecolor="white", zorder=3)


if __name__ == "__main__":
    run(main)
