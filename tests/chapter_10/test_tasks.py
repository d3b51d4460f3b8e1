"""The families of tasks: right answers, many of them, and no test question's values in the training set.
任务族：答案正确、种类足够多，测试题的取值不会出现在训练集里。
"""

import pytest
import torch

from chapter_10_llm_modern_components.answers import LONGEST_ANSWER
from chapter_10_llm_modern_components.dialogue import calculate
from chapter_10_llm_modern_components.tasks import (
    FAMILIES,
    draw_example,
    example_set,
    is_right,
    last_line,
    majority_baseline,
    split_of,
)
from chapter_10_llm_modern_components.tasks.vocabulary import LONGEST_WORD, WORDS

TWO_VALUED = {"membership"}
WORKED = [
    ("arithmetic", "plus", (347, 25), "372"),
    ("arithmetic", "minus", (347, 25), "322"),
    ("arithmetic", "times", (12, 7), "84"),
    ("word_problem", "share", (84, 7), "12"),
    ("word_problem", "groups", (12, 7), "84"),
    ("units", "minutes", (7, 15), "435"),
    ("units", "grams", (3, 45), "3045"),
    ("comparison", "larger", (345, 354), "354"),
    ("comparison", "smaller", (9, 10), "9"),
    ("comparison", "before", ("pear", "apple"), "apple"),
    ("pattern", "steps", ((11, 7, 3),), "-1, -5"),
    ("pattern", "turns", (("sun", "cat", "sun"),), "cat, sun"),
    ("pattern", "turns", (("sun", "cat", "pig", "sun", "cat"),), "pig, sun"),
    ("clock", "later", ("23:35", 50), "00:25"),
    ("clock", "earlier", ("00:05", 6), "23:59"),
    ("calendar", "later", ("Monday", 25, "February", 9), "Wednesday, 6 March"),
    ("calendar", "later", ("Sunday", 31, "December", 1), "Monday, 1 January"),
    ("sort_numbers", "up", ((42, 7, 315),), "7, 42, 315"),
    ("sort_numbers", "down", ((42, 7, 315),), "315, 42, 7"),
    ("sort_words", "alphabet", (("pear", "fig", "apple"),), "apple, fig, pear"),
    ("reverse_list", "list", ((42, 7, 315),), "315, 7, 42"),
    ("membership", "numbers", (7, (42, 7, 315)), "yes"),
    ("membership", "words", ("fig", ("pear", "apple", "sun")), "no"),
    ("select", "third", (("pear", "fig", "apple", "sun"),), "apple"),
    ("select", "last", ((42, 7, 315),), "315"),
    ("keep_some", "even", ((42, 7, 315, 8),), "42, 8"),
    ("keep_some", "even", ((7, 315, 9),), "none"),
    ("reverse", "word", ("stone",), '"enots"'),
    ("style", "upper", ("stone",), '"STONE"'),
    ("style", "dashes", ("stone",), '"s-t-o-n-e"'),
    ("shorten", "last", ("stone",), '"ston"'),
    ("replace", "letter", ("banana", "a", "o"), '"bonono"'),
    ("count_letters", "each", ("banana",), '"b1 a3 n2"'),
    ("python", "[{0}, {1}, {2}][-1]", (42, 7, 315), "315"),
    ("python", '"{0}"[::-1]', ("stone",), '"enots"'),
    ("python", '"{0}" + "{1}"', ("sun", "owl"), '"sunowl"'),
    ("python", "list(range({0}, {1}))", (8, 11), "[8, 9, 10]"),
    ("composition", "word: reverse it, then drop its first letter", ("stone",), '"nots"'),
    ("composition", "list: drop its last number, then sort it", ((42, 7, 315),), "7, 42"),
]


def test_worked_examples():
    for name, kind, values, answer in WORKED:
        assert kind in FAMILIES[name].phrasings and FAMILIES[name].solve(kind, *values) == answer
    assert {name for name, *_ in WORKED} == FAMILIES.keys()


ON_THE_WAY = [
    ("arithmetic", "plus", (347, 25), "273"),
    ("arithmetic", "minus", (347, 25), "223"),
    ("arithmetic", "times", (64, 7), "420 + 28"),
    ("word_problem", "share", (448, 7), "420 + 28"),
    ("units", "minutes", (9, 26), "540 + 26"),
    ("pattern", "steps", ((11, 7, 3),), "-4"),
    ("pattern", "turns", (("sun", "cat", "sun"),), ""),
    ("clock", "later", ("01:58", 81), "01:139"),
    ("clock", "earlier", ("00:05", 6), "00:-1"),
    ("calendar", "later", ("Monday", 25, "February", 9), "34 February"),
    ("composition", "word: reverse it, then drop its first letter", ("stone",), '"enots"'),
    ("sort_numbers", "up", ((42, 7, 315),), ""),
]


def test_what_is_hard_in_the_head_is_done_in_writing():
    for name, kind, values, work in ON_THE_WAY:
        assert FAMILIES[name].work(kind, *values) == work
    first = example_set(["composition"], "train", 1)[0]
    assert is_right(first, first.answer) and is_right(first, f"{first.work}\n{first.answer}")
    assert not is_right(first, f"{first.answer}\n{first.work}") and last_line(" 273\n 372\n") == "372"


def test_the_longest_answer_can_be_written():
    kind, values = "list: reverse it, then sort it", (tuple(range(100, 107)),)
    work, answer = FAMILIES["composition"].work(kind, *values), FAMILIES["composition"].solve(kind, *values)
    assert len(f"{work}\n{answer}") + 1 <= LONGEST_ANSWER  # digits and commas are tokens, and so is the end


@pytest.mark.parametrize("name", FAMILIES)
def test_many_answers_and_no_test_values_in_training(name):
    generator, answers, learned = torch.Generator().manual_seed(0), set(), set()
    for _ in range(8000):
        example = draw_example(name, "train", generator)
        answers.add(example.answer)
        learned.add(frozenset(map(str, example.values)))
        if len(answers) == 1000 or (name in TWO_VALUED and len(learned) == 1000):
            break
    assert len(answers) == (2 if name in TWO_VALUED else 1000)
    for split in ("test", "validation"):
        examples = example_set([name], split, 20)
        assert len({(example.kind, example.values) for example in examples}) == 20
        assert not learned & {frozenset(map(str, example.values)) for example in examples}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_phrasing_names_all_values(name):
    family, generator = FAMILIES[name], torch.Generator().manual_seed(0)
    for kind in family.phrasings:
        example = draw_example(name, "unseen" if kind in family.kinds("unseen") else "train", generator)
        questions = {family.ask(kind, family.draw(kind, generator), generator) for _ in range(40)}
        assert len(questions) > 20
        assert not any(set("{}") & set(question) for question in questions)
        values = family.draw(kind, generator)
        phrased = {family.ask(kind, values, generator) for _ in range(40)}
        parts = [str(part) for value in values for part in (value if isinstance(value, tuple) else (value,))]
        assert len(phrased) >= 2 and all(part in question for part in parts for question in phrased)
        assert is_right(example, f" {example.answer}\n") and not is_right(example, example.answer + ".")


def test_the_split_is_told_by_the_values_alone():
    assert split_of((347, 25)) == split_of((25, 347)) == split_of(((25, 347),))
    shares = [sum(split_of((i, 1000)) == split for i in range(4000)) / 4000 for split in ("test", "validation")]
    assert abs(shares[0] - 0.1) < 0.02 and abs(shares[1] - 0.05) < 0.01
    spelled = example_set(["reverse", "python", "composition"], "train", 20)  # a word is the same word in all of them
    assert not [example for example in spelled if '"' in "".join(map(str, example.values))]
    assert example_set(["reverse"], "test", 5, seed=1) == example_set(["reverse"], "test", 5, seed=1)
    with pytest.raises(ValueError, match="no questions for the split unseen"):
        draw_example("reverse", "unseen", torch.Generator())


def test_unseen_compositions_are_of_steps_that_are_learned():
    family = FAMILIES["composition"]
    learned, unseen = family.kinds("train"), family.kinds("unseen")
    assert len(learned) == 16 and len(unseen) == 8 and not set(learned) & set(unseen)
    for place in (0, 1):
        steps = {kind.split(": ")[0] + kind.split(": ")[1].split(", then ")[place] for kind in unseen}
        assert steps == {kind.split(": ")[0] + kind.split(": ")[1].split(", then ")[place] for kind in learned}
    examples = example_set(["composition"], "unseen", 30)
    assert {example.kind for example in examples} <= set(unseen)
    assert all(split_of(example.values) == "test" for example in examples)


def test_a_calculator_gives_the_answers():
    helped = set()
    for example in example_set(list(FAMILIES), "train", 10):
        if example.expression:
            helped.add(example.family)
            assert str(calculate(example.expression)) == example.answer
    assert helped == {"arithmetic", "word_problem", "units"}


def test_guessing_the_most_frequent_answer_is_not_enough():
    names = ["arithmetic", "membership", "clock", "reverse"]
    baseline = majority_baseline(example_set(names, "train", 200), example_set(names, "test", 100))
    assert 0.35 < baseline["membership"] < 0.65
    assert max(baseline[name] for name in names if name != "membership") < 0.1


def test_words_are_short():
    assert len(set(WORDS)) == len(WORDS) >= 300 and max(map(len, WORDS)) <= LONGEST_WORD
    assert all(word.isalpha() and word.islower() for word in WORDS)
