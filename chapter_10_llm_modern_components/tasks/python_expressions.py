"""Short Python expressions, and what they evaluate to.
简短的 Python 表达式及其值。
"""

from chapter_10_llm_modern_components.tasks.family import Family, integer, number, pick, quoted, word_to_spell
from chapter_10_llm_modern_components.tasks.vocabulary import WORDS

NAMES = {"len": len, "max": max, "min": min, "sorted": sorted, "list": list, "range": range}


class PythonExpression(Family):
    """[42, 7, 315][-1] -> 315; "stone"[::-1] -> "enots" """

    ask_for = ("What does Python say to {0}?", "Evaluate in Python: {0}", "What is the value of {0} in Python?")
    phrasings = dict.fromkeys(
        (
            "max({0}, {1}, {2})",
            "min({0}, {1}, {2})",
            "[{0}, {1}, {2}][0]",
            "[{0}, {1}, {2}][-1]",
            "[{0}, {1}] + [{2}]",
            "{0} % 10",
            "{0} // 10",
            "list(range({0}, {1}))",
            'len("{0}")',
            '"{0}"[::-1]',
            '"{0}"[:2]',
            '"{0}".upper()',
            '"{0}" + "{1}"',
        ),
        ask_for,
    )  # an expression is a kind of question

    def draw(self, kind, generator):
        if "+ " in kind and '"' in kind:
            return pick(WORDS, generator), pick(WORDS, generator)
        if '"' in kind:
            return (word_to_spell(generator),)
        if "range" in kind:
            start = number(generator)
            return start, start + integer(1, 5, generator)
        return tuple(number(generator) for _ in range(3 if "{2}" in kind else 1))

    def ask(self, kind, values, generator):
        return pick(self.ask_for, generator).format(kind.format(*values))

    def solve(self, kind, *values):
        value = eval(kind.format(*values), {"__builtins__": {}}, NAMES)  # of our own expressions alone
        return quoted(value) if isinstance(value, str) else str(value)
