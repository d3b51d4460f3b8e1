"""Dates as people write them, in English and Chinese, to be turned into YYYY-MM-DD, and where each digit is told.
人们笔下的日期（英文与中文），要写成 YYYY-MM-DD；并且知道每个数字该看哪个字符。

    Friday, March 5, 2021     ->  2021-03-05
    2021年3月5日（星期五）      ->  2021-03-05

Every format is put together from pieces that know what they say, so a right answer exists not only for the date but
also for where to look.
"""

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from zlib import crc32

import torch

from chapter_07_attention_mechanism.dataset.splits import part_of

MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NUMERALS = "〇一二三四五六七八九"
FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
YEAR, MONTH, DAY = (0, 1, 2, 3), (5, 6), (8, 9)  # the places of their digits in YYYY-MM-DD

Piece = tuple[str, tuple[int, ...]]  # characters, and the places of the answer that each of them tells


@dataclass(frozen=True)
class Example:
    """A date in a format: `tells[j]` are the places of the answer that the source's j-th character tells."""

    source: str
    target: str
    tells: tuple[tuple[int, ...], ...]


def digits(number: int, places: tuple[int, ...], padded: bool = False) -> list[Piece]:
    """Return a number's digits, each telling its place; a single one tells them all, since it stands for 05 too."""
    text = f"{number:0{len(places)}}" if padded else str(number)
    if len(text) == len(places):
        return [(character, (place,)) for character, place in zip(text, places, strict=True)]
    return [(text, places)]


def numerals(number: int, places: tuple[int, ...]) -> list[Piece]:
    """Return a number up to 99 in Chinese numerals: 五, 十, 十五, 二十, 二十五."""
    tens, ones = divmod(number, 10)
    ten = ("" if tens < 2 else NUMERALS[tens]) + ("十" if tens else "")
    one = NUMERALS[ones] if ones else ""
    return [(ten, places[:1]), (one, places[1:])] if ten and one else [(ten + one, places)]


def ordinal(day: int) -> list[Piece]:
    suffix = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return [*digits(day, DAY), (suffix, ())]


def say(*parts: str | list[Piece]) -> list[Piece]:
    """Join pieces, and plain text, which tells nothing."""
    return [piece for part in parts for piece in ([(part, ())] if isinstance(part, str) else part)]


def year(d: datetime.date) -> list[Piece]:
    return digits(d.year, YEAR)


def month_name(d: datetime.date, letters: int | None = None) -> list[Piece]:
    return [(MONTHS[d.month - 1][:letters], MONTH)]


def english(d: datetime.date) -> list[Piece]:
    return say(month_name(d), " ", digits(d.day, DAY), ", ", year(d))


def chinese(d: datetime.date) -> list[Piece]:
    return say(year(d), "年", digits(d.month, MONTH), "月", digits(d.day, DAY), "日")


def weekday(d: datetime.date) -> str:
    return WEEKDAYS[d.weekday()]


def zh_weekday(d: datetime.date) -> str:
    return "星期" + "一二三四五六日"[d.weekday()]


def clock(d: datetime.date) -> str:
    """Return a time of day that the date alone decides: numbers that tell nothing about the answer."""
    minutes = crc32(d.isoformat().encode()) % (24 * 60)
    return f"{minutes // 60}:{minutes % 60:02}"


Format = Callable[[datetime.date], list[Piece]]
SEEN: dict[str, Format] = {
    "en plain": english,
    "en short": lambda d: say(month_name(d, 3), " ", digits(d.day, DAY), ", ", year(d)),
    "en day first": lambda d: say(digits(d.day, DAY), " ", month_name(d), " ", year(d)),
    "en ordinal": lambda d: say("the ", ordinal(d.day), " of ", month_name(d), ", ", year(d)),
    "en slashes": lambda d: say(digits(d.month, MONTH), "/", digits(d.day, DAY), "/", year(d)),
    "en padded": lambda d: say(digits(d.month, MONTH, True), "/", digits(d.day, DAY, True), "/", year(d)),
    "en dots": lambda d: say(digits(d.day, DAY), ".", digits(d.month, MONTH), ".", year(d)),
    "en weekday first": lambda d: say(weekday(d), ", ", english(d)),
    "en clock last": lambda d: say(english(d), ", ", clock(d)),
    "zh plain": chinese,
    "zh padded": lambda d: say(year(d), "年", digits(d.month, MONTH, True), "月", digits(d.day, DAY, True), "日"),
    "zh spoken": lambda d: say(year(d), "年", digits(d.month, MONTH), "月", digits(d.day, DAY), "号"),
    "zh slashes": lambda d: say(year(d), "/", digits(d.month, MONTH), "/", digits(d.day, DAY)),
    "zh numerals": lambda d: say(
        [(NUMERALS[int(digit)], places) for digit, places in year(d)],
        *("年", numerals(d.month, MONTH), "月", numerals(d.day, DAY), "日"),
    ),
    "zh weekday last": lambda d: say(chinese(d), "（", zh_weekday(d), "）"),
    "zh clock first": lambda d: say(clock(d), "，", chinese(d)),
}
HELD_OUT: dict[str, Format] = {  # each is seen in the other language alone
    "en weekday last": lambda d: say(english(d), " (", weekday(d), ")"),
    "en clock first": lambda d: say(clock(d), ", ", english(d)),
    "zh weekday first": lambda d: say(zh_weekday(d), "，", chinese(d)),
    "zh clock last": lambda d: say(chinese(d), "，", clock(d)),
}


def write(d: datetime.date, style: Format) -> Example:
    """Write the date in a format."""
    pieces = style(d)
    source = "".join(text for text, _ in pieces)
    return Example(source, d.isoformat(), tuple(places for text, places in pieces for _ in text))


@cache
def all_dates(part: str) -> tuple[datetime.date, ...]:
    """Return every date from 1950 to 2049 that, in whatever format, is for "train", "validation" or "test"."""
    days = (FIRST + datetime.timedelta(n) for n in range((LAST - FIRST).days + 1))
    return tuple(day for day in days if part_of(day.isoformat()) == part)


def draw_examples(count: int, generator: torch.Generator, part: str, formats: Iterable[str] = SEEN) -> list[Example]:
    """Return `count` dates of a part, each in one of the formats, both drawn at random."""
    styles, days = [(SEEN | HELD_OUT)[name] for name in formats], all_dates(part)
    which = torch.stack([torch.randint(len(x), (count,), generator=generator) for x in (days, styles)], dim=1)
    return [write(days[day], styles[style]) for day, style in which.tolist()]
