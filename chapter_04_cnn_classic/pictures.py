"""Any picture file, of any size and kind, as a small square that a network can look at.
把任意尺寸、任意格式的图片文件，读成网络能看的小方图。
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from utils.errors import UserError


def read_image(path: Path, side: int = 32) -> Tensor:
    """Return the middle of a picture, as large a square as fits, scaled to (3, side, side), uint8.

    It stands upright as its EXIF data say; what is transparent becomes white; of an animation it is the first frame.

    Raises:
        UserError: the file is missing, is damaged, is no picture, or has more than 178 million pixels.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and of odd but harmless metadata
            with Image.open(path) as file:
                file.draft(None, (2 * side, 2 * side))  # a JPEG file can be decoded at 1/2, 1/4 or 1/8 of its size
                ImageOps.exif_transpose(file, in_place=True)
                square = _middle(file, side)
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a picture, or of a kind that is not known here") from error
    except Exception as error:  # a damaged file fails in a dozen ways, depending on where the damage is
        raise UserError(f"{path} cannot be read as a picture: {error}".replace("\n", " ")) from error
    canvas = Image.new("RGBA", square.size, "white")
    canvas.alpha_composite(square)
    pixels = np.array(canvas.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))  # (side, side, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _middle(picture: Image.Image, side: int) -> Image.Image:
    """Cut out the middle square and average it down towards `side` before it is converted, which saves memory."""
    edge = min(picture.size)
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    box = left, top, left + edge, top + edge
    factor = max(1, edge // (2 * side))
    if picture.mode[0] in "IF":
        return _eight_bits(picture.crop(box)).reduce(factor).convert("RGBA")
    if picture.mode in ("1", "P", "PA") or "transparency" in picture.info:  # a mean of palette indices means nothing
        return picture.crop(box).convert("RGBA").reduce(factor)
    return picture.reduce(factor, box).convert("RGBA")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Keep the upper 8 of 16 bits; stretch floating-point numbers, of unknown range, from darkest to brightest."""
    values = np.asarray(picture)
    if picture.mode == "F":
        values = np.nan_to_num(values)
        values = (values - values.min()) * (255 / max(np.ptp(values), 1e-12))
    else:
        values = values.clip(0, 65535) >> 8
    return Image.fromarray(values.astype(np.uint8))
