"""Draw the theory's pictures: a network unrolled, gradients that shrink, a gate that holds, the scan's tree.
绘制理论部分的插图：展开的网络、逐步缩小的梯度、能保持记忆的门、扫描的合并树。

    python chapter_06_rnn_lstm_seq/visualize.py      # 10 s
    python chapter_06_rnn_lstm_seq/visualize.py --parts theory
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chapter_06_rnn_lstm_seq.figures.theory import THEORY_PICTURES
from utils.cli import add_output_flags, begin, run, script_parser
from utils.plotting import save_figure

PARTS = ["theory"]


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__)
    add_output_flags(parser)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="which figures to draw")
    args = begin(parser, argv, dry_run={})
    if "theory" in args.parts:
        for name, draw in THEORY_PICTURES.items():
            print(f"wrote {save_figure(draw(), args.out_dir / f'theory_{name}.png')}")


if __name__ == "__main__":
    run(main)
