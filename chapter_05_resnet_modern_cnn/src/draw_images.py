"""Draw a picture of each class of STL-10: chapter 4's figures, and a monkey, in a landscape with light and depth.
为 STL-10 的每一类画一张图：第 4 章的那些角色，再加一只猴子，放进有光影、有远近的风景里。

    python chapter_05_resnet_modern_cnn/src/draw_images.py    # 10 s

The figures' outlines are written down by hand; grass, leaves, waves and clouds are scattered by a generator.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PIL import Image

from chapter_05_resnet_modern_cnn.src.figures.painting import paint
from chapter_05_resnet_modern_cnn.src.figures.scenes import SCENES
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.file_io_util import atomic_write


def paint_scene(name: str, side: int, seed: int = 0) -> Image.Image:
    """Return the picture of a class."""
    dice = np.random.default_rng([seed, list(SCENES).index(name)])
    background, layers = SCENES[name](dice)
    return paint(background, layers, side, dice)


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    parser.add_argument("--side", type=positive, default=192, help="pixels along each edge")
    args = begin(parser, argv, dry_run={"side": 32})
    for name in SCENES:
        with atomic_write(args.out_dir / f"{name}.png") as path:
            paint_scene(name, args.side, args.seed).save(path, optimize=True)
    print(f"wrote {len(SCENES)} pictures to {args.out_dir}")


if __name__ == "__main__":
    run(main)
