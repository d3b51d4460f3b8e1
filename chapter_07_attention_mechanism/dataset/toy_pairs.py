"""German and English sentences from a small grammar: a translation task that needs no download.
由小语法生成的德英句对：无需下载的翻译任务。
"""

import torch

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
    generator = torch.Generator().manual_seed(seed)
    return [_pair(generator) for _ in range(count)]


def _choice(options: list, generator: torch.Generator):
    return options[int(torch.randint(len(options), (), generator=generator))]


def _pair(generator: torch.Generator) -> tuple[str, str]:
    who, who_en = _phrase(generator, SUBJECT)
    whom, whom_en = _phrase(generator, OBJECT)
    (does, does_en), (when, when_en) = _choice(VERBS, generator), _choice(WHEN, generator)
    german = f"{when} {does} {who} {whom}" if _choice([True, False], generator) else f"{who} {does} {when} {whom}"
    english = f"{who_en} {does_en} {whom_en} {when_en}"
    return _sentence(german), _sentence(english)


def _phrase(generator: torch.Generator, case: dict[str, tuple[str, str]]) -> tuple[str, str]:
    noun, gender, noun_en = _choice(NOUNS, generator)
    article, ending = case[gender]
    if _choice([True, False], generator):
        return f"{article} {noun}", f"a {noun_en}"
    adjective, adjective_en = _choice(ADJECTIVES, generator)
    return (
        f"{article} {adjective}{ending} {noun}",
        f"{'an' if adjective_en[0] in 'aeiou' else 'a'} {adjective_en} {noun_en}",
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
