"""Reads one column of numbers from a CSV file, and says in which line something is missing.
从 CSV 文件读取一列数字，并指出哪一行有缺失。
"""

import csv
import math
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError

MAX_ROWS = 1_000_000


def read_column(path: Path, column: str | None = None) -> tuple[Tensor, str]:
    """Return a column's numbers (T,), float64, and its name: the one called `column`, or the last that begins with one.

    The first line may name the columns; without names `column` counts them, from 1. Commas, semicolons and tabs
    separate; empty lines at the end do not count.

    Raises:
        UserError: the file cannot be read, has no such column, or a line has no finite number there.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise UserError(f"{path} cannot be read: {reason}") from error
    lines = text.rstrip().splitlines()
    if not text.strip():
        raise UserError(f"{path} is empty")
    separator = max(",;\t", key=lines[0].count)
    try:
        rows = list(csv.reader(lines[: MAX_ROWS + 1], delimiter=separator))
    except csv.Error as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    has_names = bool(rows[0]) and all(_number(cell) is None for cell in rows[0])
    names = [name.strip() for name in rows[0]] if has_names else [str(i + 1) for i in range(len(rows[0]))]
    first = 1 if has_names else 0
    if len(rows) == first:
        raise UserError(f"{path} has no line of numbers")
    place = _place(path, names, rows[first], column)
    values = []
    for line, row in enumerate(rows[first:], start=first + 1):
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
