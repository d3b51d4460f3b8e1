"""A picture file, or a folder full of them, as a batch of small squares that a network can look at.
把一个图片文件或整个文件夹的图片，读成一批网络能看的小方图。
"""

import sys
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from utils.errors import UserError
from utils.pictures import read_picture


def read_folder(place: Path, side: int = 32) -> tuple[list[Path], Tensor, int]:
    """Read a picture, or those of a folder that can be read; of the others each gets a line on stderr.

    Returns:
        the paths; the pictures (N, 3, side, side), uint8; how many files could not be read.

    Raises:
        UserError: there is no such place, or nothing in it that can be read.
    """
    if not place.is_dir():
        return [place], read_picture(place, side)[None], 0
    files = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise UserError(f"{place} holds no files")
    read, complaints = {}, []
    for path in tqdm(files, unit="picture", disable=None):  # no bar where stderr is no terminal
        try:
            read[path] = read_picture(path, side)
        except UserError as error:
            complaints.append(f"left out: {error}")
    if not read:
        raise UserError(f"none of the {len(files)} files in {place} can be read as a picture")
    for line in complaints:
        print(line, file=sys.stderr)
    return list(read), torch.stack(list(read.values())), len(complaints)
