"""Two steps, one after the other. Some pairs of steps are never learned from: can a model do each, and not both?
两步操作的组合。有些组合从不出现在训练中：每一步都会做的模型，连起来还会吗？
"""

from itertools import permutations

from chapter_10_llm_modern_components.tasks.family import Family, numbers, quoted, shown, word_to_spell

WORD_STEPS = {
    "reverse it": lambda word: word[::-1],
    "write it in upper case": str.upper,
    "drop its first letter": lambda word: word[1:],
    "drop its last letter": lambda word: word[:-1],
}
LIST_STEPS = {
    "reverse it": lambda items: items[::-1],
    "sort it": lambda items: tuple(sorted(items)),
    "drop its first number": lambda items: items[1:],
    "drop its last number": lambda items: items[:-1],
}


def pairs(steps: dict) -> dict[str, tuple]:
    """Return "a, then b" -> (a, b) for each two steps."""
    return {f"{a}, then {b}": (a, b) for a, b in permutations(steps, 2)}


def unseen(steps: dict) -> list[str]:
    """Return the pairs that are held out: each step, then the one behind it in the list, and the first behind the last.

    So each step is still learned as the first of two, and as the second.
    """
    names = list(steps)
    return [f"{a}, then {b}" for a, b in zip(names, names[1:] + names[:1], strict=True)]


class Composition(Family):
    """reverse it, then write it in upper case: "stone" -> "ENOTS" """

    steps = {"word": WORD_STEPS, "list": LIST_STEPS}
    phrasings = {
        f"{what}: {pair}": (f"Take {item}: {pair}.", f"Here is {item}. Please {pair}.", f"With {item}, {pair}.")
        for what, steps, item in (("word", WORD_STEPS, 'the word "{0}"'), ("list", LIST_STEPS, "the list {0}"))
        for pair in pairs(steps)
    }
    held_out = [f"{what}: {pair}" for what, steps in steps.items() for pair in unseen(steps)]

    def kinds(self, split):
        return self.held_out if split == "unseen" else [kind for kind in self.phrasings if kind not in self.held_out]

    def draw(self, kind, generator):
        return ((word_to_spell if kind.startswith("word") else numbers)(generator),)

    def work(self, kind, item):
        return self.after(1, kind, item)

    def solve(self, kind, item):
        return self.after(2, kind, item)

    def after(self, n_steps, kind, item):
        """Return what is left of the item after the first steps."""
        what, pair = kind.split(": ")
        for step in pairs(self.steps[what])[pair][:n_steps]:
            item = self.steps[what][step](item)
        return quoted(item) if what == "word" else shown(item)
