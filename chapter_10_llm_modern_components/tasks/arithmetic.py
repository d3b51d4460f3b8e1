"""Tasks on numbers: sums in words, small stories with a sum in them, comparisons, series, and units.
围绕数的任务：文字算式、简单应用题、比较、数列与单位换算。
"""

import operator

from chapter_10_llm_modern_components.tasks.family import Family, integer, number, pick, shown
from chapter_10_llm_modern_components.tasks.vocabulary import NAMES, THINGS, WORDS

SIGNS = {"plus": "+", "minus": "-", "times": "*", "gain": "+", "loss": "-", "groups": "*", "share": "//"}
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv}


def operands(sign: str, least: int, generator) -> tuple[int, int]:
    """Draw two numbers, not below `least`, whose sum, difference, product or quotient is a whole number from 0 up."""
    if sign in "+-":
        a, b = number(generator, least), number(generator, least)
        return (max(a, b), min(a, b)) if sign == "-" else (a, b)
    a, b = integer(2, 99, generator), integer(2, 9, generator)
    return (a * b, b) if sign == "//" else (a, b)


def on_paper(sign: str, a: int, b: int) -> str:
    """Return the step before the answer: digits from the last one on, as carries go; or the parts of a product.

    347 + 25: 273, to be turned round. 64 * 7: 420 + 28. 448 // 7: the same, to be divided part by part.
    """
    if sign in "+-":
        return str(OPERATIONS[sign](a, b))[::-1]
    tens, ones = divmod(a if sign == "*" else a // b, 10)
    return f"{10 * tens * b} + {ones * b}"


class Arithmetic(Family):
    """347, 25 -> 372"""

    phrasings = {
        "plus": ("What is {0} plus {1}?", "Add {0} and {1}.", "How much are {0} and {1} together?"),
        "minus": ("What is {0} minus {1}?", "Take {1} away from {0}.", "How much is {0} less {1}?"),
        "times": ("What is {0} times {1}?", "Multiply {0} by {1}.", "How much is {0} multiplied by {1}?"),
    }

    def draw(self, kind, generator):
        return operands(SIGNS[kind], 0, generator)

    def expression(self, kind, a, b):
        return f"{a}{SIGNS[kind]}{b}"

    def work(self, kind, a, b):
        return on_paper(SIGNS[kind], a, b)

    def solve(self, kind, a, b):
        return str(OPERATIONS[SIGNS[kind]](a, b))


class WordProblem(Family):
    """ "Anna has 34 apples and finds 8 more." -> 42; who has how many of what is made up anew for each question."""

    phrasings = {
        "gain": (
            "{name} has {0} {things} and finds {1} more. How many {things} does {name} have now?",
            "There were {0} {things}, and {name} brought {1}. How many {things} are there?",
            "{name} gets {0} {things} today and {1} tomorrow. How many {things} is that?",
        ),
        "loss": (
            "{name} has {0} {things} and gives {1} away. How many {things} does {name} have left?",
            "Of {0} {things} {name} took {1}. How many {things} are there now?",
            "{name} had {0} {things} and lost {1}. How many {things} are left?",
        ),
        "groups": (
            "{name} has {0} boxes with {1} {things} in each. How many {things} does {name} have?",
            "In each of {0} bags there are {1} {things}. How many {things} is that, {name}?",
            "{0} children bring {name} {1} {things} each. How many {things} does {name} get?",
        ),
        "share": (
            "{name} shares {0} {things} equally among {1} children. How many {things} does each child get?",
            "{name} puts {0} {things} into {1} equal heaps. How many {things} are in a heap?",
            "{1} friends of {name} share {0} {things} equally. How many {things} has each?",
        ),
    }

    def draw(self, kind, generator):
        return operands(SIGNS[kind], 2, generator)

    def ask(self, kind, values, generator):
        who = {"name": pick(NAMES, generator), "things": pick(THINGS, generator)}
        return pick(self.phrasings[kind], generator).format(*values, **who)

    def expression(self, kind, a, b):
        return f"{a}{SIGNS[kind]}{b}"

    def work(self, kind, a, b):
        return on_paper(SIGNS[kind], a, b)

    def solve(self, kind, a, b):
        return str(OPERATIONS[SIGNS[kind]](a, b))


class Comparison(Family):
    """345, 354 -> 354; pear, apple -> apple"""

    phrasings = {
        "larger": ("Which is larger, {0} or {1}?", "Name the greater of {0} and {1}.", "Is {0} or {1} more?"),
        "smaller": ("Which is smaller, {0} or {1}?", "Name the lesser of {0} and {1}.", "Is {0} or {1} less?"),
        "before": (
            "Which comes first in the alphabet, {0} or {1}?",
            "Name the one of {0} and {1} that a dictionary has first.",
        ),
    }

    def draw(self, kind, generator):
        pair = (lambda: pick(WORDS, generator)) if kind == "before" else (lambda: number(generator))
        a, b = pair(), pair()
        return (a, b) if a != b else self.draw(kind, generator)

    def solve(self, kind, a, b):
        return str(max(a, b) if kind == "larger" else min(a, b))


class Pattern(Family):
    """(3, 7, 11) -> 15, 19; (a, b, a) -> b, a"""

    phrasings = {
        "steps": ("Go on with two more: {0}", "Which two numbers come next? {0}", "Continue by two: {0}"),
        "turns": ("Go on with two more: {0}", "Which two words come next? {0}", "Continue by two: {0}"),
    }

    def draw(self, kind, generator):
        length = integer(3, 7, generator)
        if kind == "steps":
            step = integer(1, 20, generator)
            start = integer(0, 999 - step * (length + 1), generator)
            series = [start + step * i for i in range(length)]
            return (tuple(series if integer(0, 1, generator) else [999 - n for n in series]),)
        period = integer(2, 3, generator)
        cycle = [pick(WORDS, generator) for _ in range(period)]
        if len(set(cycle)) < period:
            return self.draw(kind, generator)
        return (tuple(cycle[i % period] for i in range(integer(period + 1, 7, generator))),)

    def work(self, kind, series):
        return f"{series[1] - series[0]:+}" if kind == "steps" else ""

    def solve(self, kind, series):
        if kind == "steps":
            step = series[1] - series[0]
            return shown((series[-1] + step, series[-1] + 2 * step))
        period = series.index(series[0], 1)
        return shown((series[-period], series[1 - period]))


class Units(Family):
    """7 hours and 15 minutes -> 435"""

    phrasings = {
        "minutes": ("How many minutes are {0} hours and {1} minutes?", "Turn {0} hours and {1} minutes into minutes."),
        "days": ("How many days are {0} weeks and {1} days?", "Turn {0} weeks and {1} days into days."),
        "centimetres": (
            "How many centimetres are {0} metres and {1} centimetres?",
            "Turn {0} metres and {1} centimetres into centimetres.",
        ),
        "grams": ("How many grams are {0} kilograms and {1} grams?", "Turn {0} kilograms and {1} grams into grams."),
    }
    sizes = {"minutes": 60, "days": 7, "centimetres": 100, "grams": 1000}  # how many small units make a large one

    def draw(self, kind, generator):
        return integer(2, 12 if kind == "minutes" else 99, generator), integer(1, self.sizes[kind] - 1, generator)

    def expression(self, kind, large, small):
        return f"{large}*{self.sizes[kind]}+{small}"

    def work(self, kind, large, small):
        return f"{large * self.sizes[kind]} + {small}"

    def solve(self, kind, large, small):
        return str(large * self.sizes[kind] + small)
