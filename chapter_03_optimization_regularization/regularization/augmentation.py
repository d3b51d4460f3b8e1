"""Batches of pictures flipped, shifted, cropped, turned, recoloured and cut: every picture in its own way, all at once.
整批图片的翻转、平移、裁剪、旋转、调色与遮挡：每张各不相同，但一次算完。

Everywhere images are (B, C, H, W), uint8 or floating point, on any device. What comes back is new, in the same type and
memory layout (channels_last too). Random numbers come from PyTorch's generator of the images' device. Where you can,
augment bytes and normalise afterwards: a byte moves faster than a float, and 0 is then black.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # the eye's weights of red, green and blue (ITU-R BT.601)
PADDINGS = {"zero": "zeros", "reflect": "reflection"}  # our names, and those of grid_sample

# --- moving whole pixels ----------------------------------------------------------------------------------------------


def random_flip(images: Tensor, p: float | Tensor = 0.5) -> Tensor:
    """Mirror each picture left to right with probability `p`: one for all, or one for each, (B, 1, 1, 1)."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < p
    return _like(images, torch.where(mirrored, images.flip(-1), images))


def random_shift(images: Tensor, pixels: int, padding: str = "zero") -> Tensor:
    """Move each picture by up to `pixels` along either axis, all (2 pixels + 1)^2 moves being equally likely."""
    return random_crop(images, images.shape[-2:], pixels, padding)


def random_crop(images: Tensor, size: int | tuple[int, int], margin: int = 0, padding: str = "zero") -> Tensor:
    """Put a frame of `margin` pixels around each picture, then cut a piece of `size` (height, width) out, anywhere.

    Args:
        padding: what the frame shows: "zero", or "reflect" for the picture mirrored at its outermost pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    framed = _frame(images, margin, padding)
    places = [whole - part + 1 for whole, part in zip(framed.shape[-2:], (height, width), strict=True)]
    if min(places) < 1:
        raise ValueError(f"a piece {height, width} does not fit into a picture {tuple(framed.shape[-2:])}")
    top, left = (torch.randint(count, (len(images),), device=images.device) for count in places)
    # All pieces as a view that copies nothing, (B, C, places down, places across, height, width); one indexing picks.
    # 先得到所有可能裁剪的视图（不复制内存），再用一次索引取出每张图的那一块。
    pieces = framed.unfold(2, height, 1).unfold(3, width, 1)
    return _like(images, pieces[torch.arange(len(images), device=images.device), :, top, left])


def _frame(images: Tensor, margin: int, padding: str) -> Tensor:
    _check(padding)
    framed = F.pad(images, [margin] * 4)
    if margin == 0 or padding == "zero":
        return framed
    if margin >= min(images.shape[-2:]):
        raise ValueError(f"a margin of {margin} pixels mirrors more than a picture {tuple(images.shape[-2:])} holds")
    for axis in (3, 2):  # the corners come with the second; F.pad reflects no bytes
        end = framed.shape[axis] - margin
        framed.narrow(axis, 0, margin).copy_(framed.narrow(axis, margin + 1, margin).flip(axis))
        framed.narrow(axis, end, margin).copy_(framed.narrow(axis, end - margin - 1, margin).flip(axis))
    return framed


# --- moving between pixels --------------------------------------------------------------------------------------------


def affine(
    images: Tensor, matrices: Tensor, padding: str = "zero", size: tuple[int, int] | None = None
) -> Tensor:  # fmt: skip
    """Look up each pixel elsewhere: the new picture at (x, y) is the old one at matrix @ (x, y, 1), bilinearly.

    Args:
        matrices: (B, 2, 3). x and y are pixels from the picture's centre, to the right and down.
        size: height and width of the new pictures, where they are not the old ones'.
    """
    _check(padding)
    height, width = size or images.shape[-2:]
    if len(images) == 0:  # grid_sample takes no batch of 0
        return _like(images, images.new_empty(0, images.shape[1], height, width))
    sides, new_sides = matrices.new_tensor([images.shape[-1], images.shape[-2]]), matrices.new_tensor([width, height])
    # grid_sample measures both axes from -1 to 1, so on a picture that is not square a turn becomes oblique.
    # grid_sample 的两个坐标轴都是 -1 到 1；图片不是正方形时，旋转矩阵在这种坐标下不再正交。
    linear = matrices[:, :, :2] * new_sides / sides[:, None]  # (B, 2, 2)
    shift = matrices[:, :, 2:] * 2 / sides[:, None]  # (B, 2, 1)
    pixels = _floating(images)
    theta = torch.cat([linear, shift], dim=2).to(pixels.dtype)  # (B, 2, 3)
    grid = F.affine_grid(theta, [*images.shape[:2], height, width], align_corners=False)  # (B, H, W, 2)
    return _like(images, F.grid_sample(pixels, grid, padding_mode=PADDINGS[padding], align_corners=False))


def affine_matrices(
    degrees: Tensor, scale: Tensor | float = 1.0, shear: Tensor | float = 0.0, right: Tensor | float = 0.0,
    down: Tensor | float = 0.0,
) -> Tensor:  # fmt: skip
    """Return what `affine` needs, (B, 2, 3), to slant and scale pictures, turn them about their centre, then move them.

    Args:
        degrees: (B,), of the turn, anticlockwise. The others are (B,) too, or numbers that hold for all pictures.
        shear: in degrees: the angle by which vertical lines lean to the left.
        right, down: in pixels.
    """
    angle = torch.deg2rad(degrees)
    lean = torch.deg2rad(torch.as_tensor(shear, dtype=angle.dtype, device=angle.device))
    cos, sin, tan = angle.cos() / scale, angle.sin() / scale, lean.tan()
    # New picture -> old one: everything is undone, in the opposite order.
    a, b, c, d = cos - tan * sin, -sin - tan * cos, sin, cos
    rows = [a, b, -(a * right + b * down), c, d, -(c * right + d * down)]
    return torch.stack(rows, dim=-1).view(-1, 2, 3)


def rotate(images: Tensor, degrees: Tensor, padding: str = "zero") -> Tensor:
    """Turn each picture about its centre by `degrees` (B,), anticlockwise."""
    return affine(images, affine_matrices(degrees), padding)


def random_rotate(images: Tensor, degrees: float, padding: str = "zero") -> Tensor:
    """Turn each picture by up to `degrees` either way."""
    return rotate(images, _uniform(images, -degrees, degrees), padding)


# --- colour, in [0, 1] where images are floating point: normalise afterwards ------------------------------------------


def color_jitter(images: Tensor, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0) -> Tensor:
    """Change each picture by three factors drawn from [1 - s, 1 + s], s being the strength given, from 0 to 1."""
    unit = _floating(images) / 255 if images.dtype == torch.uint8 else images
    for adjust, s in ((adjust_brightness, brightness), (adjust_contrast, contrast), (adjust_saturation, saturation)):
        if s > 0:
            unit = adjust(unit, _uniform(images, 1 - s, 1 + s))
    if images.dtype == torch.uint8:
        unit = unit * 255
    return _like(images, unit.clone() if unit is images else unit)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Move each picture away from black: `factor` (B,) 0 makes it black, 1 leaves it as it is."""
    return _blend(images, torch.zeros((), device=images.device), factor)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move each picture away from its mean grey."""
    return _blend(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move each pixel away from its own grey."""
    return _blend(images, _grey(images), factor)


def _blend(images: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    """Return base + factor * (images - base), cut off at black and white."""
    pixels = _floating(images)
    blended = torch.lerp(base.to(pixels.dtype), pixels, factor.to(pixels.dtype).view(-1, 1, 1, 1))
    return _like(images, blended.clamp_(0, 255 if images.dtype == torch.uint8 else 1))


def _grey(images: Tensor) -> Tensor:
    """Return (B, 1, H, W)."""
    if images.shape[1] == 1:
        return _floating(images)
    if images.shape[1] != 3:
        raise ValueError(f"colours are red, green and blue, or grey alone: not {images.shape[1]} channels")
    red, green, blue = _floating(images).split(1, dim=1)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


# --- boxes ------------------------------------------------------------------------------------------------------------


def cutout(images: Tensor, size: int, p: float = 1.0, fill: float = 0.0) -> Tensor:
    """Paint a square of `size` pixels over each picture with probability `p` (DeVries & Taylor 2017, random erasing).

    Its centre may be any pixel, so that at the edge only a part of it hides something.
    """
    hidden = boxes(images, size, size)
    if p < 1:
        hidden &= torch.rand(len(images), 1, 1, 1, device=images.device) < p
    return _like(images, images.masked_fill(hidden, fill))


def boxes(images: Tensor, height: Tensor | int, width: Tensor | int) -> Tensor:
    """Return masks (B, 1, H, W), true in a box around any pixel of each picture; `height`, `width`: numbers or (B,)."""
    inside = []
    for whole, part in zip(images.shape[-2:], (height, width), strict=True):
        centre = torch.randint(whole, (len(images),), device=images.device)
        first = (centre - part // 2)[:, None]  # (B, 1)
        place = torch.arange(whole, device=images.device)
        end = first + (part[:, None] if isinstance(part, Tensor) else part)
        inside.append((place >= first) & (place < end))  # (B, H), then (B, W)
    return inside[0][:, None, :, None] & inside[1][:, None, None, :]


# --- what all of them need --------------------------------------------------------------------------------------------


def _uniform(images: Tensor, low: float, high: float) -> Tensor:
    """Draw (B,) numbers, in float32 whatever the images are: one seed gives one augmentation."""
    return torch.empty(len(images), device=images.device).uniform_(low, high)


def _floating(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float()


def _like(images: Tensor, result: Tensor) -> Tensor:
    """Bring `result` to the type and memory layout of `images`; numbers become bytes by rounding."""
    if images.dtype == torch.uint8 and result.dtype != torch.uint8:
        result = result.round_().clamp_(0, 255).to(torch.uint8)
    plain = images.is_contiguous() or not images.is_contiguous(memory_format=torch.channels_last)
    return result.contiguous(memory_format=torch.contiguous_format if plain else torch.channels_last)


def _check(padding: str) -> None:
    if padding not in PADDINGS:
        raise ValueError(f"padding is one of {', '.join(PADDINGS)}, not {padding!r}")
