"""Fifty-two children's books from Project Gutenberg, out of copyright: English to read before a task is learned.
古登堡计划中五十二本已无版权的童书：在学具体任务之前先读的英文。
"""

import re
from pathlib import Path

from chapter_06_rnn_lstm_seq.words import TOKEN
from utils.errors import UserError
from utils.file_io_util import download

URL = "https://www.gutenberg.org/cache/epub/{number}/pg{number}.txt"
NUMBERS = [  # in Project Gutenberg's catalogue
    11, 12, 16, 45, 47, 54, 55, 113, 120, 225, 236, 271, 419, 420, 485, 486, 498, 500, 501, 503, 514, 517, 540, 640,
    641, 708, 778, 836, 837, 955, 956, 957, 959, 1448, 1450, 1597, 1874, 1937, 2435, 2591, 2770, 3027, 3074, 3282, 3454,
    4018, 5615, 6746, 7128, 7277, 7439, 7885,
]  # fmt: skip
HELD_OUT = [120, 271]  # Treasure Island and Black Beauty: of neither is there a sequel among the others
QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "_": ""})  # Gutenberg writes _so_ for italics
BODY = re.compile(r"\*\*\* ?START OF [^\n]*\n(.*)\*\*\* ?END OF ", re.DOTALL)  # without the catalogue's own words


def load_books(root: Path, offline: str) -> tuple[list[str], list[str]]:
    """Return the books to train on and the held-out ones, in the order of the catalogue.

    Looks for `root`/childrens_books/<number>*.txt, and downloads what is missing to <number>.txt there.

    Args:
        offline: what the calling script can do without them, such as "--dataset toy needs no download".

    Raises:
        UserError: a book is missing and cannot be downloaded, or is no text in UTF-8.
    """
    folder = root / "childrens_books"
    found = {path.stem.split("_")[0]: path for path in sorted(folder.glob("*.txt"))}
    parts: dict[bool, list[str]] = {False: [], True: []}
    for number in NUMBERS:
        path = found.get(str(number))
        path = path or download(URL.format(number=number), folder / f"{number}.txt", None, offline)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is no text in UTF-8: delete it, and it will be fetched again") from error
        body = BODY.search(text)
        parts[number in HELD_OUT].append(body[1] if body else text)
    return parts[False], parts[True]


def plain_text(text: str) -> str:
    """Return words and marks in lower case, a space between any two: the form that the polarity sentences have.

    "“Don’t!” said Alice." -> "\\" don't ! \\" said alice ."
    """
    return " ".join(TOKEN.findall(text.lower().translate(QUOTES)))
