"""Scenes to search: small pictures at known places of a large canvas.
用来搜索的场景：把小图片贴在大画布的已知位置上。
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST = 1.5  # times a picture's own side
GAP = 4  # pixels between two pictures, at least
TRIES = 50  # places to try for each picture


@dataclass
class Scene:
    canvas: Tensor  # (3, H, W), uint8
    boxes: Tensor  # (M, 4), float: x1, y1, x2, y2 in pixels, x2 and y2 just outside
    labels: Tensor  # (M,)


def scene(images: Tensor, labels: Tensor, height: int, width: int, most: int, dice: torch.Generator) -> Scene:
    """Paste half of `most` to `most` pictures of (N, 3, S, S), uint8, enlarged 1 to 1.5 times, without overlap.

    One that finds no room is left out. The canvas must be at least S pixels high and wide.
    """
    canvas, side = background(height, width, dice), images.shape[-1]
    largest = min(int(LARGEST * side), height, width)
    boxes, found = [], []
    for index in _draw(len(images), dice, count=1 + most // 2 + _draw((most + 1) // 2, dice)):
        for _ in range(TRIES):
            size = side + _draw(largest - side + 1, dice)
            x, y = _draw(width - size + 1, dice), _draw(height - size + 1, dice)
            box = (x, y, x + size, y + size)
            if not any(_too_close(box, other) for other in boxes):
                canvas[:, y : y + size, x : x + size] = resize(images[index][None], size, size)[0]
                boxes.append(box)
                found.append(labels[index].item())
                break
    return Scene(canvas.round().to(torch.uint8), torch.tensor(boxes).float(), torch.tensor(found))


def background(height: int, width: int, dice: torch.Generator) -> Tensor:
    """Return a smooth texture (3, height, width), from 0 to 255: noise of three sizes, in colours that go together.

    Wide blotches are strong and fine ones weak, as in photographs.
    """
    texture = torch.zeros(1, 3, height, width)
    mixture = 0.5 + 0.3 * torch.randn(3, 3, generator=dice)  # red, green and blue mostly rise and fall together
    for cell, strength in ((64, 26.0), (20, 14.0), (6, 5.0)):
        coarse = torch.randn(1, 3, height // cell + 4, width // cell + 4, generator=dice)
        wave = F.interpolate(coarse, scale_factor=float(cell), mode="bicubic")[..., cell : cell + height, cell:]
        texture += strength * torch.einsum("dc,bchw->bdhw", mixture, wave[..., :width])
    tone = 70 + 110 * torch.rand(3, 1, 1, generator=dice)
    return (tone + texture[0]).clamp(0, 255)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Return pictures (B, C, height, width), float, from 0 to 255; detail too fine for the new size is averaged out."""
    resized = F.interpolate(images.float(), (height, width), mode="bicubic", antialias=True)
    return resized.clamp(0, 255)  # bicubic curves overshoot at edges


def _draw(below: int, dice: torch.Generator, count: int | None = None) -> int | list[int]:
    """Return a whole number from 0 to `below` - 1, or `count` of them."""
    drawn = torch.randint(below, (count or 1,), generator=dice).tolist()
    return drawn if count else drawn[0]


def _too_close(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[0] < b[2] + GAP and b[0] < a[2] + GAP and a[1] < b[3] + GAP and b[1] < a[3] + GAP
