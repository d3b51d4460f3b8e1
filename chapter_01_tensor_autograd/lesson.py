"""Printing a lesson: headings, paragraphs that fit the screen, rows of numbers.
打印课文：标题、按屏幕宽度换行的段落、成行的数字。
"""

import textwrap

import torch


def section(title: str) -> None:
    """Print a heading, underlined."""
    print(f"\n{title}\n{'-' * len(title)}")


def say(text: str, indent: str = "") -> None:
    """Print a paragraph in lines of 100 characters; line breaks in `text` count as spaces."""
    print(textwrap.fill(" ".join(text.split()), 100, initial_indent=indent, subsequent_indent=indent))


def numbers(tensor: torch.Tensor) -> str:
    """Write a row (n,) as plain numbers: "1 0.5 -2"."""
    return " ".join(f"{number:g}" for number in tensor.tolist())
