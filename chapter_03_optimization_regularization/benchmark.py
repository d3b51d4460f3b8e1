"""Time one step of each of our optimizers and of PyTorch's on the tensors of a small Transformer.
在一个小型 Transformer 的参数上，比较我们的优化器与 PyTorch 的优化器走一步的用时。

    python chapter_03_optimization_regularization/benchmark.py      # 1 min on 2 CPU cores

No network runs: the tensors have a Transformer's sizes, and their gradients are random numbers. Those that are compared
take turns in one process, each on tensors of its own, and must end at the same numbers. AdamW is timed on two other
sets of ten million numbers as well, one large tensor and a hundred of 100,000: ratios depend on the sizes.

PyTorch's default Adam takes new memory for its square roots in every step. Whether that is memory that the process has
kept, or pages that the system must hand out and clear first, can double its time: on a CPU that ratio is the least
certain one.
"""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from chapter_03_optimization_regularization import optimizers
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results
from utils.spread import over_seeds
from utils.timer import compare_times

LR = 1e-3
CLASSES = {
    "adamw": ("AdamW", {}),
    "sgd": ("SGD", {"momentum": 0.9}),
    "adam": ("Adam", {}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "adagrad": ("Adagrad", {}),
    "adadelta": ("Adadelta", {}),
    "rmsprop": ("RMSprop", {}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
    "lion": ("Lion", {}),
    "muon": ("Muon", {}),
}
RACES = 5  # over AdamW's other tensors; the spread of their ratios says how far one can be trusted
VARIANTS = {"adamw": ("foreach", "fused"), "sgd": ("foreach", "fused")}  # PyTorch's other implementations
LABELS = {"sgd": "SGD with\nmomentum", "amsgrad": "AMSGrad"}  # where it is not the class's name
COLOUR_OF = {"ours": COLOURS[1], "default": COLOURS[0], "foreach": COLOURS[5], "fused": COLOURS[2]}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--rounds", type=positive, default=50, help="how often each step is timed (Muon's: a tenth)")
    parser.add_argument("--width", type=positive, default=384, help="numbers that stand for a token")
    parser.add_argument("--blocks", type=positive, default=6, help="Transformer blocks")
    parser.add_argument("--numbers", type=positive, default=10_000_000, help="in one tensor, or in a hundred together")
    args = begin(parser, argv, dry_run={"rounds": 2, "width": 16, "blocks": 1, "numbers": 10_000})

    shapes = transformer_shapes(args.width, args.blocks)
    times, final = {}, {"parameters": sum(torch.Size(shape).numel() for shape in shapes)}
    print(f"{final['parameters']:,} parameters in {len(shapes)} tensors; milliseconds a step")
    print(f"{'':10}{'ours':>8}{'default':>9}{'foreach':>9}{'fused':>8}{'ours / default':>16}")
    for name in CLASSES:
        if name == "muon":  # takes matrices alone, and so long that a tenth of the rounds will do
            matrices = [shape for shape in shapes if len(shape) == 2]
            times[name] = race(name, matrices, max(1, args.rounds // 10), args.seed, args.device)
        else:
            times[name] = race(name, shapes, args.rounds, args.seed, args.device)
        for who, seconds in times[name].items():
            final[f"{name}_seconds" if who == "ours" else f"{name}_{who}_seconds"] = seconds
            if who != "ours":
                ratio = f"{name}_ratio" if who == "default" else f"{name}_{who}_ratio"
                final[ratio] = times[name]["ours"] / seconds
        print(row(name, times[name]))
    for name, sizes in {"one": [(args.numbers,)], "many": 100 * [(max(1, args.numbers // 100),)]}.items():
        final |= repeated_race(name, sizes, args.rounds, args.seed, args.device)
    write_results(args.out_dir / "optimizer_speed.json", args, final)
    for name, what in (("", "these tensors"), ("_one", "one large tensor"), ("_many", "a hundred of a hundredth each")):
        print(f"AdamW's time on {what}: {final[f'adamw{name}_ratio']:.2f} of PyTorch's default")
    print(f"wrote {plot(times, args.out_dir / 'optimizer_speed.png')}")


def transformer_shapes(width: int, blocks: int, vocabulary: int = 256, context: int = 256) -> list[tuple[int, ...]]:
    """Return the sizes of a GPT's tensors: two embeddings, and in each block attention, feed-forward and two norms."""
    attention = [(3 * width, width), (3 * width,), (width, width), (width,)]
    feed_forward = [(4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    norms = 2 * [(width,), (width,)]
    return [(vocabulary, width), (context, width), *(attention + feed_forward + norms) * blocks]


def race(
    name: str,
    shapes: list[tuple[int, ...]],
    rounds: int,
    seed: int,
    device: torch.device,
    variants: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """Return the median seconds of a step of "ours", and of PyTorch's "default" and variants if it has any."""
    kind, settings = CLASSES[name]
    contenders = {"ours": getattr(optimizers, kind)(tensors(shapes, seed, device), lr=LR, **settings)}
    if theirs := getattr(torch.optim, kind, None):  # there is no Lion, and in older versions no Muon
        contenders["default"] = theirs(tensors(shapes, seed, device), lr=LR, **settings)
        for variant in VARIANTS.get(name, ()) if variants is None else variants:
            contenders[variant] = theirs(tensors(shapes, seed, device), lr=LR, **settings, **{variant: True})
    steps: dict[str, Callable] = {who: optimizer.step for who, optimizer in contenders.items()}
    seconds = compare_times(steps, rounds, warmup=max(1, rounds // 10))
    ends = {who: optimizer.param_groups[0]["params"] for who, optimizer in contenders.items()}
    for who, end in ends.items():
        assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(end, ends["ours"], strict=True)), (
            f"{name}: {who} ends elsewhere than ours"
        )
    return seconds


def repeated_race(
    name: str, shapes: list[tuple[int, ...]], rounds: int, seed: int, device: torch.device
) -> dict[str, float]:
    """Race AdamW against PyTorch's default several times; return the mean ratio, its spread, and our seconds a step."""
    rows = []
    for _ in range(RACES):
        seconds = race("adamw", shapes, max(1, rounds // RACES), seed, device, variants=())
        ratio = seconds["ours"] / seconds["default"]
        rows.append({f"adamw_{name}_ratio": ratio, f"adamw_{name}_seconds": seconds["ours"]})
    return over_seeds(rows)


def tensors(shapes: list[tuple[int, ...]], seed: int, device: torch.device) -> list[Tensor]:
    """Return parameters with gradients, the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    params = [(0.02 * torch.randn(shape, generator=generator)).to(device).requires_grad_() for shape in shapes]
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator).to(device)
    return params


def row(name: str, times: dict[str, float]) -> str:
    cells = [f"{1e3 * times[who]:.2f}" if who in times else "" for who in COLOUR_OF]
    ratio = f"{times['ours'] / times['default']:.2f}" if "default" in times else ""
    return f"{name:10}{cells[0]:>8}{cells[1]:>9}{cells[2]:>9}{cells[3]:>8}{ratio:>16}"


def plot(times: dict[str, dict[str, float]], path: Path) -> Path:
    """Draw bars: on the left the two with variants, on the right the others against PyTorch's default."""
    figure, panels = new_figure(9.5, 4.2, ncols=2)
    others = [name for name in times if name not in VARIANTS and name != "muon"]  # whose products take far longer
    for axes, names in zip(panels, (list(VARIANTS), others), strict=True):
        shown = [who for who in COLOUR_OF if any(who in times[name] for name in names)]
        height = 0.8 / len(shown)
        for i, who in enumerate(shown):
            places = [k + (i - (len(shown) - 1) / 2) * height for k, name in enumerate(names) if who in times[name]]
            milliseconds = [1e3 * times[name][who] for name in names if who in times[name]]
            label = who if who == "ours" else f"PyTorch, {who}"
            bars = axes.barh(places, milliseconds, height, color=COLOUR_OF[who], label=label)
            axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        axes.set_yticks(range(len(names)), [LABELS.get(name, CLASSES[name][0]) for name in names])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="time of a step (ms)", xlim=(0, 1.12 * axes.dataLim.x1))
    panels[0].legend(loc="lower right", frameon=False)
    return save_figure(figure, path)


if __name__ == "__main__":
    run(main)
