"""The figures of cam.py: a picture, and over it what each place says for or against a class.
cam.py 的图：一张图片，上面叠加每个位置对某个类别的支持与反对。

One scale everywhere: red speaks for the class, blue against it, white says nothing; coarse maps have their numbers in
their cells.
"""

from dataclasses import dataclass
from itertools import accumulate
from unicodedata import east_asian_width

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_04_cnn_classic.figures.canvas import FILE_NAME, canvas, show, write

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SIDE = 160  # pixels of a tile
STEP = SIDE + 8
NUMBERED = 4  # cells a side of the largest map that has its numbers in them
SCALE = colormaps["RdBu_r"]
ENDS = 0.12, 0.88  # of the colour map: beyond, it is too dark for a number to be read


@dataclass
class View:
    """A picture and what its maps say of K classes."""

    name: str  # the file's
    picture: Tensor  # (3, SIDE, SIDE), uint8
    titles: list[str]  # K
    maps: dict[tuple[str, str], Tensor]  # by method and layer, ("CAM", "features") among them: (K, h, w)


def explanation(view: View) -> Figure:
    """Draw in a block for each class the picture, CAM, and beside them Grad-CAM and Grad-CAM++ of each layer."""
    layers = list(dict.fromkeys(layer for method, layer in view.maps if method != "CAM"))
    left, block = STEP + 34, 2 * SIDE + 110
    figure = canvas(max(left + STEP * len(layers) - 8, 4 * STEP), block * len(view.titles) + 56)
    for i, title in enumerate(view.titles):
        y = block * i
        upper, lower = y + 60, y + 90 + SIDE
        write(figure, 0, y + 20, f"What speaks for {title}?", ha="left", weight="bold", fontsize=10)
        write(figure, 0, upper - 8, shortened(view.name), ha="left", **FILE_NAME)
        show(figure, 0, upper, SIDE, view.picture)
        own = view.maps["CAM", "features"][i]
        write(figure, 0, lower - 8, f"CAM, {size_of(own)}", ha="left")
        overlay(figure, 0, lower, view.picture, own, own.abs().max().item())
        for method, top in (("Grad-CAM", upper), ("Grad-CAM++", lower)):
            write(figure, left - 16, top + SIDE // 2, method, rotation=90, va="center")
            for k, layer in enumerate(layers):
                found = view.maps[method, layer][i]
                overlay(figure, left + STEP * k, top, view.picture, found, found.abs().max().item())
                if top == upper:
                    label = f"{layer}, {size_of(found)}"
                    write(figure, left + STEP * k, top - 8, label, ha="left", fontsize=min(9, 136 / len(label)))
    scale_bar(figure, block * len(view.titles) + 2, "each map's largest number, whatever it is")
    return figure


def overview(views: list[View], columns: int = 6) -> Figure:
    """Draw each picture, and beside it CAM for each class asked about, all on one scale."""
    wide = STEP * (1 + max(len(view.titles) for view in views)) + 16  # a picture with its maps
    per_row = min(max(1, columns * STEP // wide), len(views))
    high = SIDE + 40
    lines = -(-len(views) // per_row)
    largest = max(view.maps["CAM", "features"].abs().max().item() for view in views)
    figure = canvas(max(wide * per_row - 24, 4 * STEP), high * lines + 56)
    for i, view in enumerate(views):
        x, y = wide * (i % per_row), high * (i // per_row) + 26
        write(figure, x, y - 8, shortened(view.name), ha="left", **FILE_NAME)
        show(figure, x, y, SIDE, view.picture)
        for k, (title, own) in enumerate(zip(view.titles, view.maps["CAM", "features"], strict=True), start=1):
            write(figure, x + STEP * k, y - 8, title, ha="left")
            overlay(figure, x + STEP * k, y, view.picture, own, largest)
    scale_bar(figure, high * lines + 2, f"{largest:.1f}, the largest number of all maps")
    return figure


def overlay(figure: Figure, x: int, y: int, picture: Tensor, found: Tensor, largest: float) -> Axes:
    """Draw a picture under a map (h, w), coloured from blue at -`largest` to red at `largest`."""
    coarse = max(found.shape) <= NUMBERED
    how = {"mode": "nearest"} if coarse else {"mode": "bilinear", "align_corners": False}
    values = F.interpolate(found[None, None].float(), (SIDE, SIDE), **how)[0, 0] / max(largest, 1e-30)
    axes = show(figure, x, y, SIDE, tinted(picture, values))
    if coarse:
        cell = SIDE / found.shape[1], SIDE / found.shape[0]
        for i, row in enumerate(found.tolist()):
            for k, value in enumerate(row):
                axes.text(
                    (k + 0.5) * cell[0], (i + 0.5) * cell[1], number(value, largest), fontsize=7,
                    ha="center", va="center", color="black",
                )  # fmt: skip
        for border in range(1, found.shape[1]):
            axes.axvline(border * cell[0] - 0.5, color="white", lw=0.6)
        for border in range(1, found.shape[0]):
            axes.axhline(border * cell[1] - 0.5, color="white", lw=0.6)
    return axes


def number(value: float, largest: float) -> str:
    """Write a value with as many decimals as its map's largest one needs, and a proper minus."""
    text = f"{value:.{1 if largest >= 1 else 2}f}"
    return text.replace("-", "\u2212") if float(text) else text.lstrip("-")


def tinted(picture: Tensor, values: Tensor) -> Tensor:
    """Return the picture (3, H, W) in pale grey, red where values (H, W) are near 1 and blue where they are near -1."""
    grey = picture.float().mean(dim=0) / 255  # (H, W)
    low, high = ENDS
    place = low + (high - low) * (values.clamp(-1, 1) + 1) / 2
    colour = torch.from_numpy(SCALE(place.numpy())[..., :3]).float().movedim(-1, 0)  # (3, H, W)
    return colour * (0.6 + 0.4 * grey)


def scale_bar(figure: Figure, y: int, largest: str) -> None:
    """Draw what the colours stand for."""
    bar = tinted(torch.full((3, 1, SIDE), 255), torch.linspace(-1, 1, SIDE)[None])  # (3, 1, SIDE)
    show(figure, 0, y, SIDE, bar, height=16)
    write(figure, STEP, y + 14, "blue: against the class; white: 0; red: for it", ha="left", fontsize=8)
    write(figure, 0, y + 42, f"deepest colour: {largest}", ha="left", fontsize=8)


def size_of(found: Tensor) -> str:
    return "{} × {}".format(*found.shape)


def shortened(name: str, columns: int = 18) -> str:
    """Cut a file's name to what fits over a tile; a Chinese character is as wide as two letters."""
    ends = list(accumulate(2 if east_asian_width(letter) in "WF" else 1 for letter in name))
    return name if ends[-1] <= columns else name[: sum(end <= columns - 3 for end in ends)] + "..."
