"""Any picture file becomes the small square that it should, or is refused in one line.
任意图片文件都能变成应有的小方图，读不了的则用一行话拒绝。
"""

import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from tests.conftest import ROOT
from utils.errors import UserError
from utils.pictures import read_picture


def halves(width=80, height=60, mode="RGB"):
    """Black on the left, white on the right."""
    picture = Image.new("L", (width, height))
    picture.paste(255, (width // 2, 0, width, height))
    return picture.convert(mode)


def colour_of(pixels):
    """The mean colour of pixels (3, ...)."""
    return pixels.float().flatten(1).mean(dim=1)


def assert_colour(pixels, name, tolerance=0):
    expected = torch.tensor(ImageColor.getrgb(name)).view(3, *[1] * (pixels.ndim - 1))
    assert (pixels.int() - expected).abs().max() <= tolerance


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [(mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    + [(mode, "jpg") for mode in ("L", "RGB", "CMYK")]
    + [(mode, "tif") for mode in ("1", "L", "YCbCr", "CMYK", "RGBA", "F", "I;16")]
    + [("RGB", "bmp"), ("P", "gif"), ("L", "gif"), ("RGB", "ppm")],
)
def test_every_mode_shows_the_same_picture(tmp_path, mode, suffix):
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(halves(mode="L")).astype(np.uint16) * 257)
    else:
        picture = halves(mode="RGB").convert(mode)
    picture.save(tmp_path / f"x.{suffix}")
    pixels = read_picture(tmp_path / f"x.{suffix}", 32)
    assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.uint8
    assert_colour(pixels[:, :, :14], "black", 4)
    assert_colour(pixels[:, :, 18:], "white", 4)


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    ramp = np.linspace(0, 255, 32).round().astype(np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(np.tile(ramp * 257, (32, 1))).save(tmp_path / f"ramp.{suffix}")
        assert read_picture(tmp_path / f"ramp.{suffix}", 32)[0, 0].tolist() == ramp.tolist()
    Image.fromarray(np.full((9, 9), 100, np.uint16)).save(tmp_path / "dim.png")
    assert_colour(read_picture(tmp_path / "dim.png", 32), "black")  # 100 of 65,535, not of 255


@pytest.mark.parametrize(("low", "high", "first", "last"), [(0.25, 0.75, 64, 191), (0, 200, 0, 200), (-2, 900, 0, 255)])
def test_floating_point_numbers_keep_their_scale_if_it_can_be_known(tmp_path, low, high, first, last):
    """From 0 to 1, or from 0 to 255; else from the darkest to the brightest."""
    Image.fromarray(np.tile(np.linspace(low, high, 32, dtype=np.float32), (32, 1))).save(tmp_path / "x.tif")
    row = read_picture(tmp_path / "x.tif", 32)[0, 0].tolist()
    assert (row[0], row[-1]) == (first, last) and row == sorted(row)


def test_what_is_no_number_is_dark_and_infinity_bright(tmp_path):
    values = np.full((32, 32), 0.5, np.float32)
    values[0, 0], values[-1, -1] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "x.tif")
    pixels = read_picture(tmp_path / "x.tif", 32)[0]
    assert (pixels[0, 0], pixels[16, 16], pixels[-1, -1]) == (0, 128, 255)


def test_floating_point_numbers_are_stretched(tmp_path):
    values = np.tile(np.linspace(-3, 7, 32, dtype=np.float32), (32, 1))
    Image.fromarray(values).save(tmp_path / "x.tif")
    pixels = read_picture(tmp_path / "x.tif", 32)[0, 0].tolist()
    assert pixels[0] == 0 and pixels[-1] == 255 and pixels == sorted(pixels)


def test_what_is_transparent_becomes_white(tmp_path):
    picture = Image.new("RGBA", (640, 640), (0, 0, 255, 255))
    picture.paste((255, 0, 0, 0), (320, 0, 640, 640))  # an invisible red must not bleed into the blue
    picture.save(tmp_path / "x.png")
    pixels = read_picture(tmp_path / "x.png", 32).int()
    assert_colour(pixels[:, :, :14], "blue")
    assert_colour(pixels[:, :, 18:], "white")
    assert (pixels[0] <= pixels[2]).all() and (pixels[0] - pixels[1]).abs().max() <= 1
    Image.new("RGBA", (5, 5), (255, 0, 0, 128)).save(tmp_path / "half.png")
    assert_colour(read_picture(tmp_path / "half.png", 32), "#ff7f7f", 1)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_palette_and_its_transparent_colour(tmp_path, suffix):
    picture = Image.new("P", (300, 300), 2)
    picture.putpalette([0, 255, 0, 255, 0, 0, 0, 0, 255])
    picture.paste(1, (150, 0, 300, 300))
    picture.save(tmp_path / f"x.{suffix}", transparency=1)
    pixels = read_picture(tmp_path / f"x.{suffix}", 32)
    assert_colour(pixels[:, :, :14], "blue")
    assert_colour(pixels[:, :, 18:], "white")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize(("orientation", "red_side"), [(1, "top"), (3, "bottom"), (6, "right"), (8, "left")])
def test_the_picture_stands_upright(tmp_path, suffix, orientation, red_side):
    """Orientation 6 says: turn me clockwise to see me upright. What was on top comes to the right."""
    picture = Image.new("RGB", (300, 200), "blue")
    picture.paste("red", (0, 0, 300, 100))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / f"x.{suffix}", exif=exif)
    pixels = read_picture(tmp_path / f"x.{suffix}", 32)
    parts = {"top": pixels[:, :12], "bottom": pixels[:, 20:], "left": pixels[:, :, :12], "right": pixels[:, :, 20:]}
    assert_colour(parts[red_side], "red", 6)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif"])
@pytest.mark.parametrize("size", [(10_000, 150), (150, 10_000)])
def test_of_a_very_long_picture_the_middle_is_seen(tmp_path, suffix, size):
    picture = Image.new("RGB", size, "white")
    left, top = (size[0] - 150) // 2, (size[1] - 150) // 2
    picture.paste("red", (left, top, left + 150, top + 150))
    picture.save(tmp_path / f"x.{suffix}")
    assert_colour(read_picture(tmp_path / f"x.{suffix}", 32)[:, 1:-1, 1:-1], "red", 6)


@pytest.mark.parametrize("mode", ["RGB", "P", "I;16", "F"])
def test_a_thin_strip_is_seen_whole_if_one_wishes(tmp_path, mode):
    """60 to 1: its right half is white, and so is the right half of the one row that is left of it."""
    strip = np.zeros((100, 6000), np.float32 if mode == "F" else np.uint16)
    strip[:, 3000:] = 1 if mode == "F" else 65535
    picture = Image.fromarray(strip if mode in ("F", "I;16") else (strip >> 8).astype(np.uint8))
    picture = picture if mode in ("F", "I;16") else picture.convert(mode)
    picture.save(tmp_path / "x.tif")
    pixels = read_picture(tmp_path / "x.tif", 28, "L", whole=True)
    assert pixels.shape == (1, 28, 28) and pixels[0, :, :13].max() <= 10 and (pixels[0, :, 16:] > 245).any(dim=0).all()
    assert (pixels[0] > 127).sum(dim=0).max() == 1
    assert read_picture(tmp_path / "x.tif", 28, "L").float().std() > 100  # its middle: half black, half white


def test_a_small_grey_picture_comes_back_as_it_was(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    for name, picture in {"8": Image.fromarray(noise), "16": Image.fromarray(noise.astype(np.uint16) * 257)}.items():
        picture.save(tmp_path / f"{name}.png")
        for whole in (False, True):
            assert (read_picture(tmp_path / f"{name}.png", 28, "L", whole)[0].numpy() == noise).all()


def test_the_whole_picture_is_filled_up_with_its_corners_colour(tmp_path):
    picture = Image.new("RGB", (80, 40), "blue")
    picture.paste("red", (30, 10, 50, 30))
    picture.save(tmp_path / "x.png")
    pixels = read_picture(tmp_path / "x.png", 16, whole=True)
    assert_colour(pixels[:, :3], "blue")
    assert_colour(pixels[:, 13:], "blue")
    assert_colour(pixels[:, 8, 8], "red")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("block", [b"no TIFF header", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b""])
def test_a_broken_exif_block_spoils_no_picture(tmp_path, suffix, block):
    Image.new("RGB", (40, 30), "red").save(tmp_path / f"x.{suffix}", exif=block)
    assert_colour(read_picture(tmp_path / f"x.{suffix}", 32), "red", 2)


def test_a_name_need_not_be_utf_8(tmp_path):
    path = tmp_path / "na\udcefve.png"
    try:
        Image.new("RGB", (5, 5), "red").save(path)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    assert_colour(read_picture(path, 32), "red")


MEMORY = """
import resource, sys
from pathlib import Path
from utils.pictures import read_picture
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert read_picture(Path(sys.argv[1]), 28, "L").float().mean() > 200
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units there")
def test_a_large_picture_of_bits_takes_little_memory(tmp_path):
    """40 million pixels of one bit: Pillow decodes them to a byte each, and nothing is as large besides."""
    side = 6324
    rows = (b"\0" + b"\xff" * -(-side // 8)) * side
    png(tmp_path / "x.png", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), rows)
    command = [sys.executable, "-c", MEMORY, tmp_path / "x.png"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100  # MiB


def test_one_pixel_is_a_picture_too(tmp_path):
    Image.new("RGB", (1, 1), "#123456").save(tmp_path / "x.png")
    assert_colour(read_picture(tmp_path / "x.png", 32), "#123456")
    assert read_picture(tmp_path / "x.png", 160).shape == (3, 160, 160)


def test_of_an_animation_the_first_frame_is_seen(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert_colour(read_picture(tmp_path / "x.gif", 32), "red")


def test_the_small_picture_is_the_mean_of_the_large_one(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    blocks = torch.from_numpy(noise).double().view(32, 16, 32, 16, 3).mean(dim=(1, 3)).permute(2, 0, 1)
    pixels = read_picture(tmp_path / "x.png", 32).double()
    assert (pixels - blocks).abs().mean() < 5  # the noise itself is 74 away from its mean
    torch.testing.assert_close(colour_of(pixels), colour_of(blocks), rtol=0, atol=0.5)


def png(path, header, rows):
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    data = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def bomb(path, side):
    """A PNG file of a hundred bytes that claims to be `side` pixels wide and high."""
    png(path, struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), b"")


def damaged(path, keep):
    """The first `keep` of a good file, the rest of it gone."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def overwritten(path):
    """A good PNG file with noise in its middle."""
    damaged(path, 1)
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(range(100))
    path.write_bytes(content)


BAD = {
    "text.png": lambda path: path.write_text("this is not a picture\n"),
    "empty.jpg": lambda path: path.write_bytes(b""),
    "half.png": lambda path: damaged(path, 0.5),
    "half.jpg": lambda path: damaged(path, 0.5),
    "head.gif": lambda path: damaged(path, 0.01),
    "noisy.png": overwritten,
    "bomb.png": lambda path: bomb(path, 60_000),
    "folder.png": lambda path: path.mkdir(),
    "missing.png": lambda path: None,
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, name):
    BAD[name](tmp_path / name)
    with pytest.raises(UserError) as error:
        read_picture(tmp_path / name, 32)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_large_picture_gives_no_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns from here on, and refuses twice as many
    Image.new("RGB", (40, 40), "red").save(tmp_path / "x.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_colour(read_picture(tmp_path / "x.png", 32), "red")
    Image.new("RGB", (50, 50), "red").save(tmp_path / "x.png")
    with pytest.raises(UserError, match="x.png.*exceeds limit of 2000 pixels"):
        read_picture(tmp_path / "x.png", 32)
