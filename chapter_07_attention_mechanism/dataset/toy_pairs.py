"""German and English sentences from a small grammar: a translation task that needs no download.
由小语法生成的德英句对：无需下载的翻译任务。
"""

import random

NOUNS = [  # German with its gender, English
    ("Hund", "m", "dog"),
    ("Mann", "m", "man"),
    ("Frau", "f", "woman"),
    ("Katze", "f", "cat"),
    ("Kind", "n", "child"),
    ("Pferd", "n", "horse"),
]
ADJECTIVES = [("klein", "small"), ("alt", "old"), ("braun", "brown"), ("jung", "young")]
VERBS = [("sieht", "sees"), ("sucht", "looks for"), ("malt", "paints"), ("mag", "likes")]
WHEN = [("heute", "today"), ("oft", "often"), ("jetzt", "now")]
SUBJECT = {"m": ("ein", "er"), "f": ("eine", "e"), "n": ("ein", "es")}  # the article, the adjective's ending
OBJECT = {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")}


def toy_pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return so many pairs; in German the time may come first, and then the verb before the subject.

    "Heute sucht ein alter Mann eine Katze." - "An old man looks for a cat today."
    """
    dice = random.Random(seed)
    return [_pair(dice) for _ in range(count)]


def _pair(dice: random.Random) -> tuple[str, str]:
    who, who_en = _phrase(dice, SUBJECT)
    whom, whom_en = _phrase(dice, OBJECT)
    (does, does_en), (when, when_en) = dice.choice(VERBS), dice.choice(WHEN)
    german = f"{when} {does} {who} {whom}" if dice.random() < 0.5 else f"{who} {does} {when} {whom}"
    english = f"{who_en} {does_en} {whom_en} {when_en}"
    return _sentence(german), _sentence(english)


def _phrase(dice: random.Random, case: dict[str, tuple[str, str]]) -> tuple[str, str]:
    noun, gender, noun_en = dice.choice(NOUNS)
    article, ending = case[gender]
    if dice.random() < 0.5:
        return f"{article} {noun}", f"a {noun_en}"
    adjective, adjective_en = dice.choice(ADJECTIVES)
    return (
        f"{article} {adjective}{ending} {noun}",
        f"{'an' if adjective_en[0] in 'aeiou' else 'a'} {adjective_en} {noun_en}",
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
