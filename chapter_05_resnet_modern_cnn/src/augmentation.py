"""Training pictures that never look the same twice: pieces of all sizes, and mixtures of two pictures.
每次看到的训练图片都不一样：大小不一的裁块，以及两张图片的混合。
"""

import torch
from torch import Tensor

from chapter_03_optimization_regularization.regularization.augmentation import affine, affine_matrices
from chapter_03_optimization_regularization.regularization.mixing import cutmix, mixup

RATIO = 4 / 3  # a piece that is cut out is at most so much wider than high, or higher than wide


def random_resized_crops(images: Tensor, side: int, smallest: float, degrees: float, ratio: float = RATIO) -> Tensor:
    """Cut a piece out of each picture (B, 3, H, W), uint8, mirror half of them, turn them; all enlarged to one side.

    All moves are one matrix: each new pixel is looked up at its place in the old picture, and blurred but once.

    Args:
        smallest: area of the smallest piece, as a share of the picture's.
        degrees: pictures turn by up to so much either way.

    Returns:
        (B, 3, side, side), float, from 0 to 1.
    """
    pixels = images.float(memory_format=torch.contiguous_format) / 255
    dice = torch.rand(6, len(images), device=images.device)  # for each picture area, shape, place (2), mirror, turn
    area, shape = smallest + (1 - smallest) * dice[0], ratio ** (2 * dice[1] - 1)
    part = torch.stack([(area * shape).sqrt(), (area / shape).sqrt()], dim=1).clamp(max=1)  # (B, 2): of width, height
    whole = part.new_tensor([images.shape[-1], images.shape[-2]])
    centre = (dice[2:4].T - 0.5) * (1 - part) * whole  # (B, 2): the piece lies inside the picture
    stretch = part * whole / side  # (B, 2): pixels of the old picture to one of the new
    stretch[:, 0] *= torch.where(dice[4] < 0.5, -1.0, 1.0)
    turn = affine_matrices((2 * dice[5] - 1) * degrees)[:, :, :2]  # (B, 2, 2)
    matrices = torch.cat([turn * stretch[:, None], centre[:, :, None]], dim=2)  # (B, 2, 3)
    return affine(pixels, matrices, "reflect", (side, side))


def mix_at_random(x: Tensor, targets: Tensor, cutmix_share: float, mixup_share: float) -> tuple[Tensor, Tensor]:
    """Leave the batch as it is, or give the pictures parts of one another (CutMix), or blend them (mixup)."""
    chance = torch.rand(()).item()
    if chance < cutmix_share:
        return cutmix(x, targets)
    return mixup(x, targets) if chance < cutmix_share + mixup_share else (x, targets)
