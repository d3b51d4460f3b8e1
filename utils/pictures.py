"""Any picture file, of any size and kind, as a small square that a network can look at.
把任意尺寸、任意格式的图片文件，读成网络能看的小方图。
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from utils.errors import UserError

BAND = 2**22  # pixels converted at once
UPRIGHT = {  # what EXIF's orientation asks for
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(path: Path, side: int, mode: str = "RGB", whole: bool = False) -> Tensor:
    """Return the middle of a picture, as large a square as fits, scaled to (3, side, side), or (1, ...) for mode "L".

    It stands upright as its EXIF data say; what is transparent becomes white; of an animation it is the first frame.
    Of 16 bits 65535 is white. Floating-point numbers are taken to lie in [0, 1] if all do, else in [0, 255] if all do;
    others are stretched from the darkest to the brightest. Decoding takes at most four bytes a pixel.

    Args:
        whole: scale all of the picture, and fill it up to a square with the colour of its upper left corner.

    Returns:
        uint8, bright is large.

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
                box = (0, 0, *file.size) if whole else _middle(*file.size)
                small = _upright(_reduced(file, box, side), file)
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a picture, or of a kind that is not known here") from error
    except Exception as error:  # a damaged file fails in a dozen ways, depending on where the damage is
        raise UserError(f"{path} cannot be read as a picture: {error}".replace("\n", " ")) from error
    canvas = Image.new("RGBA", small.size, "white")
    canvas.alpha_composite(small)
    pixels = np.array(_square(canvas.convert(mode), side))  # (side, side) or (side, side, 3)
    return torch.from_numpy(pixels.reshape(side, side, -1)).permute(2, 0, 1)


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    edge = min(width, height)
    left, top = (width - edge) // 2, (height - edge) // 2
    return left, top, left + edge, top + edge


def _reduced(picture: Image.Image, box: tuple[int, int, int, int], side: int) -> Image.Image:
    """Cut out the box and average it down to two or three times `side` at its longer edge, as RGBA.

    Pillow averages neither bits nor palette indices; they are converted first, a band of rows at a time: the whole
    picture in RGBA would take many times the memory of the file's own pixels.
    """
    left, top, right, bottom = box
    factor = max(1, max(right - left, bottom - top) // (2 * side))
    mode = {"I": "I", "F": "F"}.get(picture.mode[0], "RGBA")  # I;16 and its relatives become I
    picture.load()
    if mode == "RGBA" and picture.mode not in ("1", "P", "PA") and "transparency" not in picture.info:
        return picture.reduce(factor, box).convert("RGBA")
    rows = factor * max(1, BAND // (factor * (right - left)))
    small = Image.new(mode, (-(-(right - left) // factor), -(-(bottom - top) // factor)))
    for y in range(top, bottom, rows):
        band = picture.crop((left, y, right, min(y + rows, bottom))).convert(mode)
        small.paste(band.reduce(factor), (0, (y - top) // factor))
    return small if mode == "RGBA" else _eight_bits(small).convert("RGBA")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scale whole numbers of 16 bits, or floating-point numbers, to 0, 1, ..., 255."""
    values = np.asarray(picture, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    tops = [65535] if picture.mode == "I" else [1, 255]
    top = next((top for top in tops if 0 <= low and high <= top), None)
    if top is None:
        values, top = values - low, max(high - low, 1e-300)
    values = np.nan_to_num(values, nan=0.0).clip(0, top) * (255 / top)
    return Image.fromarray(values.round().astype(np.uint8))


def _upright(small: Image.Image, file: Image.Image) -> Image.Image:
    """Turn the small picture as the file's EXIF data say."""
    try:
        turn = UPRIGHT.get(file.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # a broken EXIF block spoils no picture
        return small
    return small if turn is None else small.transpose(turn)


def _square(picture: Image.Image, side: int) -> Image.Image:
    """Scale the longer edge to `side`, and put the picture into the middle of a square of its corner's colour."""
    scale = side / max(picture.size)
    size = tuple(max(1, round(scale * edge)) for edge in picture.size)
    square = Image.new(picture.mode, (side, side), picture.getpixel((0, 0)))
    square.paste(picture.resize(size, Image.Resampling.BICUBIC), tuple((side - edge) // 2 for edge in size))
    return square
