"""All families, and sets of questions out of them: endlessly many to learn from, the same few hundred to measure on.
全部任务族，以及由它们生成的题集：训练题无穷无尽，测试题是固定的几百道。
"""

from collections import Counter
from collections.abc import Sequence

import torch

from chapter_10_llm_modern_components.tasks.arithmetic import Arithmetic, Comparison, Pattern, Units, WordProblem
from chapter_10_llm_modern_components.tasks.calendar_clock import Calendar, Clock
from chapter_10_llm_modern_components.tasks.compositions import Composition
from chapter_10_llm_modern_components.tasks.family import Example, Family, pick, split_of
from chapter_10_llm_modern_components.tasks.lists import (
    KeepSome,
    Membership,
    ReverseList,
    Select,
    SortNumbers,
    SortWords,
)
from chapter_10_llm_modern_components.tasks.python_expressions import PythonExpression
from chapter_10_llm_modern_components.tasks.spelling import CountLetters, Replace, Reverse, Shorten, Style

FAMILIES: dict[str, Family] = {
    "arithmetic": Arithmetic(),
    "word_problem": WordProblem(),
    "units": Units(),
    "comparison": Comparison(),
    "pattern": Pattern(),
    "clock": Clock(),
    "calendar": Calendar(),
    "sort_numbers": SortNumbers(),
    "sort_words": SortWords(),
    "reverse_list": ReverseList(),
    "membership": Membership(),
    "select": Select(),
    "keep_some": KeepSome(),
    "reverse": Reverse(),
    "style": Style(),
    "shorten": Shorten(),
    "replace": Replace(),
    "count_letters": CountLetters(),
    "python": PythonExpression(),
    "composition": Composition(),
}
HELD_OUT = ("clock", "keep_some", "replace")  # families that fine-tuning leaves out, to be learned later
LEARNED = tuple(name for name in FAMILIES if name not in HELD_OUT)
SPLITS = "train", "validation", "test", "unseen"
TRIES = 1000  # draws for a question; one in ten would do


def draw_example(name: str, split: str, generator: torch.Generator) -> Example:
    """Draw a question of a family and a split: "train", "validation", "test", or "unseen": unseen kinds of questions.

    Raises:
        ValueError: the family has no such questions.
    """
    family = FAMILIES[name]
    kinds, values_of = family.kinds(split), "test" if split == "unseen" else split
    if not kinds:
        raise ValueError(f"{name} has no questions for the split {split}")
    kind = pick(kinds, generator)
    for _ in range(TRIES):
        values = family.draw(kind, generator)
        if split_of(values) == values_of:
            question, answer = family.ask(kind, values, generator), family.solve(kind, *values)
            return Example(
                name, kind, values, question, answer, family.expression(kind, *values), family.work(kind, *values)
            )
    raise ValueError(f"{name}, {kind}: no values for the split {split}")


def example_set(names: Sequence[str], split: str, count: int, seed: int = 0) -> list[Example]:
    """Return `count` examples of each family, no two of the same kind and values; a seed means the same ones.

    Fewer, if a family has no more: that is, if a thousand draws in a row bring none that is new.
    """
    examples = []
    for name in names:
        generator = torch.Generator().manual_seed(len(FAMILIES) * seed + list(FAMILIES).index(name))
        found: dict[tuple, Example] = {}
        misses = 0
        while len(found) < count and misses < TRIES:
            example = draw_example(name, split, generator)
            misses = misses + 1 if (example.kind, example.values) in found else 0
            found.setdefault((example.kind, example.values), example)
        examples += found.values()
    return examples


def is_right(example: Example, reply: str) -> bool:
    """Tell whether a reply's last line is the right answer, and nothing but the answer."""
    return FAMILIES[example.family].is_right(example, reply)


def majority_baseline(train: Sequence[Example], test: Sequence[Example]) -> dict[str, float]:
    """Return for each family how often its most frequent answer in `train` is right in `test`."""
    answers: dict[str, Counter] = {}
    for example in train:
        answers.setdefault(example.family, Counter())[example.answer] += 1
    guesses = {family: counts.most_common(1)[0][0] for family, counts in answers.items()}
    right: dict[str, list[bool]] = {}
    for example in test:
        right.setdefault(example.family, []).append(is_right(example, guesses[example.family]))
    return {family: sum(found) / len(found) for family, found in right.items()}
