"""The figures of cam.py: a picture, and over it the heat of each method and layer.
cam.py 的图：一张图片，以及各方法、各层叠加在它上面的热力图。
"""

from dataclasses import dataclass
from itertools import accumulate
from unicodedata import east_asian_width

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from chapter_04_cnn_classic.figures.canvas import FILE_NAME, canvas, show, write

SIDE = 160  # pixels of a tile
STEP = SIDE + 8
LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])  # what red, green and blue add to brightness
HEAT = colormaps["inferno"]  # its lightness rises evenly with the heat: so it does in print, and to the colour-blind
NOTES = (
    "from 0, a map's least value, to 1, its largest:",
    "compare places within a map, not one map with another; line: 0.5",
)


@dataclass
class View:
    """A picture and what its maps say of K classes."""

    name: str  # the file's
    picture: Tensor  # (3, SIDE, SIDE), uint8
    titles: list[str]  # K
    heats: dict[tuple[str, str], Tensor]  # by method and layer, "CAM" first: (K, SIDE, SIDE), from 0 to 1
    grids: dict[str, str]  # by layer, what its maps measure: "6 × 6"


def explanation(view: View) -> Figure:
    """Draw in a block for each class the picture, CAM, and beside them Grad-CAM and Grad-CAM++ of each layer."""
    layers = list(dict.fromkeys(layer for method, layer in view.heats if method != "CAM"))
    left, block = STEP + 34, 2 * SIDE + 110
    figure = canvas(max(left + STEP * len(layers) - 8, 600), block * len(view.titles) + 52)
    for i, title in enumerate(view.titles):
        y = block * i
        upper, lower = y + 60, y + 90 + SIDE
        write(figure, 0, y + 20, f"What speaks for {title}?", ha="left", weight="bold", fontsize=10)
        write(figure, 0, upper - 8, shortened(view.name), ha="left", **FILE_NAME)
        show(figure, 0, upper, SIDE, view.picture)
        write(figure, 0, lower - 8, f"CAM, {view.grids['features']}", ha="left")
        glow(figure, 0, lower, view.picture, view.heats["CAM", "features"][i])
        for method, top in (("Grad-CAM", upper), ("Grad-CAM++", lower)):
            write(figure, left - 16, top + SIDE // 2, method, rotation=90, va="center")
            for k, layer in enumerate(layers):
                glow(figure, left + STEP * k, top, view.picture, view.heats[method, layer][i])
                if top == upper:
                    label = f"{layer}, {view.grids[layer]}"
                    write(figure, left + STEP * k, top - 8, label, ha="left", fontsize=min(9, 136 / len(label)))
    scale(figure, block * len(view.titles) + 2)
    return figure


def overview(views: list[View], columns: int = 7) -> Figure:
    """Draw each picture, and beside it CAM for each class asked about."""
    wide = STEP * (1 + max(len(view.titles) for view in views)) + 20  # a picture with its maps
    per_row = min(max(1, columns * STEP // wide), len(views))
    high = SIDE + 40
    lines = -(-len(views) // per_row)
    figure = canvas(max(wide * per_row - 28, 600), high * lines + 52)
    for i, view in enumerate(views):
        x, y = wide * (i % per_row), high * (i // per_row) + 26
        write(figure, x, y - 8, shortened(view.name), ha="left", **FILE_NAME)
        show(figure, x, y, SIDE, view.picture)
        for k, (title, heat) in enumerate(zip(view.titles, view.heats["CAM", "features"], strict=True), start=1):
            write(figure, x + STEP * k, y - 8, title, ha="left")
            glow(figure, x + STEP * k, y, view.picture, heat)
    scale(figure, high * lines + 2)
    return figure


def glow(figure: Figure, x: int, y: int, picture: Tensor, heat: Tensor) -> None:
    """Draw a picture under the heat (SIDE, SIDE) of a map, and the line where it is one half."""
    axes = show(figure, x, y, SIDE, blend(picture, heat))
    if heat.max() > 0:
        axes.contour(heat.numpy(), [0.5], colors="white", linewidths=0.8)
    else:
        write(figure, x + SIDE // 2, y + SIDE // 2, "nothing does", color="white")


def blend(picture: Tensor, heat: Tensor) -> Tensor:
    """Return the picture (3, H, W) in grey, dark where heat (H, W) is 0 and glowing where it is not, from 0 to 1."""
    grey = picture.float().mean(dim=0) / 255  # (H, W)
    colour = torch.from_numpy(HEAT(heat.numpy())[..., :3]).float().movedim(-1, 0)  # (3, H, W)
    luminance = torch.einsum("c,chw->hw", LUMINANCE, colour)
    blended = colour * (0.5 + 0.35 * grey) + (1 - luminance) * 0.38 * grey  # on any grey, the hotter the lighter
    return (blended * 63).round() / 63  # as many shades as the eye needs, in a file of half the size


def scale(figure: Figure, y: int) -> None:
    """Draw what the colours stand for."""
    ramp = torch.linspace(0, 1, SIDE)
    bar = torch.from_numpy(HEAT(ramp.numpy())[:, :3]).movedim(-1, 0)[:, None]  # (3, 1, SIDE)
    show(figure, 0, y, SIDE, bar, height=16)
    write(figure, STEP, y + 14, NOTES[0], ha="left", fontsize=8)
    write(figure, 0, y + 40, NOTES[1], ha="left", fontsize=8)


def shortened(name: str, columns: int = 18) -> str:
    """Cut a file's name to what fits over a tile; a Chinese character is as wide as two letters."""
    ends = list(accumulate(2 if east_asian_width(letter) in "WF" else 1 for letter in name))
    return name if ends[-1] <= columns else name[: sum(end <= columns - 3 for end in ends)] + "..."
