"""Reads one column of numbers from a CSV file, and says in which line something is missing.
从 CSV 文件读取一列数字，并指出哪一行有缺失。
"""

import csv
import io
import math
from itertools import dropwhile
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError


def read_column(path: Path, column: str | None = None) -> tuple[Tensor, str]:
    """Return a column's numbers (T,), float64, and its name: the one called `column`, or the last that begins with one.

    The first line may name the columns; without names `column` counts them, from 1. Commas, semicolons and tabs
    separate; empty lines at the beginning and at the end do not count.

    Raises:
        UserError: the file cannot be read, has no such column, or a line has no finite number there.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise UserError(f"{path} cannot be read: {reason}") from error
    separator = max(",;\t", key=text.lstrip().partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text.rstrip(), newline=""), delimiter=separator)
    try:
        numbered = [(reader.line_num, row) for row in reader]  # a cell in quotes can go over several lines
    except csv.Error as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    numbered = list(dropwhile(lambda pair: not any(pair[1]), numbered))
    if not numbered:
        raise UserError(f"{path} is empty")
    lines, rows = zip(*numbered, strict=True)
    has_names = all(_number(cell) is None for cell in rows[0])
    names = [name.strip() for name in rows[0]] if has_names else [str(i + 1) for i in range(len(rows[0]))]
    first = 1 if has_names else 0
    if len(rows) == first:
        raise UserError(f"{path} has no line of numbers")
    place = _place(path, names, rows[first], column)
    values = []
    for line, row in zip(lines[first:], rows[first:], strict=True):
        cell = row[place].strip() if place < len(row) else ""
        number = _number(cell)
        if number is None:
            found = f"{cell[:40]!r} is not a finite number" if cell else "a gap"
            raise UserError(f"{path}, line {line}, column {names[place]!r}: {found}; fill it in or leave the line out")
        values.append(number)
    return torch.tensor(values, dtype=torch.float64), names[place]


def _place(path: Path, names: list[str], row: list[str], column: str | None) -> int:
    if column is None:
        numeric = [i for i, cell in enumerate(row[: len(names)]) if _number(cell) is not None]
        if not numeric:
            raise UserError(f"{path} has no column of numbers; there are {', '.join(names)}")
        return numeric[-1]  # the first is as a rule a date or a count
    if column not in names:
        raise UserError(f"{path} has no column {column!r}; there are {', '.join(names)[:200]}")
    return names.index(column)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
