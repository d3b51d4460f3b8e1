"""The safetensors format, by hand: a length, a table of contents in JSON, and the numbers. Nothing in it can run.
手写 safetensors 格式：长度、JSON 目录、数据本身；文件中没有任何可执行的内容。

    8 bytes    length n of the table, an unsigned little-endian number
    n bytes    JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
    the rest   the tensors, one after another without gaps; offsets count from here
"""

import json
import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError
from utils.file_io_util import atomic_write

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
LARGEST_HEADER = 100_000_000  # bytes, as in the reference reader


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors by their names, whole or not at all."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers begin where a processor likes them to
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors by their names.

    Raises:
        UserError: the file is missing or damaged, or a table does not fit its numbers.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as file:
        try:
            header, begin = _read_header(file, Path(path).stat().st_size)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise UserError(f"{path} is no whole safetensors file: {error}") from error
        tensors = {}
        for name, (dtype, shape, start, end) in header.items():
            data = torch.empty(end - start, dtype=torch.uint8)
            file.seek(begin + start)
            file.readinto(memoryview(data.numpy()))
            tensors[name] = data.view(dtype).view(shape)
    return tensors


def _read_header(file, size: int) -> tuple[dict[str, tuple[torch.dtype, list[int], int, int]], int]:
    """Return each tensor's type, shape and place, all of which were checked, and where the numbers begin.

    Raises:
        ValueError: what is wrong; of what should be a table or a list, also the errors of it being something else.
    """
    start = file.read(8)
    if len(start) < 8:
        raise ValueError("it ends within the length of its table")
    [length] = struct.unpack("<Q", start)
    if length > min(LARGEST_HEADER, size - 8):
        raise ValueError(f"its table would have {length} bytes")
    header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_without_duplicates)
    header.pop("__metadata__", None)
    found, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        (first, last), shape = entry["data_offsets"], entry["shape"]
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name} is of the type {entry['dtype']}, which is not read here")
        if not all(type(number) is int and number >= 0 for number in [first, last, *shape]):
            raise ValueError(f"the shape or the place of {name} is not of whole numbers")
        dtype = DTYPES[entry["dtype"]]
        if first != end or last - first != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"the place of {name} does not fit its shape, or leaves a gap")
        found[name], end = (dtype, shape, first, last), last
    if 8 + length + end != size:
        raise ValueError(f"it should have {8 + length + end} bytes and has {size}")
    return found, 8 + length


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name occurs twice in its table")
    return table
