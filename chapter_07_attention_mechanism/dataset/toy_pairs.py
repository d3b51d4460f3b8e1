"""German, English and Chinese sentences from a small grammar: a translation task that needs no download.
由小语法生成的德、英、中三语句子：无需下载的翻译任务。
"""

import torch

NOUNS = [  # German with its gender, English, Chinese with its measure word
    ("Hund", "m", "dog", "只", "狗"),
    ("Mann", "m", "man", "个", "男人"),
    ("Frau", "f", "woman", "个", "女人"),
    ("Katze", "f", "cat", "只", "猫"),
    ("Kind", "n", "child", "个", "孩子"),
    ("Pferd", "n", "horse", "匹", "马"),
]
ADJECTIVES = [("klein", "small", "小"), ("alt", "old", "老"), ("braun", "brown", "棕色的"), ("jung", "young", "年轻的")]
VERBS = [("sieht", "sees", "看见"), ("sucht", "looks for", "寻找"), ("malt", "paints", "画"), ("mag", "likes", "喜欢")]
WHEN = [("heute", "today", "今天"), ("oft", "often", "经常"), ("jetzt", "now", "现在")]
SUBJECT = {"m": ("ein", "er"), "f": ("eine", "e"), "n": ("ein", "es")}  # the article, the adjective's ending
OBJECT = {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")}


def toy_pairs(count: int, seed: int = 0, languages: tuple[str, str] = ("de", "en")) -> list[tuple[str, str]]:
    """Return so many pairs of sentences in two of the languages "de", "en" and "zh".

    In German the time may come first, and then the verb before the subject; in Chinese it may come first too.
    "Heute sucht ein alter Mann eine Katze." - "An old man looks for a cat today." - "今天一个老男人寻找一只猫。"
    """
    generator = torch.Generator().manual_seed(seed)
    sentences = (_sentences(generator) for _ in range(count))
    return [(sentence[languages[0]], sentence[languages[1]]) for sentence in sentences]


def _choice(options: list, generator: torch.Generator):
    return options[int(torch.randint(len(options), (), generator=generator))]


def _sentences(generator: torch.Generator) -> dict[str, str]:
    who, who_en, who_zh = _phrase(generator, SUBJECT)
    whom, whom_en, whom_zh = _phrase(generator, OBJECT)
    (does, does_en, does_zh), (when, when_en, when_zh) = _choice(VERBS, generator), _choice(WHEN, generator)
    if _choice([True, False], generator):
        german, chinese = f"{when} {does} {who} {whom}", f"{when_zh}{who_zh}{does_zh}{whom_zh}"
    else:
        german, chinese = f"{who} {does} {when} {whom}", f"{who_zh}{when_zh}{does_zh}{whom_zh}"
    english = f"{who_en} {does_en} {whom_en} {when_en}"
    return {"de": _capitalise(f"{german}."), "en": _capitalise(f"{english}."), "zh": f"{chinese}。"}


def _phrase(generator: torch.Generator, case: dict[str, tuple[str, str]]) -> tuple[str, str, str]:
    noun, gender, noun_en, measure, noun_zh = _choice(NOUNS, generator)
    article, ending = case[gender]
    if _choice([True, False], generator):
        return f"{article} {noun}", f"a {noun_en}", f"一{measure}{noun_zh}"
    adjective, adjective_en, adjective_zh = _choice(ADJECTIVES, generator)
    return (
        f"{article} {adjective}{ending} {noun}",
        f"{'an' if adjective_en[0] in 'aeiou' else 'a'} {adjective_en} {noun_en}",
        f"一{measure}{adjective_zh}{noun_zh}",
    )


def _capitalise(text: str) -> str:
    return text[0].upper() + text[1:]
