"""Time and memory of each mechanism from 256 to 65,536 tokens, decoding with and without a cache, and a training step.
各机制在 256 到 65,536 个词元上的时间与内存，有无缓存的解码，以及一步训练。

    python chapter_09_efficient_attention/benchmark.py    # 2 min on 2 CPU cores

All that are compared take turns in one process, in float32. Memory is the peak of what PyTorch holds during one call
forwards and backwards, less what it held before, and is measured on the CPU alone.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tqdm import tqdm

from chapter_09_efficient_attention.costs import (
    crossover,
    decode_again,
    decode_cached,
    fitted_exponent,
    forward,
    forward_backward,
    kept_bytes,
    mechanisms,
    training_steps,
)
from chapter_09_efficient_attention.figures.benchmark import draw_growth
from chapter_09_efficient_attention.model import ATTENTIONS, Decoder, DecoderConfig
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.memory import keep_freed_memory, torch_peak
from utils.plotting import save_figure
from utils.results import write_results
from utils.tables import aligned, final_lines
from utils.timer import Timer, compare_times

LENGTHS = [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
QUADRATIC = {"softmax", "torch", "flash"}
TINY = {"lengths": [16, 32], "quadratic_up_to": 16, "rounds": 1, "decode_length": 24, "decode_tokens": 3}
TINY |= {"d_model": 16, "n_layers": 1, "train_length": 16}


def main(argv: list[str] | None = None) -> None:
    args = begin(build_parser(), argv, dry_run=TINY)
    keep_freed_memory()
    rows = measure_growth(sorted(set(args.lengths)), args)
    final = {"by_length": rows} | summarize_growth(rows) | measure_training(args)
    final |= measure_decoding(args) | {"cache_bytes": measure_caches(args)}
    write_results(args.out_dir / "benchmark.json", args, final)
    names = [name.removesuffix("_seconds") for name in rows[-1] if name.endswith("_seconds") and "forward" not in name]
    names = [*sorted(QUADRATIC), *(name for name in names if name not in QUADRATIC)]
    cells = [[f"{1e3 * row[f'{n}_seconds']:.1f}" if f"{n}_seconds" in row else "" for n in names] for row in rows]
    table = [["tokens", *names], *([row["length"], *line] for row, line in zip(rows, cells, strict=True))]
    print("milliseconds, forwards and backwards:", *aligned(table, ">"), sep="\n")
    print(*final_lines(final), sep="\n")
    print(f"wrote {save_figure(draw_growth(rows), args.out_dir / 'benchmark.png')}")


def build_parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--lengths", type=positive, nargs="+", default=LENGTHS, help="tokens of a sequence")
    parser.add_argument("--quadratic_up_to", type=positive, default=8192, help="longest sequence for all pairs")
    parser.add_argument("--n_heads", type=positive, default=2, help="heads")
    parser.add_argument("--width", type=positive, default=32, help="numbers in a query, a key and a value")
    parser.add_argument("--rounds", type=positive, default=5, help="how often each is timed")
    parser.add_argument("--decode_length", type=positive, default=2048, help="tokens of the text when decoding begins")
    parser.add_argument("--decode_tokens", type=positive, default=32, help="tokens that are decoded")
    parser.add_argument("--d_model", type=positive, default=128, help="width of the models that decode and train")
    parser.add_argument("--n_layers", type=positive, default=4, help="their layers")
    parser.add_argument("--train_length", type=positive, default=256, help="tokens of a training step's 16 windows")
    return parser


def measure_growth(lengths: list[int], args: argparse.Namespace) -> list[dict]:
    """Return a row for each length: seconds forwards and both ways, and bytes both ways, of each mechanism."""
    rows = []
    for length in tqdm(lengths, unit="length"):
        calls = mechanisms(length, args.n_heads, args.width, args.device)
        if length > args.quadratic_up_to:
            calls = {name: call for name, call in calls.items() if name not in QUADRATIC}
        both = {name: partial(forward_backward, *call) for name, call in calls.items()}
        forwards = {f"{name}_forward": partial(forward, call) for name, (call, _) in calls.items()}
        seconds = compare_times(both | forwards, args.rounds, warmup=1)
        row = {"length": length} | {f"{name}_seconds": time for name, time in seconds.items()}
        if args.device.type == "cpu":
            row |= {f"{name}_bytes": torch_peak(call) for name, call in both.items()}
        rows.append(row)
    return rows


def summarize_growth(rows: list[dict]) -> dict[str, float | int]:
    """Return the fitted exponents, of the quadratic ones from 1,024 tokens and of the others from 4,096, if there are.

    And the length from which on each is faster than PyTorch's kernel, as far as that was measured.
    """
    final = {}
    for name in [key.removesuffix("_forward_seconds") for key in rows[0] if key.endswith("_forward_seconds")]:
        measured = [row for row in rows if f"{name}_seconds" in row]
        first = 1024 if name in QUADRATIC else 4096
        fitted = [row for row in measured if row["length"] >= first]
        fitted = fitted if len(fitted) > 1 else measured
        for unit in ("seconds", "bytes"):
            if f"{name}_{unit}" in fitted[0] and len(fitted) > 1:
                values = [row[f"{name}_{unit}"] for row in fitted]
                final[f"{name}_{unit}_exponent"] = fitted_exponent([row["length"] for row in fitted], values)
        both = [row for row in measured if "torch_seconds" in row]
        times = [[row[f"{other}_seconds"] for row in both] for other in (name, "torch")]
        found = crossover([row["length"] for row in both], *times)
        if found is not None:
            final[f"{name}_crossover"] = found
    return final


def make_config(args: argparse.Namespace, attention: str) -> DecoderConfig:
    """Return a model of 65 tokens with this attention."""
    sizes = {"d_model": args.d_model, "n_layers": args.n_layers, "n_heads": 4, "d_ff": 3 * args.d_model}
    return DecoderConfig(65, attention, dropout=0.0, **sizes)


def measure_training(args: argparse.Namespace) -> dict[str, float]:
    """Return how long a training step on our grouped attention takes, and how many times that of the bare kernel."""
    steps = training_steps(make_config(args, "gqa"), 16, args.train_length, args.device)
    torch.testing.assert_close(steps["ours"](), steps["torch"]())
    seconds = compare_times(steps, 2 * args.rounds + 1, warmup=1)
    return {"gqa_train_step_seconds": seconds["ours"], "gqa_train_step_ratio": seconds["ours"] / seconds["torch"]}


def measure_decoding(args: argparse.Namespace) -> dict[str, float | bool]:
    """Return seconds a token with a cache and without, and whether both wrote the same."""
    model = Decoder(make_config(args, "mha")).to(args.device).eval()
    ids = torch.randint(65, (args.decode_length,), device=args.device)
    decode = decode_cached(model, ids, args.decode_tokens)
    timer = Timer()
    cached = decode()
    cached_seconds, timer = timer.seconds / args.decode_tokens, Timer()
    again = decode_again(model, ids, args.decode_tokens)
    again_seconds = timer.seconds / args.decode_tokens
    return {
        "decode_cached_seconds": cached_seconds,
        "decode_again_seconds": again_seconds,
        "decode_speedup": again_seconds / cached_seconds,
        "decode_identical": bool(torch.equal(cached, again)),
    }


def measure_caches(args: argparse.Namespace) -> dict[str, int]:
    """Return the bytes of all layers' caches when `decode_length` tokens have been read, for every attention."""
    ids = torch.randint(65, (args.decode_length,), device=args.device)
    models = {name: Decoder(make_config(args, name)).to(args.device).eval() for name in ATTENTIONS}
    return {name: kept_bytes(model, ids) for name, model in models.items()}


if __name__ == "__main__":
    run(main)
