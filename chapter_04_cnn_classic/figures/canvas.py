"""Figures of small pictures, every pixel a block of whole pixels: placed by hand, sharp, and small as files.
由小图片拼成的插图：每个像素画成整数个像素的方块，位置逐一指定，清晰而文件小。
"""

from torch import Tensor

from utils.plotting import DPI

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DARK = "0.25"
MARGIN = 8  # pixels around a figure
FILE_NAME = {"fontsize": 8, "parse_math": False}  # how file names are written: $ is a letter like any other


def canvas(width: int, height: int) -> Figure:
    """Return a figure of so many pixels, in which each pixel of a small picture can be a block of whole pixels.

    So it is sharp, and its file is small: PNG stores a block for little more than a pixel.
    """
    return Figure(figsize=((width + 2 * MARGIN) / DPI, (height + 2 * MARGIN) / DPI), dpi=DPI)


def frame(figure: Figure, x: int, y: int, width: int, height: int) -> Axes:
    """Return axes of so many pixels, at a place in pixels from the top left."""
    whole, total = figure.bbox.size
    return figure.add_axes(((x + MARGIN) / whole, 1 - (y + MARGIN + height) / total, width / whole, height / total))


def show(figure: Figure, x: int, y: int, side: int, image: Tensor, height: int | None = None, **how) -> Axes:
    """Draw a picture (3, H, W) or a map (H, W), `side` wide and by default as high, pixels from the top left."""
    axes = frame(figure, x, y, side, side if height is None else height)
    image = image.detach().cpu()
    pixels = image.movedim(0, -1) if image.ndim == 3 else image
    axes.imshow(pixels.numpy(), aspect="auto", interpolation="nearest", **how)
    axes.set_axis_off()
    return axes


def write(figure: Figure, x: int, y: int, text: str, **how) -> None:
    """Write text that stands on (x, y), pixels from the top left."""
    width, height = figure.bbox.size
    how = {"ha": "center", "va": "baseline", "fontsize": 9, "color": DARK} | how
    figure.text((x + MARGIN) / width, 1 - (y + MARGIN) / height, text, **how)
