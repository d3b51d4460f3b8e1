"""Draw one simple picture of each garment, for inference without a data set.
画出每类衣物的简单图片，不需要数据集就能试用推理。

    python chapter_01_tensor_autograd/draw_images.py    # 1 s

The outlines are polygons on a 28 x 28 grid, written down by hand here; none comes from Fashion-MNIST.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image, ImageDraw

from utils.cli import add_output_flags, begin, positive, run, script_parser
from utils.file_io_util import atomic_write

Polygon = list[tuple[float, float]]

# Right halves, from the top downwards; `mirrored` adds the left ones.
TORSO = [(14, 4), (18, 3), (20, 4), (20, 25), (14, 25)]
SLEEVE = [(19, 3.5), (23, 6), (27, 22), (23.5, 23), (20, 11)]


def mirrored(half: Polygon) -> Polygon:
    return half + [(28 - x, y) for x, y in reversed(half)]


GARMENTS: dict[str, list[tuple[Polygon, int]]] = {  # name -> polygons with their grey value, painted in turn
    "t_shirt": [(mirrored([(14, 5), (17, 3), (20, 3.5), (27, 8), (25, 13), (20.5, 11), (20.5, 25), (14, 25)]), 200)],
    "trouser": [(mirrored([(14, 2), (19, 2), (20, 26), (15.5, 26), (14, 8)]), 190)],
    "pullover": [(mirrored(TORSO), 150), (SLEEVE, 140), ([(28 - x, y) for x, y in SLEEVE], 140)],
    "dress": [(mirrored([(14, 3), (17, 2), (17.5, 9), (17, 12), (20, 26), (14, 26)]), 190)],
    "coat": [
        (mirrored([(14, 4), (18, 2), (20.5, 4), (21, 27), (14, 27)]), 170),
        (SLEEVE, 160),
        ([(28 - x, y) for x, y in SLEEVE], 160),
        ([(13.4, 4), (14.6, 4), (14.6, 27), (13.4, 27)], 60),
    ],
    "sandal": [
        ([(1, 20), (10, 18), (20, 15), (27, 12), (27, 20), (24, 20), (24, 16), (12, 20), (1, 21.5)], 190),
        ([(5, 19), (9, 13), (12, 13), (9, 19)], 170),
        ([(18, 16), (22, 8), (24, 8), (21, 16)], 170),
    ],
    "shirt": [
        (mirrored([(14, 6), (17, 3), (20, 4), (20, 26), (14, 26)]), 120),
        (SLEEVE, 110),
        ([(28 - x, y) for x, y in SLEEVE], 110),
        ([(13.5, 6), (14.5, 6), (14.5, 26), (13.5, 26)], 200),
        (mirrored([(14, 6), (17, 3), (18, 5), (15, 9)]), 220),
    ],
    "sneaker": [
        ([(1, 17), (7, 15), (14, 11), (18, 10), (21, 12), (26, 11), (27, 19), (1, 19)], 190),
        ([(1, 19), (27, 19), (27, 21), (1, 21)], 240),
    ],
    "bag": [
        ([(3, 11), (25, 11), (26, 25), (2, 25)], 180),
        ([(8, 11), (10, 4), (18, 4), (20, 11), (18, 11), (16.5, 6), (11.5, 6), (10, 11)], 150),
    ],
    "ankle_boot": [
        ([(1, 19), (6, 17), (14, 13), (16, 4), (25, 4), (26, 20), (1, 20)], 190),
        ([(1, 20), (16, 20), (18, 21), (19, 24), (26, 24), (26, 19)], 140),
    ],
}


def main(argv: list[str] | None = None) -> None:
    parser = script_parser(__doc__, __file__, cpu_only=True)
    add_output_flags(parser)
    parser.add_argument("--side", type=positive, default=112, help="pixels along each edge")
    args = begin(parser, argv, dry_run={"side": 28})
    for number, (name, shapes) in enumerate(GARMENTS.items()):
        with atomic_write(args.out_dir / f"{number}_{name}.png") as path:
            draw_garment(shapes, args.side).save(path)
    print(f"wrote {len(GARMENTS)} pictures to {args.out_dir}")


def draw_garment(shapes: list[tuple[Polygon, int]], side: int) -> Image.Image:
    """Paint polygons on black, four times too large, and shrink: that smooths the edges."""
    scale = 4 * side / 28
    picture = Image.new("L", (4 * side, 4 * side))
    pen = ImageDraw.Draw(picture)
    for polygon, grey in shapes:
        pen.polygon([(scale * x, scale * y) for x, y in polygon], fill=grey)
    return picture.resize((side, side), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    run(main)
