"""Time one training step of the same MLP in our engine, in PyTorch and in the HIPS autograd package.
比较同一个 MLP 训练一步的用时：自制引擎、PyTorch，以及 HIPS autograd 库。

    python chapter_01_tensor_autograd/benchmark.py      # 20 s on 2 CPU cores

Forward, backward and a momentum step, in one process, taking turns. The autograd package is timed where it is
installed (requirements-dev.txt).
"""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from chapter_01_tensor_autograd.engine import Tensor, ops
from chapter_01_tensor_autograd.model import MLPConfig, mlp
from chapter_01_tensor_autograd.nn import SGD, Linear, Sequential
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results
from utils.timer import compare_times

LR, MOMENTUM = 0.01, 0.9
NAMES = {"ours": "our engine", "numpy": "NumPy by hand", "torch": "PyTorch eager", "autograd": "HIPS autograd"}
Step = Callable[[], float]


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    parser.add_argument("--rounds", type=positive, default=400, help="how often each step is timed")
    parser.add_argument("--batch_size", type=positive, default=256, help="examples a step")
    args = begin(parser, argv, dry_run={"rounds": 2, "batch_size": 8})

    big = steps(MLPConfig(widths=(784, 256, 128, 10)), args.batch_size, args.seed)
    losses = {name: [step() for _ in range(3)] for name, step in big.items()}
    assert all(np.allclose(each, losses["torch"], rtol=1e-4) for each in losses.values()), (
        f"not the same step: {losses}"
    )
    tiny = steps(MLPConfig(widths=(2, 4, 2)), 1, args.seed)

    seconds = compare_times(big, rounds=args.rounds, warmup=max(1, args.rounds // 10))
    tiny_seconds = compare_times(tiny, rounds=args.rounds, warmup=max(1, args.rounds // 10))
    final = {f"{name}_step_seconds": value for name, value in seconds.items()}
    final |= {f"{name}_tiny_step_seconds": value for name, value in tiny_seconds.items()}
    final["step_ratio"] = seconds["ours"] / seconds["torch"]
    final["by_hand_ratio"] = seconds["numpy"] / seconds["torch"]
    final["tiny_step_ratio"] = tiny_seconds["ours"] / tiny_seconds["torch"]
    if "autograd" in seconds:
        final["autograd_package_ratio"] = seconds["autograd"] / seconds["ours"]
        final["autograd_package_tiny_ratio"] = tiny_seconds["autograd"] / tiny_seconds["ours"]
    write_results(args.out_dir / "benchmark.json", args, final)
    for name, value in seconds.items():
        print(f"{NAMES[name]:14} {1e3 * value:7.2f} ms a step    {1e6 * tiny_seconds[name]:7.0f} µs for a tiny network")
    print(f"our step costs {final['step_ratio']:.2f} times PyTorch's")
    print(f"wrote {plot(seconds, tiny_seconds, args.out_dir / 'benchmark.png')}")


def steps(config: MLPConfig, batch_size: int, seed: int) -> dict[str, Step]:
    """Return a training step for each contender, all starting from the same weights and data."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch_size, config.widths[0])).astype(np.float32)
    labels = rng.integers(0, config.widths[-1], batch_size)
    model = mlp(config, rng)
    weights = [p.data.copy() for p in model.parameters()]  # W1, b1, W2, b2, ...
    found = {
        "ours": our_step(model, x, labels),
        "numpy": numpy_step([w.copy() for w in weights], x, labels),
        "torch": torch_step(model, x, labels),
    }
    package = import_autograd()
    return found | ({"autograd": autograd_step(package, [w.copy() for w in weights], x, labels)} if package else {})


def our_step(model: Sequential, x: np.ndarray, labels: np.ndarray) -> Step:
    optimizer = SGD(model.parameters(), LR, MOMENTUM)

    def step() -> float:
        loss = ops.cross_entropy(model(Tensor(x)), labels)
        model.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_step(model: Sequential, x: np.ndarray, labels: np.ndarray) -> Step:
    layers = []
    for layer in model.layers:
        if isinstance(layer, Linear):
            layers.append(torch.nn.Linear(*layer.weight.shape))
            layers[-1].weight.data = torch.from_numpy(layer.weight.data.T.copy())
            torch.nn.init.zeros_(layers[-1].bias)
        else:
            layers.append(torch.nn.ReLU())
    twin = torch.nn.Sequential(*layers)
    optimizer = torch.optim.SGD(twin.parameters(), LR, MOMENTUM)
    x, labels = torch.from_numpy(x), torch.from_numpy(labels)

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(twin(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def numpy_step(weights: list[np.ndarray], x: np.ndarray, labels: np.ndarray) -> Step:
    """The step with its gradients derived by hand: what no engine can beat."""
    velocity = [np.zeros_like(w) for w in weights]
    rows, last = np.arange(len(x)), len(weights) // 2 - 1

    def step() -> float:
        hidden = [x]
        for i in range(last + 1):
            z = hidden[-1] @ weights[2 * i]  # (N, d_out)
            z += weights[2 * i + 1]
            hidden.append(np.maximum(z, 0, out=z) if i < last else z)
        logits = hidden.pop()
        logits -= logits.max(axis=1, keepdims=True)
        g = np.exp(logits)
        total = g.sum(axis=1)
        loss = (np.log(total) - logits[rows, labels]).mean()
        g /= total[:, None]
        g[rows, labels] -= 1
        g /= len(x)  # d loss / d logits = (softmax - one hot) / N
        for i in reversed(range(last + 1)):
            gradients = hidden[i].T @ g, g.sum(axis=0)
            if i:
                g = g @ weights[2 * i].T
                g *= hidden[i] > 0
            for j, gradient in enumerate(gradients):
                v = velocity[2 * i + j]
                v *= MOMENTUM
                v += gradient
                weights[2 * i + j] -= LR * v
        return float(loss)

    return step


def autograd_step(package, weights: list[np.ndarray], x: np.ndarray, labels: np.ndarray) -> Step:
    anp, value_and_grad = package.numpy, package.value_and_grad
    velocity = [np.zeros_like(w) for w in weights]
    one_hot = np.eye(weights[-1].size, dtype=np.float32)[labels]

    def loss_of(weights):
        h = x
        for i in range(0, len(weights), 2):
            h = anp.dot(h, weights[i]) + weights[i + 1]
            h = anp.maximum(h, 0) if i + 2 < len(weights) else h
        shifted = h - anp.max(h, axis=1, keepdims=True)
        log_likelihood = anp.sum(shifted * one_hot, axis=1) - anp.log(anp.sum(anp.exp(shifted), axis=1))
        return -anp.mean(log_likelihood)

    gradient_of = value_and_grad(loss_of)

    def step() -> float:
        loss, gradients = gradient_of(weights)
        for w, v, g in zip(weights, velocity, gradients, strict=True):
            v *= MOMENTUM
            v += g
            w -= LR * v
        return float(loss)

    return step


def import_autograd():
    """Import the HIPS package, and not this folder's script of the same name; None where it is not installed."""
    here, path = str(Path(__file__).resolve().parent), sys.path[:]
    sys.path[:] = [p for p in path if str(Path(p or ".").resolve()) != here]
    try:
        import autograd
        import autograd.numpy

        return autograd if hasattr(autograd, "value_and_grad") else None
    except ImportError:
        return None
    finally:
        sys.path[:] = path


def plot(seconds: dict[str, float], tiny_seconds: dict[str, float], path: Path) -> Path:
    """Draw the median times as bars: a real step on the left, pure overhead on the right."""
    figure, panels = new_figure(8, 2.6, ncols=2, sharey=True)
    names = sorted(seconds, key=seconds.get, reverse=True)
    titles = "784-256-128-10, a batch: arithmetic", "2-4-2, one example: overhead"
    for axes, times, unit, scale, title in zip(
        panels, (seconds, tiny_seconds), ("ms", "µs"), (1e3, 1e6), titles, strict=True
    ):
        values = [scale * times[name] for name in names]
        colours = [COLOURS[1] if name == "ours" else COLOURS[0] for name in names]
        bars = axes.barh([NAMES[name] for name in names], values, color=colours)
        axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        axes.set(xlabel=f"time of a step ({unit})", xlim=(0, 1.15 * max(values)))
        axes.set_title(title, fontsize=10)
        axes.grid(axis="y", visible=False)
    return save_figure(figure, path)


if __name__ == "__main__":
    run(main)
