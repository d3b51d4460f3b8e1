"""Light on flat shapes: each bulges like a cushion, darkens what it lies on, and may be furry or out of focus.
给平面图形打光：每个图形像靠垫一样鼓起，让下面的东西变暗，还可以带绒毛，或者失焦。

All coordinates are chapter 4's: a grid of 100 x 100, y points down.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from chapter_04_cnn_classic.figures.drawing import Polygon, Shape, Stops, fade

FINE = 3  # picture elements to a pixel, along each edge: that smooths the outlines
EDGE = 1 / np.sqrt(2 * np.pi)  # slope of a cushion at a straight outline
HIGHLIGHT, SHARPNESS = 0.5, 0.12  # light, as a share of EDGE, at which a glossy shape mirrors the sun


@dataclass
class Layer:
    shapes: list[Shape]
    relief: float = 0.0  # how strongly the light, which comes from the upper left, models each shape
    gloss: float = 0.0  # brightness of the highlights, from 0 to 1
    fur: float = 0.0  # strength of short vertical streaks
    blur: float = 0.0  # how far out of focus, on the grid of 100


def paint(background: Stops, layers: list[Layer], side: int, dice: np.random.Generator) -> Image.Image:
    """Paint the layers, the farthest first, on a background."""
    fine = FINE * side
    canvas = np.array(fade(background, fine), dtype=np.float32)  # (fine, fine, 3)
    streaks = blur(dice.standard_normal((fine, fine)).astype(np.float32), fine / 500, fine / 110)
    streaks = (streaks / streaks.std())[..., None]
    for layer in layers:
        colour, cover = _paint_layer(layer, fine, streaks)
        if layer.blur:
            width = layer.blur * fine / 100
            colour, cover = blur(colour, width, width), blur(cover, width, width)
        canvas = canvas * (1 - cover) + colour
    small = canvas.reshape(side, FINE, side, FINE, 3).mean(axis=(1, 3))  # (side, side, 3)
    return Image.fromarray(small.clip(0, 255).round().astype(np.uint8))


def _paint_layer(layer: Layer, fine: int, streaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a layer's colours, times how far it covers what is below, and the latter: (fine, fine, 3) and (..., 1)."""
    colour, cover = np.zeros((fine, fine, 3), np.float32), np.zeros((fine, fine, 1), np.float32)
    for polygon, *names in layer.shapes:
        points = np.array(polygon) * fine / 100
        radius = min(0.4 * thickness(polygon), 4.0) * fine / 100
        margin = 2 * radius + 2 if layer.relief else 1
        left, top = np.clip(np.floor(points.min(axis=0) - margin), 0, fine).astype(int)
        right, bottom = np.clip(np.ceil(points.max(axis=0) + margin), 0, fine).astype(int)
        if left >= right or top >= bottom:
            continue  # it lies outside the picture
        here = np.s_[top:bottom, left:right]
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in points], fill=255)
        inside = np.asarray(mask, dtype=np.float32)[..., None] / 255  # (h, w, 1)
        upper, lower = (np.array(ImageColor.getrgb(name)[:3], np.float32) for name in (names[0], names[-1]))
        share = (np.arange(top, bottom) + 0.5 - points[:, 1].min()) / max(np.ptp(points[:, 1]), 1)
        pigment = upper + share.clip(0, 1).astype(np.float32)[:, None, None] * (lower - upper)  # (h, 1, 3)
        pigment = pigment * (1 + layer.fur * streaks[here])
        if layer.relief:
            soft = blur(inside, radius, radius)
            light = slope(radius * soft) / EDGE  # -1 to 1
            pigment = pigment * (1 + 0.45 * layer.relief * light)
            pigment = pigment + 255 * layer.gloss * np.exp(-(((light - HIGHLIGHT) / SHARPNESS) ** 2))
            colour[here] *= 1 - 0.3 * layer.relief * soft  # less light reaches what lies close below
        opacity = inside * ((*ImageColor.getrgb(names[0]), 255)[3] / 255)
        colour[here] = colour[here] * (1 - opacity) + pigment.clip(0, 255) * opacity
        cover[here] += (1 - cover[here]) * opacity
    return colour, cover


def thickness(polygon: Polygon) -> float:
    """Return twice the area by the outline's length: a disc's radius, or the width of a long strip."""
    x, y = np.array(polygon).T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    return 2 * area / np.hypot(x - np.roll(x, 1), y - np.roll(y, 1)).sum()


def slope(height: np.ndarray) -> np.ndarray:
    """Return how fast a surface (H, W, 1) rises as one walks away from the light."""
    down, right = (np.diff(height, axis=axis, prepend=np.take(height, [0], axis)) for axis in (0, 1))
    return 0.86 * down + 0.51 * right


def blur(picture: np.ndarray, across: float, down: float) -> np.ndarray:
    """Blur (H, W, ...), by three running means along each axis: nearly a Gaussian of these deviations, in elements."""
    for axis, width in ((1, across), (0, down)):
        reach = round(width)  # 2 reach + 1 elements are averaged
        if reach == 0:
            continue
        for _ in range(3):
            padding = [(reach + 1, reach) if i == axis else (0, 0) for i in range(picture.ndim)]
            total = np.pad(picture, padding, mode="edge").cumsum(axis=axis)
            parts = total.swapaxes(0, axis)
            picture = ((parts[2 * reach + 1 :] - parts[: -2 * reach - 1]) / (2 * reach + 1)).swapaxes(0, axis)
    return picture
