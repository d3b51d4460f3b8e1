"""Draw the points of data/ anew: with the seed 0, the ones that ship.
重新生成 data/ 里的数据点：种子为 0 时，与仓库自带的完全相同。

    python chapter_02_nn_basics_mlp/draw_data.py      # 2 s
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from chapter_02_nn_basics_mlp.dataset import SETS, curve, periodic, surface
from utils.cli import add_output_flags, begin, run, script_parser
from utils.file_io_util import atomic_write


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    args = begin(parser, argv, dry_run={})
    draw = {"curve": curve, "surface": surface, "periodic": periodic}
    for name, (n_points, _, _) in SETS.items():
        options = {"outside": True} if name == "periodic_outside" else {}
        x, y = draw[name.split("_")[0]](n_points, **options)
        write_points(args.out_dir / f"{name}.csv", x, y)
    print(f"written to {args.out_dir}: {', '.join(f'{name}.csv' for name in SETS)}")


def write_points(path: Path, x: torch.Tensor, y: torch.Tensor) -> None:
    """Write inputs (N, D) and targets (N, 1) as lines of a CSV file."""
    header = ["x", "y"] if x.shape[1] == 1 else ["x1", "x2", "y"]
    rows = [[f"{value:.5f}" for value in row] for row in torch.cat([x, y], dim=1).tolist()]
    with atomic_write(path) as temporary:
        lines = [",".join(row) + "\n" for row in [header, *rows]]
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    run(main)
