"""A lesson on the screen: headings, paragraphs that fit a terminal, tensors in a sentence.
在终端里讲一课：标题、自动换行的段落，以及写进句子里的张量。
"""

import textwrap

from torch import Tensor

WIDTH = 100  # characters of a line


def section(title: str) -> None:
    """Print a heading."""
    print(f"\n{title}\n{'-' * len(title)}")


def say(text: str, indent: str = "") -> None:
    """Print a paragraph; how `text` was broken into lines does not matter."""
    print(textwrap.fill(" ".join(text.split()), WIDTH, initial_indent=indent, subsequent_indent=indent))


def numbers(tensor: Tensor) -> str:
    """Return the numbers of a vector, for a sentence."""
    return " ".join(f"{number:g}" for number in tensor.tolist())
