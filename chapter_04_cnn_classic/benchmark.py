"""Time our four convolutions beside PyTorch's: over sizes of kernel, numbers of channels, and images at a time.
比较我们的四种卷积与 PyTorch 的用时：改变卷积核大小、通道数，以及一次处理的图片数。

    python chapter_04_cnn_classic/benchmark.py      # 1 min on 2 CPU cores

All take turns in one process, on the same random numbers in float32, and must give the same output. The loops of the
definition are timed on one picture only, a single time.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor

from chapter_04_cnn_classic.conv import conv2d_im2col, conv2d_loops
from chapter_04_cnn_classic.conv.fast import conv2d_fft, conv2d_winograd
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results
from utils.timer import Timer, compare_times

METHODS: dict[str, Callable[..., Tensor]] = {
    "torch": F.conv2d,
    "im2col": conv2d_im2col,
    "fft": conv2d_fft,
    "winograd": conv2d_winograd,
}
LABELS = {"torch": "F.conv2d", "im2col": "im2col", "fft": "FFT", "winograd": "Winograd"}
COLOUR_OF = {"torch": "black", "im2col": COLOURS[0], "fft": COLOURS[1], "winograd": COLOURS[2]}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument(
        "--rounds", type=positive, default=12, help="how often the main case is timed; others a quarter"
    )
    parser.add_argument("--batch_size", type=positive, default=64, help="pictures")
    parser.add_argument("--side", type=positive, default=32, help="height and width of a picture")
    parser.add_argument("--channels", type=positive, default=64, help="channels in and out, where they do not vary")
    parser.add_argument("--kernels", type=positive, nargs="+", default=[1, 3, 5, 7, 9, 11], help="kernel sizes")
    parser.add_argument("--widths", type=positive, nargs="+", default=[8, 16, 32, 64, 128, 256], help="channels, 3x3")
    tiny = {"rounds": 1, "batch_size": 4, "side": 8, "channels": 2, "kernels": [1, 3, 5], "widths": [2, 4]}
    args = begin(parser, argv, dry_run=tiny)

    x, weight = tensors(args.batch_size, args.channels, args.side, 3, args.device)
    final = race(x, weight, args.rounds)
    final |= {f"{name}_ratio": final[f"{name}_seconds"] / final["torch_seconds"] for name in METHODS if name != "torch"}
    final |= time_a_step(x, weight, args.rounds)
    final |= time_the_loops(x, weight)
    final["images"] = time_the_buffer(x, weight, args.rounds)
    print(f"milliseconds for {args.batch_size} pictures of {args.side}x{args.side}")
    print(f"{'kernel':>7}{'channels':>10}{''.join(f'{label:>10}' for label in LABELS.values())}")
    print(row(final))

    final["table"] = []
    for kernel, channels in [(k, args.channels) for k in args.kernels] + [(3, c) for c in args.widths]:
        inputs = tensors(args.batch_size, channels, args.side, kernel, args.device)
        final["table"].append(race(*inputs, max(1, args.rounds // 4)))
        print(row(final["table"][-1]))
    kernels, widths = final["table"][: len(args.kernels)], final["table"][len(args.kernels) :]
    final["fft_overtakes_at"] = overtakes(kernels, "fft", "im2col")

    write_results(args.out_dir / "benchmark.json", args, final)
    print(f"im2col takes {final['im2col_ratio']:.2f} times F.conv2d; with the backward pass {final['step_ratio']:.2f}")
    print(f"the loops take {final['loops_seconds']:.2f} s for one picture, {final['loops_ratio']:.0f} times im2col")
    print(f"wrote {plot(kernels, widths, final, args.out_dir / 'benchmark.png')}")


def tensors(images: int, channels: int, side: int, kernel: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return random pictures (images, channels, side, side) and a weight (channels, channels, kernel, kernel)."""
    generator = torch.Generator().manual_seed(torch.initial_seed())
    x = torch.randn(images, channels, side, side, generator=generator)
    weight = torch.randn(channels, channels, kernel, kernel, generator=generator) / (kernel * channels**0.5)
    return x.to(device), weight.to(device)


def race(x: Tensor, weight: Tensor, rounds: int) -> dict[str, int | float]:
    """Return each method's median seconds, with padding that keeps the size; Winograd's for 3x3 kernels only."""
    kernel, channels = weight.shape[-1], weight.shape[0]
    names = [name for name in METHODS if name != "winograd" or kernel == 3]
    calls = {name: partial(METHODS[name], x, weight, padding=kernel // 2) for name in names}
    expected = calls["torch"]()
    for name, call in calls.items():
        assert torch.allclose(call(), expected, rtol=1e-3, atol=5e-3), f"{name} computes something else"
    times = compare_times(calls, rounds, warmup=1)
    return {"kernel": kernel, "channels": channels} | {f"{name}_seconds": t for name, t in times.items()}


def time_a_step(x: Tensor, weight: Tensor, rounds: int) -> dict[str, float]:
    """Time forward and backward pass together, as in training."""
    leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    dy = torch.ones_like(x)  # as many channels out as in
    steps = {
        name: lambda f=METHODS[name]: torch.autograd.grad(f(*leaves, padding=1), leaves, dy)
        for name in ("torch", "im2col")
    }
    times = compare_times(steps, rounds, warmup=1)
    seconds = {f"{name}_step_seconds": t for name, t in times.items()}
    return seconds | {"step_ratio": times["im2col"] / times["torch"]}


def time_the_loops(x: Tensor, weight: Tensor) -> dict[str, float]:
    """Time the definition on the first picture, and compare with im2col on that picture."""
    timer = Timer()
    conv2d_loops(x[:1], weight, padding=1)
    seconds = timer.seconds
    im2col = compare_times({"im2col": lambda: conv2d_im2col(x[:1], weight, padding=1)}, rounds=5)["im2col"]
    return {"loops_seconds": seconds, "loops_ratio": seconds / im2col}


def time_the_buffer(x: Tensor, weight: Tensor, rounds: int) -> list[dict[str, int | float]]:
    """Time im2col with 1, 2, 4, ... pictures at a time going through its buffer of columns."""
    counts = [2**k for k in range(len(x).bit_length()) if 2**k <= len(x)]
    calls = {str(n): partial(conv2d_im2col, x, weight, padding=1, images=n) for n in counts}
    times = compare_times(calls, rounds, warmup=1)
    one = weight[0].numel() * x[0, 0].numel() * x.element_size()  # bytes of one picture's columns
    return [{"images": n, "buffer_bytes": n * one, "seconds": times[str(n)]} for n in counts]


def overtakes(kernels: list[dict], fast: str, slow: str) -> int | None:
    """Return the size of kernel from which on `fast` stays ahead of `slow`, if there is one."""
    ahead = None
    for times in sorted(kernels, key=lambda times: -times["kernel"]):
        if times[f"{fast}_seconds"] >= times[f"{slow}_seconds"]:
            break
        ahead = times["kernel"]
    return ahead


def row(times: dict) -> str:
    cells = [f"{1e3 * times[f'{name}_seconds']:10.2f}" if f"{name}_seconds" in times else "" for name in METHODS]
    return f"{times['kernel']:>7}{times['channels']:>10}{''.join(cells)}"


def plot(kernels: list[dict], widths: list[dict], final: dict, path: Path) -> Path:
    """Draw the time by size of kernel, the ratio to PyTorch by channels, and what a larger buffer costs."""
    figure, (left, middle, right) = new_figure(12.5, 4, ncols=3)
    for name, label in LABELS.items():
        style = {"color": COLOUR_OF[name], "marker": "o", "markersize": 4, "label": label}
        ratios = [times[f"{name}_seconds"] / times["torch_seconds"] for times in widths]
        middle.plot([times["channels"] for times in widths], ratios, **style)
        if name == "winograd":  # a single point: it has 3x3 kernels only
            style |= {"marker": "D", "markersize": 8, "linestyle": "", "zorder": 3}
        known = [times for times in kernels if f"{name}_seconds" in times]
        left.plot([times["kernel"] for times in known], [1e3 * times[f"{name}_seconds"] for times in known], **style)
    sizes = [times["kernel"] for times in kernels]
    left.set(xlabel="size of the kernel", ylabel="time (ms)", yscale="log", xticks=sizes)
    left.set_title(f"{final['channels']} channels")
    if start := final["fft_overtakes_at"]:
        left.axvspan(start, max(sizes), color=COLOUR_OF["fft"], alpha=0.08, linewidth=0)
        left.text(start, 0.03, "  FFT beats im2col", transform=left.get_xaxis_transform(), color=COLOUR_OF["fft"])
    left.legend(frameon=False)
    channels = [times["channels"] for times in widths]
    middle.set_xscale("log", base=2)
    middle.set_yscale("log", base=2)
    middle.set_xticks(channels, map(str, channels))
    middle.set(xlabel="channels in and out", ylabel="time, as a multiple of F.conv2d's", title="3x3 kernels")

    for counted in final["images"]:
        place = counted["buffer_bytes"] / 1e6, 1e3 * counted["seconds"]
        right.plot(*place, "o", color=COLOUR_OF["im2col"])
        right.annotate(f"{counted['images']}", place, (0, 8), textcoords="offset points", ha="center")
    right.axhline(1e3 * final["torch_seconds"], color="black", linestyle="--", label="F.conv2d")
    right.set(
        xscale="log", xlabel="buffer of columns (MB)", ylabel="time (ms)", title="im2col, so many pictures at a time"
    )
    right.set_ylim(0, 1.15 * right.dataLim.y1)
    right.legend(frameon=False, loc="lower right")
    for axis in (left.yaxis, middle.yaxis, right.xaxis):
        axis.set_major_formatter("{x:g}")  # 100 rather than 10 to the power of 2
    return save_figure(figure, path)


if __name__ == "__main__":
    run(main)
