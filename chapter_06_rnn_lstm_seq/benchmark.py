"""Time our recurrent layers beside PyTorch's, and the scan of minGRU beside its loop.
比较我们的循环层与 PyTorch 的用时，以及 minGRU 的扫描与逐步循环的用时。

    python chapter_06_rnn_lstm_seq/benchmark.py      # 4 min on 2 CPU cores

Forward and backward pass together, with the gradients of all weights, in float32 and under bfloat16 autocast. All that
are compared take turns in one process, on the same numbers, and must give the same outputs and gradients.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from chapter_06_rnn_lstm_seq.figures.benchmark import draw_scan
from chapter_06_rnn_lstm_seq.recurrent import GRU, LSTM, RNN, MinGRU
from chapter_06_rnn_lstm_seq.recurrent.cells import gru_cell, lstm_cell, min_gru_cell, rnn_cell, unroll
from chapter_06_rnn_lstm_seq.scan import linear_recurrence, merge_pairs, step_by_step
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.device import autocast
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import aligned
from utils.timer import compare_times

LAYERS = {"lstm": (LSTM, nn.LSTM, lstm_cell), "gru": (GRU, nn.GRU, gru_cell), "rnn": (RNN, nn.RNN, rnn_cell)}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument(
        "--rounds", type=positive, default=11, help="how often the LSTM is timed; the rest half as often"
    )
    parser.add_argument("--batch_size", type=positive, default=64, help="sequences")
    parser.add_argument("--n_steps", type=positive, default=128, help="length of a sequence for RNN, LSTM and GRU")
    parser.add_argument("--hidden", type=positive, default=512, help="inputs and hidden units of RNN, LSTM and GRU")
    parser.add_argument("--scan_steps", type=positive, default=1024, help="length of a sequence for the scan")
    parser.add_argument("--scan_batch_size", type=positive, default=8, help="sequences for minGRU")
    parser.add_argument("--scan_hidden", type=positive, default=128, help="inputs and hidden units of minGRU")
    sizes = [2**k for k in range(4, 16)]
    parser.add_argument("--widths", type=positive, nargs="+", default=sizes, help="numbers in a step of the recurrence")
    tiny = {"rounds": 1, "batch_size": 2, "n_steps": 5, "hidden": 4, "scan_steps": 9, "widths": [4, 8]}
    args = begin(parser, argv, dry_run=tiny | {"scan_batch_size": 2, "scan_hidden": 4})

    final = {}
    for name in LAYERS:
        rounds = args.rounds if name == "lstm" else max(1, args.rounds // 2)
        x = torch.randn(args.batch_size, args.n_steps, args.hidden, device=args.device)
        for amp in ("off", "bf16"):
            final |= race_layer(name, x, amp, rounds)
    x = torch.randn(args.scan_batch_size, args.scan_steps, args.scan_hidden, device=args.device)
    final |= race_min_gru(x, max(1, args.rounds // 2))
    final["scan_table"] = [race_recurrence(args.scan_steps, w, args.device, args.rounds) for w in sorted(args.widths)]

    write_results(args.out_dir / "benchmark.json", args, final)
    rows = [("layer", "ours (ms)", "torch (ms)", "unrolled (ms)", "ours / torch", "in bfloat16")]
    for name in LAYERS:
        times = [f"{1e3 * final[f'{name}{who}_seconds']:.0f}" for who in ("", "_torch", "_unrolled")]
        rows.append((name, *times, f"{final[f'{name}_ratio']:.3f}", f"{final[f'{name}_bf16_ratio']:.3f}"))
    print(*aligned(rows, "<>"), sep="\n")
    print(f"minGRU over {args.scan_steps} steps: the scan is {final['scan_speedup']:.1f} times as fast as its loop")
    print(f"wrote {save_figure(draw_scan(final['scan_table']), args.out_dir / 'benchmark_scan.png')}")


def race_layer(name: str, x: Tensor, amp: str, rounds: int) -> dict[str, float]:
    """Time one layer on x (B, T, D): ours, torch.nn's with the same weights, and, in float32, our cell unrolled."""
    ours_class, theirs_class, cell = LAYERS[name]
    ours = ours_class(x.shape[-1], x.shape[-1]).to(x.device)
    theirs = theirs_class(x.shape[-1], x.shape[-1], batch_first=True).to(x.device)
    theirs.load_state_dict(ours.state_dict())
    calls = {"ours": partial(step, ours, x, amp), "torch": partial(step, theirs, x, amp)}
    if amp == "off":
        calls["unrolled"] = partial(step, UnrolledLayer(ours, cell), x, amp)
    check_equal(calls, tolerance=1e-3 if amp == "off" else 0.1)
    times = compare_times(calls, rounds, warmup=1)
    name = name if amp == "off" else f"{name}_bf16"
    final = {f"{name}_seconds": times["ours"], f"{name}_torch_seconds": times["torch"]}
    final[f"{name}_ratio"] = times["ours"] / times["torch"]
    return final | ({f"{name}_unrolled_seconds": times["unrolled"]} if amp == "off" else {})


class UnrolledLayer(nn.Module):
    """The same weights, used as the definition says: cell by cell, autograd doing the rest."""

    def __init__(self, net: nn.Module, cell: Callable):
        super().__init__()
        self.net, self.cell = net, cell

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        state = (x.new_zeros(len(x), self.net.hidden_size),) * self.net.n_states
        steps = unroll(self.cell, x.transpose(0, 1), state, *self.net.weights("_l0"))
        return steps[0].transpose(0, 1), steps[0][-1]


class LoopedMinGRU(UnrolledLayer):
    """minGRU whose products are done for all steps at once, as the scan's are, and whose recurrence is a loop."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, n = nn.functional.linear(x.transpose(0, 1), *self.net.weights("_l0")).chunk(2, dim=-1)  # each (T, B, H)
        h = linear_recurrence(torch.sigmoid(-z), torch.sigmoid(z) * n, torch.zeros_like(n[0]))
        return h.transpose(0, 1), h[-1]


def step(net: nn.Module, x: Tensor, amp: str) -> list[Tensor]:
    """Run forward and backward; return the output and the gradients of all parameters."""
    with autocast(x.device, amp):
        output, _ = net(x)
    return [output.detach(), *torch.autograd.grad(output.float().square().mean(), list(net.parameters()))]


def check_equal(calls: dict[str, Callable[[], list[Tensor]]], tolerance: float) -> None:
    expected, *others = (call() for call in calls.values())
    for name, found in zip(list(calls)[1:], others, strict=True):
        for a, b in zip(found, expected, strict=True):
            assert (a - b).norm() <= tolerance * b.norm() + 1e-6, f"{name} computes something else"


def race_min_gru(x: Tensor, rounds: int) -> dict[str, float]:
    """Time a layer of minGRU on x (B, T, D) by the scan, by a loop over its recurrence, and cell by cell."""
    net = MinGRU(x.shape[-1], x.shape[-1]).to(x.device)
    nets = {"scan": net, "loop": LoopedMinGRU(net, min_gru_cell), "unrolled": UnrolledLayer(net, min_gru_cell)}
    calls = {name: partial(step, module, x, "off") for name, module in nets.items()}
    check_equal(calls, tolerance=1e-3)
    times = compare_times(calls, rounds, warmup=1)
    seconds = {f"mingru_{name}_seconds": t for name, t in times.items()}
    return seconds | {"scan_speedup": times["loop"] / times["scan"]}


def race_recurrence(n_steps: int, width: int, device: torch.device, rounds: int) -> dict[str, float]:
    """Time the bare recurrence of so many numbers, forwards: its definition, in place step by step, and as a tree."""
    a, b = torch.rand(n_steps, width, device=device), torch.randn(n_steps, width, device=device)
    ways = {"definition": linear_recurrence, "step_by_step": step_by_step, "merge_pairs": merge_pairs}
    calls = {name: partial(way, a, b, a.new_zeros(width)) for name, way in ways.items()}
    check_equal({name: lambda call=call: [call()] for name, call in calls.items()}, tolerance=1e-4)
    times = compare_times(calls, rounds, warmup=1)
    return {"width": width} | {f"{name}_seconds": t for name, t in times.items()}


if __name__ == "__main__":
    run(main)
