"""The `shapes` data set: ten classes of drawn figures, made in seconds, for when no other pictures are at hand.
`shapes` 数据集：现画的十类图形，几秒钟就能生成，手头没有别的图片时也能训练。

A figure is a signed distance: negative inside, positive outside, in units of the figure's radius. Unions are minima,
intersections maxima, and the distance in pixels, cut off half a pixel from the edge, gives a smooth edge at any size.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

TILE = 2**18  # pixels drawn at once: many for the vector units, few for the cache


def shapes(count: int, side: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw `count` pictures, each of one figure of random colour, size, place and rotation on a wavy background.

    Picture i follows from `seed` and i alone: a longer set begins with the shorter one, and another `side` shows the
    same scenes at another resolution. Another seed draws other pictures. PyTorch's own generator stays as it was.

    Returns:
        images (count, 3, side, side), uint8; labels (count,), int64: 0, 1, ..., 9, 0, 1, ..., indices into `CLASSES`.
    """
    dice = torch.rand(count, 26, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % len(CLASSES)
    images = torch.empty(count, 3, side, side, dtype=torch.uint8)
    per_tile = max(len(CLASSES), TILE // side**2)
    for first in range(0, count, per_tile):
        tile = slice(first, first + per_tile)
        images[tile] = _draw(dice[tile], labels[tile], side)
    return images, labels


def _draw(dice: Tensor, labels: Tensor, side: int) -> Tensor:
    """Turn each row of uniform random numbers in [0, 1) into a picture (3, side, side)."""
    place, turn, size, figure, ground, waves = dice[..., None, None].split([2, 1, 1, 2, 4, 16], dim=1)
    axis = (torch.arange(side) + 0.5) / side  # the picture spans [0, 1]
    y, x = torch.meshgrid(axis, axis, indexing="ij")  # (side, side)

    radius = 0.18 + 0.18 * size  # (B, 1, 1, 1)
    centre = radius + (1 - 2 * radius) * place  # (B, 2, 1, 1): figures lie inside the picture
    dx, dy = (x - centre[:, :1]) / radius, (y - centre[:, 1:]) / radius  # (B, 1, side, side)
    cos, sin = (2 * math.pi * turn).cos(), (2 * math.pi * turn).sin()
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # the figure's own axes
    distance = torch.empty_like(u)
    for label, signed_distance in enumerate(FIGURES.values()):
        mine = labels == label
        distance[mine] = signed_distance(u[mine], v[mine])
    coverage = (0.5 - distance * radius * side).clamp(0, 1)  # (B, 1, side, side)

    texture = torch.zeros_like(u)
    for wave in waves.split(4, dim=1):  # up to three periods along each axis
        across, down, phase, height = wave.split(1, dim=1)
        texture += height * (2 * math.pi * ((6 * across - 3) * x + (6 * down - 3) * y + phase)).sin()

    hue, lightness, strength, tint = ground.split(1, dim=1)
    other_hue, other_lightness = figure.split(1, dim=1)
    back = _colour(hue, lightness, 0.1 + 0.2 * strength) + 0.1 * texture * _colour(tint, 0.5, 0.5)
    front = _colour(hue + 0.2 + 0.6 * other_hue, (lightness + 0.3 + 0.4 * other_lightness) % 1, 0.3)  # never close
    return ((back + (front - back) * coverage).clamp(0, 1) * 255).round().to(torch.uint8)  # (B, 3, side, side)


def _colour(hue: Tensor, lightness: Tensor | float, strength: Tensor | float) -> Tensor:
    """Return (B, 3, 1, 1): red, green and blue a third of the colour circle apart, around their common lightness."""
    thirds = torch.arange(3).view(3, 1, 1) / 3
    return 0.15 + 0.7 * lightness + strength * (2 * math.pi * (hue - thirds)).cos()


def _disc(x: Tensor, y: Tensor, radius: float = 1.0) -> Tensor:
    return torch.hypot(x, y) - radius


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return _disc(x, y, 0.8).abs() - 0.2


def _star(x: Tensor, y: Tensor, points: int = 5, dent: float = 0.45) -> Tensor:
    """Tips at radius 1, with dents at radius `dent` half-way between them."""
    half = math.pi / points
    radius, angle = torch.hypot(x, y), torch.atan2(y, x)
    fold = ((angle + half) % (2 * half) - half).abs()  # folded like a paper star, all edges lie on one line
    normal = dent * math.sin(half), 1 - dent * math.cos(half)
    return ((radius * fold.cos() - 1) * normal[0] + radius * fold.sin() * normal[1]) / math.hypot(*normal)


def _polygon(corners: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A regular polygon is a star whose dents lie on the straight line from tip to tip."""
    return lambda x, y: _star(x, y, corners, math.cos(math.pi / corners))


def _box(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
    return torch.maximum(x.abs() - width / 2, y.abs() - height / 2)


def _cross(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, 1.9, 0.6), _box(x, y, 0.6, 1.9))


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(_disc(x, y), -_disc(x - 0.45, y, 0.8))


def _heart(x: Tensor, y: Tensor, side: float = 1.12) -> Tensor:
    """A square on its corner, and a disc on each of its upper edges."""
    y = y - 0.2
    lobes = _disc(x.abs() - side / 8**0.5, y + side / 8**0.5, side / 2)
    return torch.minimum(lobes, _box((x + y) / 2**0.5, (x - y) / 2**0.5, side, side))


def _arrow(x: Tensor, y: Tensor) -> Tensor:
    head = torch.maximum(-x, (x + y.abs() - 1) / 2**0.5)
    return torch.minimum(head, _box(x + 0.45, y, 1.0, 0.5))


FIGURES = {
    "disc": _disc,
    "ring": _ring,
    "triangle": _polygon(3),
    "square": _polygon(4),
    "pentagon": _polygon(5),
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
}
CLASSES = list(FIGURES)
