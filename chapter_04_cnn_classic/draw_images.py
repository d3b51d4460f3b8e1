"""Draw one simple picture of each class of CIFAR-10, for inference on something that is no photograph.
为 CIFAR-10 的每一类各画一张简单的图，看看网络如何认出不是照片的东西。

    python chapter_04_cnn_classic/draw_images.py    # 3 s
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chapter_04_cnn_classic.figures.drawing import Shape, Stops, draw, oval, smooth
from chapter_04_cnn_classic.figures.outlines import (
    AIRPLANE,
    AUTOMOBILE,
    BIRD,
    CAT,
    DEER,
    DOG,
    FROG,
    HORSE,
    SHADOW,
    SHIP,
    TRUCK,
)
from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.file_io_util import atomic_write

MEADOW = [(0, "#7db7e8"), (42, "#d9ecf5"), (42, "#6f9c4c"), (52, "#86b457"), (100, "#4f8238")]
ROAD = [(0, "#8fc1ea"), (40, "#dceaf2"), (40, "#5f7f4a"), (60, "#76965a"), (60, "#8b8d92"), (100, "#5e6066")]

FOLIAGE = [
    *[(oval(x, y, r, r), colour) for x, y, r, colour in (
        (12, 20, 16, "#a9c98a"), (80, 14, 20, "#9cc07c"), (90, 60, 17, "#86ae68"), (20, 72, 18, "#7ea461"))],
]  # fmt: skip

FLOOR = [
    ([(0, 74), (100, 74), (100, 100), (0, 100)], "#a9744a", "#7d5030"),
]

FOREST = [
    ([(0, 0), (100, 0), (100, 60), (0, 60)], "#a8c49a", "#7f9f6c"),
    *[([(x, 0), (x + w, 0), (x + w + 1, 58), (x - 1, 58)], "#6d5a45", "#4f3f2e")
      for x, w in ((4, 5), (20, 3), (38, 4), (56, 3), (92, 6))],
    ([(0, 56), (100, 54), (100, 100), (0, 100)], "#8fae5b", "#5f8038"),
]  # fmt: skip

PASTURE = [
    *[(oval(x, 42, 14, 7), "#5d8a43", "#4c7636") for x in (6, 26, 88)],
    ([(0, 43), (100, 43), (100, 100), (0, 100)], "#86b457", "#4f8238"),
]

WAVES = [
    *[(smooth((x, y), (x + 7, y - 2), (x + 14, y), (x + 7, y + 1)), "#dceff8") for x, y in (
        (6, 81), (24, 82), (44, 81), (62, 82), (80, 81), (2, 92), (36, 94), (70, 91))],
]  # fmt: skip

PARK = [(0, "#9cc1d9"), (45, "#cfe0e6"), (45, "#7fa653"), (100, "#587f3a")]
SEA = [(0, "#7db4e6"), (62, "#dcecf6"), (62, "#3f7fae"), (100, "#1f4f7d")]


def cloud(x: float, y: float, size: float) -> list[Shape]:
    puffs = [(-1.2, 0.1, 0.9, 0.4), (-0.4, -0.25, 0.8, 0.6), (0.5, -0.1, 0.9, 0.5), (1.3, 0.15, 0.7, 0.3)]
    return [(oval(x + size * u, y + size * v, size * a, size * b), "#ffffff", "#e3edf5") for u, v, a, b in puffs]


# The figures stand in later pictures too; what is around them is of this chapter alone.
SCENES: dict[str, tuple[Stops, list[Shape]]] = {
    "airplane": (
        [(0, "#4f97dc"), (100, "#cfe6f7")],
        [*cloud(22, 80, 10), *cloud(78, 88, 8), *cloud(80, 14, 6), *AIRPLANE],
    ),
    "automobile": (ROAD, [(oval(50, 80, 47, 5), SHADOW), *AUTOMOBILE]),
    "bird": ([(0, "#c3dcae"), (100, "#8fb372")], [*FOLIAGE, *BIRD]),
    "cat": ([(0, "#d9cbb8"), (100, "#b8a48c")], [*FLOOR, (oval(50, 92, 44, 7), SHADOW), *CAT]),
    "deer": (MEADOW, [*FOREST, (oval(46, 92, 34, 4), SHADOW), *DEER]),
    "dog": (PARK, [(oval(50, 94, 40, 6), SHADOW), *DOG]),
    "frog": ([(0, "#7b6a45"), (100, "#54432a")], FROG),
    "horse": (MEADOW, [*PASTURE, (oval(46, 93, 38, 4), SHADOW), *HORSE]),
    "ship": (SEA, [*cloud(80, 18, 8), *SHIP, *WAVES]),
    "truck": (ROAD, [(oval(50, 84, 48, 5), SHADOW), *TRUCK]),
}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    parser.add_argument("--side", type=positive, default=256, help="pixels along each edge")
    args = begin(parser, argv, dry_run={"side": 32})
    for name, (background, shapes) in SCENES.items():
        with atomic_write(args.out_dir / f"{name}.png") as path:
            draw(background, shapes, args.side).save(path, optimize=True)
    print(f"wrote {len(SCENES)} pictures to {args.out_dir}")


if __name__ == "__main__":
    run(main)
