"""What a classifier says of picture files: its most probable classes, beside the class that a file is named after.
分类器对图片文件的回答：最可能的几个类别，以及文件名里写明的类别。
"""

import re
from pathlib import Path

from torch import Tensor

from utils.plotting import COLOURS
from utils.tables import aligned, printable

VERDICT_COLOURS = {"right": COLOURS[2], "wrong": COLOURS[1], "?": COLOURS[0]}  # green, red, blue


def describe(path: Path, p: Tensor, classes: list[str]) -> dict:
    """Return what a picture's probabilities p (K,) and its file's name say: plain values, fit for JSON."""
    best = p.topk(min(5, len(classes)))
    top = {classes[i]: p for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)}
    answer = next(iter(top))
    named = class_in_name(path.stem, classes)
    return {"file": printable(path.name), "named": named, "answer": answer, "p": top[answer], "top": top}


def class_in_name(name: str, classes: list[str]) -> str | None:
    """Return the one class that is a word of a file's name; None if there is none, or more."""
    found = set(re.findall("[a-z]+", name.lower())) & set(classes)
    return found.pop() if len(found) == 1 else None


def verdict(answer: dict) -> str:
    """Return "right" or "wrong" where the file is named after a class, else "?"."""
    if answer["named"] is None:
        return "?"
    return "right" if answer["named"] == answer["answer"] else "wrong"


def print_answers(answers: list[dict]) -> None:
    """Print a line for each picture: its file, the class it is named after, and the most probable classes."""
    word = max(len(name) for answer in answers for name in answer["top"])
    rows = [("file", "named", "", "the five most probable classes")]
    for a in answers:
        best = "  ".join(f"{name:{word}} {p:6.1%}" for name, p in a["top"].items())
        rows.append((a["file"], a["named"] or "?", verdict(a), best))
    print("\n".join(aligned(rows, "<")))
