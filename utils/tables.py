"""Tables on the screen whose columns line up, Chinese names included.
在屏幕上打印对齐的表格，中文名也能对齐。

A Chinese character takes two places of a terminal, a combining accent none, so `len` does not tell a text's width.
"""

import os
import unicodedata
from collections.abc import Sequence


def display_width(text: str) -> int:
    """Return how many places of a terminal `text` takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.category(c) in ("Mn", "Me", "Cf") for c in text)


def padded(text: str, width: int, align: str = "<") -> str:
    """Fill `text` with spaces to so many places: behind it ("<") or before it (">")."""
    space = " " * (width - display_width(text))
    return text + space if align == "<" else space + text


def aligned(rows: Sequence[Sequence[object]], align: str) -> list[str]:
    """Return a line for each row, every column as wide as its widest cell.

    Args:
        align: "<" or ">" for each column; the last one of these holds for those that follow.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(*cells, strict=True)]
    align = align.ljust(len(widths), align[-1])
    lines = ("  ".join(map(padded, row, widths, align)) for row in cells)
    return [line.rstrip() for line in lines]


def final_lines(final: dict) -> list[str]:
    """Return a line for each single figure of a results file's `final`, with its spread where it has one."""
    rows = []
    for name, value in final.items():
        if isinstance(value, (dict, list)) or (name.endswith("_std") and name.removesuffix("_std") in final):
            continue
        spread = f" ± {final[f'{name}_std']:.2g}" if f"{name}_std" in final else ""
        rows.append((name, (f"{value:.4g}" if isinstance(value, float) else f"{value}") + spread))
    return aligned(rows, "<<") if rows else []


def printable(name: str) -> str:
    """Return a file's name with a replacement character for each byte that is not UTF-8."""
    return os.fsencode(name).decode("utf-8", errors="replace")
