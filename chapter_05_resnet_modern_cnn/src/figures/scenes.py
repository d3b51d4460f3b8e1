"""The scenes that draw_images.py paints: chapter 4's figures, and a monkey, in a landscape.
draw_images.py 所画的场景：第 4 章的那些角色，再加一只猴子，放进风景里。

The figures' outlines are written down by hand; grass, leaves, waves and clouds are scattered by a generator.
"""

from collections.abc import Callable

import numpy as np

from chapter_04_cnn_classic.figures.drawing import Shape, Stops, limb, oval, smooth
from chapter_04_cnn_classic.figures.outlines import (
    AIRPLANE,
    AUTOMOBILE,
    BIRD,
    CAT,
    DEER,
    DOG,
    HORSE,
    SHIP,
    TRUCK,
    both,
)
from chapter_05_resnet_modern_cnn.src.figures.painting import Layer

HORIZON = 50  # the height at which grass and waves are smallest

Dice = np.random.Generator
Scene = tuple[Stops, list[Layer]]
GREENS = ["#3d6b26", "#56862f", "#79a53f", "#98bb52"]
DARK_GREENS = ["#22451f", "#2f5a28", "#3f6f30", "#56873a"]
DRY_GREENS = ["#4a6127", "#7f9440", "#9caa55", "#b9bb6e"]
AUTUMN = ["#6b5a2a", "#8a7433", "#5d6b2c", "#a08a45"]

MONKEY = [
    (limb((64, 80, 5), (80, 87, 5), (92, 78, 4.6), (93, 62, 4.2), (85, 54, 3.8), (79, 60, 3.2), (83, 66, 2.4)),
     "#7a5433", "#5f3f25"),  # tail
    (smooth((50, 42), (64, 50), (71, 68), (66, 85), (50, 89), (34, 85), (29, 68), (36, 50)), "#8f6640", "#6b4729"),
    (smooth((50, 52), (59, 60), (62, 73), (50, 83), (38, 73), (41, 60)), "#d8b58a", "#b98f63"),
    *both(smooth((36, 68), (25, 66), (18, 76), (24, 87), (38, 87), (44, 78)), "#8a613c", "#644126"),  # legs
    *both(oval(31, 89, 9, 3.8, -6), "#d9ab85", "#b3825c"),
    *both(limb((37, 54, 10), (26, 65, 9), (29, 79, 7.5)), "#946a43", "#74502f"),  # arms
    *both(oval(30, 81, 4.6, 4), "#d9ab85", "#b3825c"),
    *both(oval(26, 29, 8, 9), "#7d5836", "#5f4026"),  # ears
    *both(oval(26.5, 29.5, 5, 6), "#dfb08c", "#c08e68"),
    (smooth((50, 7), (64, 10), (73, 22), (72, 37), (62, 49), (50, 52), (38, 49), (28, 37), (27, 22), (36, 10)),
     "#946a43", "#74502f"),
    (smooth((50, 8), (46, 3), (50, 5), (51, 1), (54, 5), (57, 4), (55, 9)), "#7a5433"),
]  # fmt: skip

FACE = [
    (smooth((50, 21), (57, 15), (65, 19), (67, 29), (63, 35), (66, 42), (60, 49), (50, 51), (40, 49), (34, 42),
            (37, 35), (33, 29), (35, 19), (43, 15)), "#efc9a4", "#d6a67c"),
    *both(limb((36.5, 20.5, 1), (41.5, 17.8, 1.7), (46, 18.4, 1)), "#7a5433"),
    *both(oval(42, 26.5, 4.6, 4.8), "#fdf6ea"),
    *both(oval(42.4, 27, 3.4, 3.7), "#5a371c"),
    *both(oval(42.4, 27, 2, 2.3), "#130c08"),
    *[(oval(x, 25.4, 1, 1), "#ffffff") for x in (41.5, 56.5)],
    (smooth((50, 33), (55, 35), (53, 37.5), (47, 37.5), (45, 35)), "#c48f6c", "#a8734f"),
    *both(oval(48, 36.4, 0.9, 0.7, 30), "#4a2a18"),
    *both(limb((50, 44.8, 1.1), (44, 43.8, 1.1), (39.5, 40.5, 0.6)), "#7a4630"),
]  # fmt: skip


def pick(dice: Dice, colours: list[str]) -> str:
    return colours[int(len(colours) * dice.random())]


def place(shapes: list[Shape], scale: float, x: float, y: float) -> list[Shape]:
    """Shrink shapes about the middle of the picture, then move them."""
    return [([(50 + scale * (u - 50) + x, 50 + scale * (v - 50) + y) for u, v in p], *c) for p, *c in shapes]


def flip(shapes: list[Shape]) -> list[Shape]:
    return [([(100 - u, v) for u, v in polygon], *colours) for polygon, *colours in shapes]


def shadow(x: float, y: float, rx: float, ry: float) -> Layer:
    return Layer([(oval(x, y, rx, ry), "#101808a0")], blur=1.6)


def cloud(dice: Dice, x: float, y: float, size: float) -> list[Shape]:
    """A heap of puffs, flat below."""
    puffs = []
    for _ in range(16):
        along = 2 * dice.random() - 1
        r = size * (0.25 + 0.35 * (1 - along**2) * (0.5 + 0.5 * dice.random()))
        puffs.append((oval(x + 1.3 * size * along, y - 0.6 * r, 1.2 * r, r), "#ffffff", "#dbe4ee"))
    return puffs


def crowns(dice: Dice, top: float, bottom: float, count: int, size: float, colours: list[str]) -> list[Shape]:
    """The leaves of far trees, as blots."""
    blots = []
    for _ in range(count):
        r = size * (0.6 + 0.8 * dice.random())
        x, y = 110 * dice.random() - 5, top + (bottom - top) * dice.random()
        blots.append((oval(x, y, r, 0.8 * r), pick(dice, colours), pick(dice, colours)))
    return blots


def leaves(dice: Dice, count: int, size: float, colours: list[str]) -> list[Shape]:
    """Pointed leaves all over the picture."""
    shapes = []
    for _ in range(count):
        x, y, angle = 110 * dice.random() - 5, 110 * dice.random() - 5, 6.3 * dice.random()
        r = size * (0.6 + 0.8 * dice.random())
        u, v = r * np.cos(angle), r * np.sin(angle)
        tip, end, side = (x + u, y + v), (x - u, y - v), 0.35
        shapes.append(
            (smooth(tip, (x - side * v, y + side * u), end, (x + side * v, y - side * u)), pick(dice, colours))
        )
    return shapes


def grass(dice: Dice, top: float, bottom: float, count: int, colours: list[str]) -> list[Shape]:
    """Blades that stand between two heights, from far to near, and the nearer the longer."""
    blades = []
    for share in np.sort(dice.random(count)):
        x, y = 104 * dice.random() - 2, top + (bottom - top) * share**1.3
        near = max(y - HORIZON, 0) / (100 - HORIZON)
        height, width = (0.8 + 7 * near) * (0.5 + dice.random()), 0.3 + 0.8 * near
        lean = height * (dice.random() - 0.5)
        joints = (x, y, width), (x + lean / 3, y - height / 2, 0.8 * width), (x + lean, y - height, 0.1)
        blades.append((limb(*joints), pick(dice, colours[1:]), colours[0]))
    return blades


def waves(dice: Dice, top: float, bottom: float, count: int) -> list[Shape]:
    """Light and dark streaks that lie between two heights, from far to near, and the nearer the wider."""
    shapes = []
    for share in np.sort(dice.random(count)):
        x, y = 120 * dice.random() - 10, top + (bottom - top) * share**1.3
        near = max(y - HORIZON, 0) / (100 - HORIZON)
        half, rise = (1 + 7 * near) * (0.6 + 0.8 * dice.random()), 0.2 + 0.8 * near
        colour = pick(dice, ["#a9d3eac0", "#6fa9ce90", "#123c66a0", "#0e3157a0"])
        shapes.append((smooth((x - half, y), (x, y - rise), (x + half, y), (x, y + 0.4 * rise)), colour))
    return shapes


def asphalt(dice: Dice, top: float, count: int) -> list[Shape]:
    """The road's grains, and its white line."""
    grains = []
    for near in np.sort(dice.random(count)):
        x, y, r = 100 * dice.random(), top + (100 - top) * near, 0.15 + 0.4 * near
        grains.append((oval(x, y, 1.6 * r, 0.6 * r), pick(dice, ["#ffffff28", "#00000038", "#d8d0c020"])))
    line = [([(x, 94), (x + 26, 94), (x + 25, 97), (x - 2, 97)], "#e8e6dcd0") for x in (-12, 34, 80)]
    return [*line, *grains]


def road(dice: Dice) -> Scene:
    """Sky, trees, a verge and a road: for both vehicles."""
    background = [(0, "#5d9fdd"), (38, "#d6e6f0"), (58, "#6f9350"), (62, "#8d8c8a"), (100, "#5c5d61")]
    return background, [
        Layer([*cloud(dice, 24, 16, 11), *cloud(dice, 78, 11, 8)], relief=0.5, blur=1),
        Layer(
            [(smooth((-10, 60), (15, 30), (45, 38), (80, 27), (115, 40), (110, 62)), "#8fa9bd", "#a9bfae")], blur=0.6
        ),
        Layer(crowns(dice, 40, 54, 60, 6, DARK_GREENS), relief=0.9, blur=1.1),
        Layer(grass(dice, 54, 63, 160, GREENS), blur=0.3),
        Layer([([(-1, 62), (101, 62), (101, 101), (-1, 101)], "#8d8c8a", "#5c5d61"), *asphalt(dice, 62, 500)]),
    ]


def airplane(dice: Dice) -> Scene:
    low = [s for x, y, size in ((8, 97, 15), (48, 102, 16), (88, 96, 14)) for s in cloud(dice, x, y, size)]
    return [(0, "#1f66b8"), (60, "#7db6e6"), (100, "#d8e9f4")], [
        Layer([*cloud(dice, 82, 20, 9), *cloud(dice, 22, 13, 6)], relief=0.5, blur=1.4),
        Layer(low, relief=0.6, blur=0.9),
        Layer(place(AIRPLANE, 0.96, 1, -2), relief=0.9, gloss=0.25),
    ]


def bird(dice: Dice) -> Scene:
    return [(0, "#a9c77f"), (100, "#4f7a3a")], [
        Layer(crowns(dice, -5, 105, 90, 11, ["#5f8f3f", "#87b053", "#b5d07c", "#d9e6a6", "#3f6e35"]), blur=4),
        Layer(leaves(dice, 26, 8, ["#4f8036", "#6f9e45", "#93ba5c"]), relief=0.5, blur=1.6),
        Layer(place(BIRD, 0.98, 0, 0), relief=1, fur=0.045),
    ]


def car(dice: Dice) -> Scene:
    background, layers = road(dice)
    return background, [*layers, shadow(50, 83, 48, 4), Layer(AUTOMOBILE, relief=1, gloss=0.45)]


def cat(dice: Dice) -> Scene:
    window = [
        ([(56, -2), (98, -2), (98, 44), (56, 44)], "#f4efe4", "#e6dccb"),
        ([(59, -2), (95, -2), (95, 41), (59, 41)], "#bfe0f5", "#b9d79a"),
        *[s for s in crowns(dice, 24, 40, 26, 4, GREENS) if 61 < s[0][0][0] - 4 < 90],
        ([(75.5, -2), (78.5, -2), (78.5, 41), (75.5, 41)], "#f4efe4"),
    ]
    seams = [(limb((50 + 1.1 * x, 73, 0.3), (50 + 2.4 * x, 101, 0.7)), "#5d3a20") for x in range(-48, 49, 12)]
    planks = [([(-1, 73), (101, 73), (101, 101), (-1, 101)], "#b98556", "#8f5d36"), *seams]
    return [(0, "#cdb79a"), (70, "#b59a7a"), (100, "#8a6a4c")], [
        Layer(window, relief=0.5, blur=1.3),
        Layer([([(-1, 69), (101, 69), (101, 73), (-1, 73)], "#f0e6d6", "#c9b89c")], relief=0.5, blur=0.5),
        Layer(planks, fur=0.03, blur=0.3),
        shadow(54, 94, 42, 5),
        Layer(place(CAT, 0.97, 0, 1), relief=1, fur=0.055),
    ]


def deer(dice: Dice) -> Scene:
    trunks = [
        (limb((x, -2, w), (x + 1, 62, 1.3 * w)), pick(dice, ["#6d5a45", "#5a4836", "#7d6a52"]))
        for x, w in ((5, 5), (18, 2.5), (30, 3.5), (44, 2.5), (57, 4), (70, 2.5), (95, 6))
    ]
    return [(0, "#c9d7a4"), (56, "#8fa568"), (56, "#8f9a4a"), (100, "#56742f")], [
        Layer(crowns(dice, -5, 30, 60, 8, [*AUTUMN, "#7f9a4a", "#c2cf86"]), blur=2.5),
        Layer(trunks, relief=1, blur=1),
        Layer(crowns(dice, 52, 58, 26, 5, ["#5d7a35", "#788f42", "#465f2a"]), relief=0.8, blur=1.2),
        Layer(grass(dice, 57, 104, 420, DRY_GREENS)),
        shadow(47, 92, 32, 3.5),
        Layer(place(DEER, 0.98, 0, 0), relief=1, fur=0.05),
        Layer(grass(dice, 94, 106, 40, DRY_GREENS)),
    ]


def dog(dice: Dice) -> Scene:
    return [(0, "#8fc0e6"), (44, "#dcebf2"), (50, "#6f9a45"), (100, "#4b772f")], [
        Layer(crowns(dice, 22, 48, 70, 8, DARK_GREENS), relief=0.9, blur=2.2),
        Layer(grass(dice, 50, 104, 420, GREENS), blur=0.2),
        shadow(52, 94, 40, 5),
        Layer(place(DOG, 0.97, 0, 0), relief=1, fur=0.05),
        Layer(grass(dice, 96, 108, 40, GREENS)),
    ]


def horse(dice: Dice) -> Scene:
    rails = [(limb((-2, y, 1.6), (102, y + 1, 1.6)), "#efe9dc", "#cfc5b2") for y in (46, 53)]
    posts = [(limb((x, 41, 2.6), (x, 61, 2.8)), "#f3eee3", "#c9bfab") for x in (4, 36, 68, 97)]
    return [(0, "#4f97dc"), (40, "#d3e6f2"), (44, "#86a85a"), (100, "#4f7d33")], [
        Layer([*cloud(dice, 26, 18, 10), *cloud(dice, 58, 8, 6)], relief=0.5, blur=1.2),
        Layer(
            [(smooth((-10, 50), (20, 33), (55, 40), (90, 30), (115, 40), (110, 50)), "#7f9fae", "#9ab59a")], blur=0.8
        ),
        Layer(crowns(dice, 40, 46, 40, 4, DARK_GREENS), relief=0.9, blur=1),
        Layer([*rails, *posts], relief=0.8, blur=0.5),
        Layer(grass(dice, 50, 104, 420, GREENS)),
        shadow(47, 93, 36, 3.5),
        Layer(place(HORSE, 0.97, 0, 1), relief=1, gloss=0.12, fur=0.035),
        Layer(grass(dice, 95, 107, 40, GREENS)),
    ]


def monkey(dice: Dice) -> Scene:
    branch = [
        (limb((-4, 92, 9), (30, 90, 9.5), (66, 91, 9), (104, 86, 7)), "#8a6a48", "#4a3522"),
        (limb((80, 88, 4), (90, 96, 3), (97, 104, 2)), "#7a5c3d", "#4a3522"),
    ]
    return [(0, "#7fae55"), (100, "#2a4f25")], [
        Layer(crowns(dice, -5, 105, 90, 12, [*DARK_GREENS, "#86b04f", "#c4dc8b"]), blur=3.5),
        Layer(leaves(dice, 60, 9, [*DARK_GREENS, "#6f9e45"]), relief=0.7, blur=1.2),
        Layer(branch, relief=1, fur=0.1),
        Layer(place(MONKEY, 0.97, 0, -1), relief=1, fur=0.08),
        Layer(place(FACE, 0.97, 0, -1), relief=1),
        Layer([s for s in leaves(dice, 70, 8, ["#4f8036", "#6f9e45", "#86b04f"]) if s[0][0][1] > 94 or s[0][0][0] < 5],
              relief=0.8, blur=0.3),
    ]  # fmt: skip


def ship(dice: Dice) -> Scene:
    below = [([(x, 160 - y) for x, y in p], *(f"{c}b0" for c in colours[::-1])) for p, *colours in SHIP[-3:]]
    coast = smooth((-8, 64), (8, 56), (24, 58), (42, 61), (60, 63), (110, 60), (110, 64))
    return [(0, "#4c93d8"), (60, "#e3eef3"), (62, "#5c97bd"), (100, "#123f6e")], [
        Layer([*cloud(dice, 80, 22, 10), *cloud(dice, 16, 30, 8), *cloud(dice, 92, 46, 7)], relief=0.5, blur=1.2),
        Layer([(coast, "#86a3ad", "#6d8f8c")], blur=0.5),
        Layer(waves(dice, 62, 80, 160)),
        Layer(below, blur=1.5),
        Layer(SHIP, relief=0.9, gloss=0.15),
        Layer(waves(dice, 79, 104, 110)),
    ]


def truck(dice: Dice) -> Scene:
    background, layers = road(dice)
    return background, [*layers, shadow(50, 86, 49, 4), Layer(place(flip(TRUCK), 0.98, 0, 0), relief=0.9, gloss=0.3)]


SCENES: dict[str, Callable[[Dice], Scene]] = {
    scene.__name__: scene for scene in (airplane, bird, car, cat, deer, dog, horse, monkey, ship, truck)
}
