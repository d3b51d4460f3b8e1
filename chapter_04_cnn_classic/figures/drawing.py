"""Vector graphics in a hundred lines: smooth outlines, limbs and ovals, painted with a colour or a fading one.
一百行的矢量画图：光滑的轮廓、四肢、椭圆，填上单色或渐变色。

All coordinates are on a grid of 100 x 100, whatever the picture's size; y points down.
"""

import math

import numpy as np
from PIL import Image, ImageColor, ImageDraw

Polygon = list[tuple[float, float]]
Shape = tuple[Polygon, str] | tuple[Polygon, str, str]  # a polygon and its colour, or the colours at its top and bottom
Stops = list[tuple[float, str]]  # heights and the colours there: a background


def draw(background: Stops, shapes: list[Shape], side: int) -> Image.Image:
    """Paint the shapes in turn on the background, four times too large, and shrink: that smooths the edges."""
    fine = 4 * side
    picture = fade(background, fine)
    for polygon, *colours in shapes:
        heights = [y for _, y in polygon]
        paint = fade([(min(heights), colours[0]), (max(heights), colours[-1])], fine)
        opacity = (*ImageColor.getrgb(colours[0]), 255)[3]
        mask = Image.new("L", picture.size)
        ImageDraw.Draw(mask).polygon([(x * fine / 100, y * fine / 100) for x, y in polygon], fill=opacity)
        picture.paste(paint, mask=mask)
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def fade(stops: Stops, side: int) -> Image.Image:
    """Return a picture whose colour changes from top to bottom, linearly between the stops."""
    y = (np.arange(side) + 0.5) * 100 / side
    heights, names = zip(*stops, strict=True)
    colours = np.array([ImageColor.getrgb(name)[:3] for name in names])  # (n, 3)
    column = np.stack([np.interp(y, heights, channel) for channel in colours.T], axis=1).round().astype(np.uint8)
    return Image.fromarray(column[:, None]).resize((side, side))  # from (side, 1, 3)


def smooth(*points: tuple[float, float], steps: int = 8) -> Polygon:
    """Return a closed curve through the points (Catmull & Rom 1974)."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    p = np.array(points, dtype=float)
    before, after, later = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    curve = []
    for a, b, c, d in zip(before, p, after, later, strict=True):
        curve += (b + t * ((c - a) + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))) / 2).tolist()
    return [(x, y) for x, y in curve]


def oval(x: float, y: float, rx: float, ry: float, tilt: float = 0) -> Polygon:
    """Return an ellipse around (x, y), turned clockwise by `tilt` degrees."""
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    angles = [math.tau * i / 48 for i in range(48)]
    around = [(rx * math.cos(a), ry * math.sin(a)) for a in angles]
    return [(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in around]


def limb(*joints: tuple[float, float, float]) -> Polygon:
    """Return a line through joints (x, y, width), at each as thick as its width says, with round ends."""
    left, right = [], []
    for i, (x, y, width) in enumerate(joints):
        (x0, y0, _), (x1, y1, _) = joints[max(i - 1, 0)], joints[min(i + 1, len(joints) - 1)]
        along = math.atan2(y1 - y0, x1 - x0)
        ends = {0: range(180, 89, -15), len(joints) - 1: range(90, -1, -15)}  # degrees away from the line's direction
        for degrees in ends.get(i, [90]):
            for half, sign in ((left, -1), (right, 1)):
                angle = along + sign * math.radians(degrees)
                half.append((x + width / 2 * math.cos(angle), y + width / 2 * math.sin(angle)))
    return left + right[::-1]


def mirror(polygon: Polygon, x: float = 50) -> Polygon:
    return [(2 * x - u, v) for u, v in polygon]


def turn(shapes: list[Shape], tilt: float) -> list[Shape]:
    """Turn shapes clockwise by `tilt` degrees around the middle of the picture."""
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    return [
        ([(50 + cos * (x - 50) - sin * (y - 50), 50 + sin * (x - 50) + cos * (y - 50)) for x, y in polygon], *colours)
        for polygon, *colours in shapes
    ]
