"""Draw the pictures of the theory, and measure what it quotes; draw the results of the chapter's experiments.
画出理论部分的插图，并测出文中引用的数值；画出本章各项实验的结果。

    python chapter_09_efficient_attention/visualize.py    # about half a minute
    python chapter_09_efficient_attention/visualize.py --parts benchmark quality capacity    # from results/*.json
    python chapter_09_efficient_attention/visualize.py --parts capacity --results_dir my_run    # from a run of yours
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_09_efficient_attention.costs import fitted_exponent
from chapter_09_efficient_attention.figures import caches, cost, memory, patterns, states, tiles
from chapter_09_efficient_attention.figures.benchmark import draw_growth
from chapter_09_efficient_attention.figures.capacity import draw_capacity
from chapter_09_efficient_attention.figures.quality import draw_quality
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.errors import UserError
from utils.plotting import save_figure
from utils.results import write_results

from matplotlib.figure import Figure

CHAPTER = Path(__file__).resolve().parent
STATE_ROWS = 32
N_PAIRS = [1, 2, 4, 8, 16, 24, 33, 48, 64]  # keys and values that a state is to remember
N_FEATURES = [4, 16, 64, 256, 1024]
TINY = {"trials": 2, "draws": 200}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to draw")
    parser.add_argument("--trials", type=positive, default=200, help="sets of random pairs to average recall over")
    parser.add_argument("--draws", type=positive, default=10000, help="sets of random features that errors are from")
    parser.add_argument("--results_dir", type=Path, default=CHAPTER / "results", help="where experiments wrote theirs")
    args = begin(parser, argv, dry_run=TINY)
    for part in dict.fromkeys(args.parts):
        for path in PARTS[part](args):
            print(f"wrote {path}")


def theory(args: argparse.Namespace) -> list[Path]:
    """The pictures of the README's theory; nothing in them was trained."""
    generator = torch.Generator().manual_seed(args.seed)
    recall = memory.measure_recall(N_PAIRS, STATE_ROWS, args.trials, generator)
    singles, errors = memory.measure_features(N_FEATURES, args.draws, generator)
    final = {"state_rows": STATE_ROWS, "trials": args.trials, "draws": args.draws, "pairs": N_PAIRS}
    final |= {f"{name}_error_{n}": error for name, row in recall.items() for n, error in zip(N_PAIRS, row, strict=True)}
    final |= {"features": N_FEATURES, "feature_errors": errors["at right angles"]}
    final["feature_slope"] = fitted_exponent(N_FEATURES, errors["at right angles"])
    path = args.out_dir / "theory.json"
    write_results(path, args, final)
    drawn = {
        "kept": cost.kept(),
        "squares": cost.growing(),
        "roofline": cost.roofline(),
        "heads": caches.heads(),
        "rotation": caches.rotation(),
        "latent": caches.latent(),
        "pages": caches.pages(),
        "online": tiles.online(),
        "tiles": tiles.tiles(),
        "reach": patterns.reach(),
        "patterns": patterns.patterns(),
        "shapes": states.shapes(),
        "features": memory.features(N_FEATURES, singles, errors),
        "forms": states.forms(),
        "decay": states.decay(),
        "delta": memory.delta(),
        "holds": memory.holds(N_PAIRS, recall, STATE_ROWS),
        "growth": cost.growth(),
    }
    return [path, *(save_figure(figure, args.out_dir / f"{name}.png") for name, figure in drawn.items())]


def measured(name: str, draw: Callable[[dict], Figure], made_by: str, args: argparse.Namespace) -> list[Path]:
    """The figure of an experiment's results; where these are not there yet, a line says what makes them.

    Raises:
        UserError: the file is there, but is not such results.
    """
    path = args.results_dir / f"{name}.json"
    if not path.exists():
        print(f"{path} is not there: chapter_09_efficient_attention/{made_by} makes it")
        return []
    try:
        figure = draw(json.loads(path.read_text(encoding="utf-8"))["final"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read: chapter_09_efficient_attention/{made_by} makes it anew") from error
    return [save_figure(figure, args.out_dir / f"{name}.png")]


PARTS = {
    "theory": theory,
    "benchmark": partial(measured, "benchmark", lambda final: draw_growth(final["by_length"]), "benchmark.py"),
    "quality": partial(measured, "quality", draw_quality, "train.py with several names after --attention"),
    "capacity": partial(measured, "capacity", draw_capacity, "capacity.py"),
}


if __name__ == "__main__":
    run(main)
