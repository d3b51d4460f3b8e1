"""What each task yields without attention or a network: a rule, the nearest picture, a dictionary.
不用注意力也不用神经网络时各任务的得分：一条规则、最近的图片、一部词典。
"""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import product

import torch
from torch import Tensor

from chapter_07_attention_mechanism.dataset.dates import MONTHS
from chapter_07_attention_mechanism.vocab import join, split_words


def date_by_rule(text: str) -> str:
    """Take the number of four digits for the year, and what is left, in order, for month and day.

    An English month is known by its first three letters. Where numbers are missing the answer is empty.
    """
    numbers = sorted(re.findall(r"\d+", text), key=lambda number: len(number) != 4)  # the year first
    month = next((i for i, name in enumerate(MONTHS, 1) if name[:3] in text), None)
    if month is not None:
        numbers.insert(1, str(month))
    return "{}-{:0>2}-{:0>2}".format(*numbers) if len(numbers) >= 3 else ""


def nearest_sentences(images: Tensor, known: Tensor, sentences: list[str], side: int = 16) -> list[str]:
    """Return for each picture (B, 3, H, W) the sentence of that of the known (N, 3, H, W) whose pixels are nearest."""
    small = [torch.nn.functional.adaptive_avg_pool2d(x.float(), side).flatten(1) for x in (images, known)]
    return [sentences[i] for i in torch.cdist(*small).argmin(dim=1).tolist()]


def learn_dictionary(pairs: Iterable[tuple[str, str]], min_count: int = 2) -> dict[str, str]:
    """Return for each word the one of the other language that it shares most sentences with (Dice 1945).

    The share is 2 n(a, b) / (n(a) + n(b)), where n counts the sentences that hold a word, or the pairs that hold both.
    """
    alone, others, both = Counter(), Counter(), Counter()
    split = [tuple(sorted(set(split_words(text))) for text in pair) for pair in pairs]
    for a, b in split:
        alone.update(a)
        others.update(b)
    for a, b in split:
        both.update(product((w for w in a if alone[w] >= min_count), (w for w in b if others[w] >= min_count)))
    best: dict[str, tuple[float, str]] = {}
    for (a, b), count in both.items():
        best[a] = max(best.get(a, (0.0, "")), (2 * count / (alone[a] + others[b]), b))
    return {word: found for word, (_, found) in best.items()}


def translate_by_words(text: str, dictionary: dict[str, str]) -> str:
    """Replace every word that the dictionary knows, in place."""
    return join(dictionary.get(word, word) for word in split_words(text))
