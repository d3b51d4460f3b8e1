"""Memory against recomputation on a deep chain of layers, measured.
在一条很深的层链上，实测“用计算换内存”。

    python chapter_01_tensor_autograd/checkpointing_demo.py     # 30 s on 2 CPU cores

Trains nothing: it runs one forward and one backward pass of a chain for each segment length, in our engine and in
PyTorch, and measures the peak of live memory (parameters excluded) and the time.
"""

import math
import os
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # PyTorch's profiler is talkative

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint_sequential as torch_checkpoint_sequential

from chapter_01_tensor_autograd.engine import Tensor, checkpoint_sequential
from chapter_01_tensor_autograd.nn import Linear, Sequential, Tanh
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.memory import torch_peak
from utils.plotting import new_figure, save_figure
from utils.results import write_results
from utils.timer import compare_times


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    parser.add_argument("--layers", type=positive, default=256, help="length of the chain")
    parser.add_argument("--width", type=positive, default=32, help="units in each layer")
    parser.add_argument("--batch_size", type=positive, default=2048, help="examples in the batch")
    parser.add_argument("--rounds", type=positive, default=5, help="how often each pass is timed")
    args = begin(parser, argv, dry_run={"layers": 16, "width": 4, "batch_size": 64, "rounds": 1})

    rng = np.random.default_rng(args.seed)
    layers = [Sequential(Linear(args.width, args.width, rng), Tanh()) for _ in range(args.layers)]
    x = rng.standard_normal((args.batch_size, args.width)).astype(np.float32)
    ours = {0: partial(plain_pass, layers, x)}
    ours |= {s: partial(checkpointed_pass, layers, x, s) for s in powers_of_two(args.layers)}
    twins, tx = [in_torch(layer) for layer in layers], torch.from_numpy(x)
    theirs = {s: partial(torch_pass, twins, tx, s) for s in ours}

    exact = plain_pass(layers, x)
    identical = all(np.array_equal(a, b) for s in ours for a, b in zip(exact, ours[s](), strict=True))
    memory = {s: numpy_peak(call) for s, call in ours.items()}
    torch_memory = {s: torch_peak(call) for s, call in theirs.items()}
    seconds, torch_seconds = (compare_times(calls, rounds=args.rounds, warmup=1) for calls in (ours, theirs))

    best, root = min(memory, key=memory.get), 2 ** round(math.log2(math.sqrt(args.layers)))
    final = {
        "layers": args.layers,
        "gradients_identical": identical,
        "one_activation_bytes": x.nbytes,
        "plain_peak_bytes": memory[0],
        "sqrt_segment": root,
        "sqrt_peak_bytes": memory[root],
        "memory_ratio": memory[0] / memory[root],
        "best_segment": best,
        "best_memory_ratio": memory[0] / memory[best],
        "time_ratio": seconds[root] / seconds[0],
        "torch_memory_ratio": torch_memory[0] / torch_memory[root],
        "torch_time_ratio": torch_seconds[root] / torch_seconds[0],
    }
    columns = {"segment": ours, "bytes": memory.values(), "seconds": seconds.values()}
    columns |= {"torch_bytes": torch_memory.values(), "torch_seconds": torch_seconds.values()}
    curve = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    write_results(args.out_dir / "checkpointing.json", args, final, curve)

    print_report(final, curve)
    print(f"wrote {plot(curve, args.layers, x.nbytes, args.out_dir / 'checkpointing.png')}")


def print_report(final: dict, curve: list[dict]) -> None:
    print("segment   our peak   time    torch peak   time      (segment 0: no checkpointing)")
    for row in curve:
        print(
            f"{row['segment']:7} {row['bytes'] / 1e6:7.1f} MB {row['seconds']:6.2f} s"
            f" {row['torch_bytes'] / 1e6:9.1f} MB {row['torch_seconds']:6.2f} s"
        )
    print(f"every gradient identical to the last bit: {final['gradients_identical']}")
    root, less, times = final["sqrt_segment"], final["memory_ratio"], final["time_ratio"]
    print(f"segments of {root}: {less:.1f} times less memory, {times:.2f} times the time")


def powers_of_two(limit: int) -> list[int]:
    return [2**i for i in range(limit.bit_length())]


def plain_pass(layers: list[Sequential], x: np.ndarray) -> list[np.ndarray]:
    """One forward and backward pass that keeps every value; returns the parameters' gradients."""
    return gradients(layers, Sequential(*layers)(Tensor(x)))


def checkpointed_pass(layers: list[Sequential], x: np.ndarray, segment: int) -> list[np.ndarray]:
    """The same pass, with `segment` layers checkpointed at a time."""
    return gradients(layers, checkpoint_sequential(layers, Tensor(x), segment))


def gradients(layers: list[Sequential], output: Tensor) -> list[np.ndarray]:
    network = Sequential(*layers)
    network.zero_grad()
    (output * output).mean().backward()
    return [p.grad.data for p in network.parameters()]


def in_torch(layer: Sequential) -> torch.nn.Module:
    linear = layer.layers[0]
    twin = torch.nn.Linear(*linear.weight.shape)
    twin.weight.data = torch.from_numpy(linear.weight.data.T.copy())
    return torch.nn.Sequential(twin, torch.nn.Tanh())


def torch_pass(layers: list[torch.nn.Module], x: torch.Tensor, segment: int) -> None:
    """The same pass in PyTorch, whose checkpoint_sequential counts segments and leaves the last one unchecked."""
    network = torch.nn.Sequential(*layers)
    network.zero_grad()
    if segment:
        output = torch_checkpoint_sequential(network, math.ceil(len(layers) / segment), x, use_reentrant=False)
    else:
        output = network(x)
    (output * output).mean().backward()


def numpy_peak(call: Callable[[], object]) -> int:
    """Return the bytes that `call` held at its worst moment, beyond what was there before."""
    tracemalloc.start()
    call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def plot(curve: list[dict], n_layers: int, unit: int, path: Path) -> Path:
    """Draw peak memory and time against the segment length, with the model (L/s + s) as a line."""
    figure, (left, right) = new_figure(9, 3.6, ncols=2)
    plain, rows = curve[0], curve[1:]
    segments = [row["segment"] for row in rows]
    for prefix, name, colour in (("", "our engine", "C0"), ("torch_", "PyTorch", "C1")):
        left.plot(segments, [row[f"{prefix}bytes"] / 1e6 for row in rows], "o-", color=colour, label=name)
        left.axhline(plain[f"{prefix}bytes"] / 1e6, color=colour, ls=":", label=f"{name}, no checkpointing")
        ratio = [row[f"{prefix}seconds"] / plain[f"{prefix}seconds"] for row in rows]
        right.plot(segments, ratio, "o-", color=colour, label=name)
    fine = np.geomspace(1, n_layers, 100)
    left.plot(fine, (n_layers / fine + fine) * unit / 1e6, color="0.5", lw=1, label="model: L/s + s values")
    left.set(xlabel="layers in a segment, s", ylabel="peak memory (MB)")
    left.set_title("Least memory near s = √L", fontsize=10)
    left.legend(fontsize=7)
    right.axhline(4 / 3, color="0.5", lw=1, label="model: one more forward pass")
    right.set(xlabel="layers in a segment, s", ylabel="time / time without checkpointing")
    right.set_ylim(bottom=0.8)
    right.set_title("The price: computing twice", fontsize=10)
    right.legend(fontsize=7)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(segments, map(str, segments))
    left.set_yscale("log", base=2)
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return save_figure(figure, path)


if __name__ == "__main__":
    run(main)
