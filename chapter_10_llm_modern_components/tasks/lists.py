"""Tasks on lists of three to seven numbers or words: sort, turn round, look up, select, keep some.
围绕三到七个数或词的列表：排序、倒序、查找、选取、筛选。
"""

from chapter_10_llm_modern_components.tasks.family import Family, integer, number, numbers, pick, shown, words
from chapter_10_llm_modern_components.tasks.vocabulary import WORDS


def numbers_or_words(generator) -> tuple:
    return pick((numbers, words), generator)(generator)


class SortNumbers(Family):
    """(42, 7, 315) -> 7, 42, 315"""

    phrasings = {
        "up": ("Sort these numbers: {0}", "Put in order, smallest first: {0}", "Write from small to large: {0}"),
        "down": (
            "Sort these numbers, largest first: {0}",
            "Put in order, greatest first: {0}",
            "Write from large to small: {0}",
        ),
    }

    def draw(self, kind, generator):
        return (numbers(generator),)

    def solve(self, kind, items):
        return shown(tuple(sorted(items, reverse=kind == "down")))


class SortWords(Family):
    """(pear, fig, apple) -> apple, fig, pear"""

    phrasings = {
        "alphabet": (
            "Sort these words: {0}",
            "Put in the order of the alphabet: {0}",
            "Write as a dictionary would have them: {0}",
        )
    }

    def draw(self, kind, generator):
        return (words(generator),)

    def solve(self, kind, items):
        return shown(tuple(sorted(items)))


class ReverseList(Family):
    """(42, 7, 315) -> 315, 7, 42"""

    phrasings = {
        "list": (
            "Reverse this list: {0}",
            "Write this list from its end to its beginning: {0}",
            "Turn this list round: {0}",
        )
    }

    def draw(self, kind, generator):
        return (numbers_or_words(generator),)

    def solve(self, kind, items):
        return shown(items[::-1])


class Membership(Family):
    """7, (42, 7, 315) -> yes"""

    phrasings = {
        "numbers": ("Is {0} in this list? {1}", "Does this list have {0}? {1}", "Look for {0}: is it in {1}?"),
        "words": ("Is {0} in this list? {1}", "Does this list have {0}? {1}", "Look for {0}: is it in {1}?"),
    }

    def draw(self, kind, generator):
        items = (numbers if kind == "numbers" else words)(generator)
        if integer(0, 1, generator):
            return pick(items, generator), items
        while (other := number(generator) if kind == "numbers" else pick(WORDS, generator)) in items:
            pass
        return other, items

    def solve(self, kind, item, items):
        return "yes" if item in items else "no"


class Select(Family):
    """third of (pear, fig, apple) -> apple"""

    places = {"first": 0, "second": 1, "third": 2, "last": -1}
    phrasings = {
        place: (f"Which is the {place} of these? {{0}}", f"Name the {place} in this list: {{0}}") for place in places
    }

    def draw(self, kind, generator):
        return (numbers_or_words(generator),)

    def solve(self, kind, items):
        return str(items[self.places[kind]])


class KeepSome(Family):
    """even of (42, 7, 315, 8) -> 42, 8"""

    phrasings = {
        kind: (f"Which of these are {kind}? {{0}}", f"Keep the {kind} numbers: {{0}}", f"Name all {kind} ones: {{0}}")
        for kind in ("even", "odd")
    }

    def draw(self, kind, generator):
        return (numbers(generator),)

    def solve(self, kind, items):
        return shown(tuple(n for n in items if n % 2 == (kind == "odd"))) or "none"
