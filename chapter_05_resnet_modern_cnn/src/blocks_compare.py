"""Seven kinds of block in one skeleton, at the same work a picture: which learns most in the same minutes?
同一副骨架、同样的计算量，换上七种块：训练时间相同，谁学得最多？

    python chapter_05_resnet_modern_cnn/src/blocks_compare.py    # on 2 CPU cores: 45 min
    python chapter_05_resnet_modern_cnn/src/blocks_compare.py --dataset shapes --minutes 0.3    # no download: 4 min

Every network takes about 41 million multiply-accumulates a picture, and is tuned and trained as in chapter 4's
comparison: a family whose work the machine does faster sees more pictures. The test set is read once for each.
"""

import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tqdm import tqdm

from chapter_04_cnn_classic.dataset import DATASETS
from chapter_04_cnn_classic.equal_time import Recipe, load_sets, print_table, tune_and_train
from chapter_05_resnet_modern_cnn.src.figures.blocks import families
from chapter_05_resnet_modern_cnn.src.networks.modern_networks import FAMILIES, build, skeleton
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
from utils.plotting import save_figure
from utils.results import write_results


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    add_data_flag(parser)
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS, help="photographs, or drawn shapes")
    add_train_size_flag(parser)
    parser.add_argument("--minutes", type=amount, default=4.0, help="training time of each network")
    parser.add_argument("--batch_size", type=positive, default=128, help="pictures a step")
    parser.add_argument("--width", type=amount, default=1.0, help="factor on every number of channels")
    add_amp_flag(parser)
    tiny = {"dataset": "shapes", "train_size": 100, "minutes": 0.0003, "batch_size": 10, "width": 0.25, "amp": "off"}
    args = begin(parser, argv, dry_run=tiny)

    sets, classes = load_sets(args.dataset, args.data_root, args.train_size, args.device)
    recipe = Recipe(args.minutes, args.batch_size, amp=args.amp, seed=args.seed)
    table, bar = [], tqdm(FAMILIES, unit="family")
    for family in bar:
        bar.set_description(family)
        row = tune_and_train(build, skeleton(family, len(classes), args.width), sets, recipe)
        table.append({"model": family} | row)
    final = {
        "table": table,
        "minutes": args.minutes,
        "batch_size": args.batch_size,  # what pictures_per_second holds for
        "recipe": asdict(recipe),
        "test_count": len(sets.test[1]),
        "split": "test",
    }
    write_results(args.out_dir / "blocks.json", args, final)
    save_figure(families(table), args.out_dir / "blocks.png")
    print_table(table)
    print(f"written to {args.out_dir}")


if __name__ == "__main__":
    run(main)
