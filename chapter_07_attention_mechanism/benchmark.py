"""Time and memory of each attention as the sequence grows, and ours beside PyTorch's.
各种注意力的时间与内存随序列长度的增长，以及与 PyTorch 的比较。

    python chapter_07_attention_mechanism/benchmark.py    # half a minute on 2 CPU cores

Forward and backward pass together, self-attention in float32. All that are compared take turns in one process. Memory
is the peak of what PyTorch holds during one call, less what it held before, and is measured on the CPU alone.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import (
    SCORES,
    Attention,
    MultiHeadAttention,
    fused_attention,
    local_attention,
    scaled_dot_product_attention,
)
from chapter_07_attention_mechanism.figures.benchmark import draw_growth
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.memory import torch_peak
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import aligned
from utils.timer import compare_times

WINDOW = 16


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--lengths", type=positive, nargs="+", default=[64, 128, 256, 512, 1024, 2048], help="tokens")
    parser.add_argument("--batch_size", type=positive, default=4, help="sequences")
    parser.add_argument("--width", type=positive, default=64, help="numbers in a query, a key and a value")
    parser.add_argument("--n_heads", type=positive, default=4, help="heads of multi-head attention")
    parser.add_argument("--additive_up_to", type=positive, default=512, help="longest sequence for the additive score")
    parser.add_argument("--rounds", type=positive, default=11, help="how often each is timed")
    tiny = {"lengths": [4, 8], "batch_size": 1, "width": 8, "n_heads": 2, "rounds": 1}
    args = begin(parser, argv, dry_run=tiny)

    rows = []
    for length in sorted(args.lengths):
        x = torch.randn(args.batch_size, length, args.width, device=args.device, requires_grad=True)
        calls = make_calls(args.width, x.device, length <= args.additive_up_to)
        seconds = compare_times({name: partial(step, call, x) for name, call in calls.items()}, args.rounds, warmup=1)
        row = {"length": length} | {f"{name}_seconds": time for name, time in seconds.items()}
        if x.device.type == "cpu":
            row |= {f"{name}_bytes": torch_peak(partial(step, call, x)) for name, call in calls.items()}
        rows.append(row)
    longest = max(args.lengths)
    final = {"by_length": rows} | compare_multi_head(
        args.batch_size, longest, args.width, args.n_heads, args.rounds, args.device
    )
    last = rows[-1]
    final["fused_ratio"] = last["fused_seconds"] / last["torch_seconds"]
    final["local_speedup"] = last["scaled_dot_product_seconds"] / last["local_seconds"]

    write_results(args.out_dir / "benchmark.json", args, final)
    names = [name.removesuffix("_seconds") for name in rows[0] if name.endswith("_seconds")]
    table = [["tokens", *names]]
    for row in rows:
        table.append(
            [
                row["length"],
                *(f"{1e3 * row[f'{name}_seconds']:.1f}" if f"{name}_seconds" in row else "" for name in names),
            ]
        )
    print("milliseconds, forwards and backwards:", *aligned(table, ">"), sep="\n")
    print(f"multi-head attention takes {final['multi_head_ratio']:.2f} times as long as nn.MultiheadAttention")
    print(f"wrote {save_figure(draw_growth(rows), args.out_dir / 'benchmark.png')}")


def make_calls(width: int, device: torch.device, with_additive: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return each attention as a function of one sequence x (B, T, D) -> (B, T, D)."""
    calls = {
        "scaled_dot_product": lambda x: scaled_dot_product_attention(x, x, x)[0],
        "fused": lambda x: fused_attention(x, x, x),
        "torch": lambda x: F.scaled_dot_product_attention(x, x, x),
        "local": lambda x: local_attention(x, x, x, WINDOW),
    }
    for name in ("luong", "additive")[: 1 + with_additive]:
        attention = Attention(SCORES[name](width, width, width)).to(device)
        calls[name] = lambda x, attention=attention: attention(x, x)[0]
    return calls


def step(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run forwards and backwards; return the gradient of x."""
    return torch.autograd.grad(call(x).square().mean(), x)[0]


def compare_multi_head(
    batch_size: int, length: int, width: int, n_heads: int, rounds: int, device: torch.device
) -> dict[str, float]:
    """Time our multi-head self-attention beside nn.MultiheadAttention of the same weights; both return no weights."""
    ours = MultiHeadAttention(width, n_heads).to(device)
    theirs = nn.MultiheadAttention(width, n_heads, batch_first=True).to(device)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(batch_size, length, width, device=device, requires_grad=True)
    calls = {
        "multi_head": partial(step, lambda x: ours(x)[0], x),
        "multi_head_torch": partial(step, lambda x: theirs(x, x, x, need_weights=False)[0], x),
    }
    torch.testing.assert_close(calls["multi_head"](), calls["multi_head_torch"](), rtol=1e-3, atol=1e-6)
    seconds = compare_times(calls, rounds, warmup=1)
    ratio = seconds["multi_head"] / seconds["multi_head_torch"]
    return {f"{name}_seconds": time for name, time in seconds.items()} | {"multi_head_ratio": ratio}


if __name__ == "__main__":
    run(main)
