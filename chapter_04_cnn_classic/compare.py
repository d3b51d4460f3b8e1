"""The five architectures at one equal budget: the same minutes each, the same recipe, the same number of trials.
五种架构，同样的预算：训练时间相同，配方相同，调参次数相同。

    python chapter_04_cnn_classic/compare.py    # on 2 CPU cores: 40 min
    python chapter_04_cnn_classic/compare.py --dataset shapes --minutes 0.3    # no download: 2 min
"""

import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from chapter_04_cnn_classic.dataset import DATASETS
from chapter_04_cnn_classic.equal_time import Recipe, load_sets, print_table, tune_and_train
from chapter_04_cnn_classic.model import WIDEST, ModelConfig, build
from utils.cli import (
    add_amp_flag,
    add_data_flag,
    add_output_flags,
    add_train_size_flag,
    amount,
    begin,
    positive,
    run,
    script_parser,
)
from utils.errors import UserError
from utils.plotting import COLOURS, new_figure, save_figure
from utils.results import write_results

from matplotlib.figure import Figure

YEARS = {"lenet": 1998, "alexnet": 2012, "nin": 2013, "vgg": 2014, "inception": 2014}
TITLES = {"lenet": "LeNet-5", "alexnet": "AlexNet", "nin": "Network in Network", "vgg": "VGG", "inception": "Inception"}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS, help="photographs, or drawn shapes")
    add_train_size_flag(parser)
    parser.add_argument("--minutes", type=amount, default=5.0, help="training time of each network")
    parser.add_argument("--batch_size", type=positive, default=128, help="pictures a step")
    parser.add_argument("--width", type=amount, default=1.0, help="factor on every number of channels")
    add_amp_flag(parser)
    tiny = {"dataset": "shapes", "train_size": 100, "minutes": 0.0003, "batch_size": 20, "width": 0.1, "amp": "off"}
    args = begin(parser, argv, dry_run=tiny)

    if args.width > WIDEST:
        raise UserError(f"--width {args.width:g}: at most {WIDEST}")
    sets, classes = load_sets(args.dataset, args.data_root, args.train_size, args.device)
    recipe = Recipe(args.minutes, args.batch_size, amp=args.amp, seed=args.seed)  # mild: in minutes nothing overfits
    table, bar = [], tqdm(YEARS, unit="network")
    for name in bar:
        bar.set_description(name)
        row = tune_and_train(build, ModelConfig(name, len(classes), args.width), sets, recipe)
        table.append({"model": name, "year": YEARS[name]} | row)
    final = {"table": table, "minutes": args.minutes, "test_count": len(sets.test[1]), "split": "test"}
    write_results(args.out_dir / "compare.json", args, final | {"recipe": asdict(recipe)})
    save_figure(draw_costs(table), args.out_dir / "compare.png")
    print_table(table)
    print(f"written to {args.out_dir}")


def draw_costs(table: list[dict]) -> Figure:
    """Draw accuracy against the cost of a picture; the area of a disc shows the parameters."""
    figure, axes = new_figure(6.5, 4)
    for i, (row, colour) in enumerate(zip(table, COLOURS, strict=False)):
        x, y = row["macs"] / 1e6, 100 * row["test_accuracy"]
        axes.scatter(x, y, s=row["parameters"] / 1.5e4 + 15, color=colour, alpha=0.7)
        place = (24, 12 if i % 2 == 0 else -26)  # above and below, in turn: the discs of 2012 and 2013 overlap
        label = f"{TITLES[row['model']]} ({row['year']})"
        axes.annotate(label, (x, y), place, textcoords="offset points", ha="right")
    axes.set(xscale="log", xlabel="multiply-accumulates a picture (millions)", ylabel="test accuracy (%)")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title("the same minutes of training for each; area of a disc: parameters", fontsize=10)
    axes.margins(0.2)
    return figure


if __name__ == "__main__":
    run(main)
