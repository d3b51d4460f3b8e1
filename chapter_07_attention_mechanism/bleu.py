"""BLEU: how many of a translation's words, pairs, triples and quadruples of words stand in the reference.
BLEU：译文中的词、二元组、三元组、四元组，有多少出现在参考译文里。

The score and the tokenisation are the defaults of sacreBLEU (Post 2018), so figures compare with published ones:
signature nrefs:N|case:mixed|eff:no|tok:13a|smooth:exp, or case:lc with `lowercase`.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

N_MAX = 4  # BLEU counts word groups of 1 to 4
ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
SYMBOLS = re.compile(r"([!-&(-+/:-@\[-`{-~])")  # all ASCII punctuation but ' , - .
SEPARATORS = [  # what splits around these depends on whether a digit stands beside them: 1,000 and 3.5 stay whole
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]


def tokenize_13a(text: str) -> list[str]:
    """Split a sentence into words and punctuation marks as the script mteval-v13a does."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in ENTITIES.items():
        text = text.replace(entity, character)
    text = SYMBOLS.sub(r" \1 ", f" {text} ")
    for pattern, replacement in SEPARATORS:
        text = pattern.sub(replacement, text)
    return text.split()


def ngrams(tokens: Sequence[str]) -> Counter:
    """Count all groups of 1 to 4 consecutive tokens."""
    return Counter(tuple(tokens[i : i + n]) for n in range(1, N_MAX + 1) for i in range(len(tokens) - n + 1))


@dataclass(frozen=True)
class BLEU:
    """A corpus' score from 0 to 100, and what it is made of."""

    score: float
    precisions: list[float]  # of word groups of 1 to 4, each from 0 to 100
    brevity_penalty: float
    length: int  # tokens in the translations
    reference_length: int


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool = False) -> BLEU:
    """Return BLEU of translations against their references (Papineni et al. 2002, section 2.3).

    BLEU = BP exp(mean of log p_n for n = 1 to 4). p_n is the share of the translations' n-grams that stand in a
    reference, each counted at most as often as it stands there. BP = exp(1 - r/c) if the translations are shorter in
    all (c tokens) than the references nearest in length (r tokens), else 1. A p_n of 0 becomes half, then a quarter,
    ... of one match: sacreBLEU's "exp" smoothing.

    Args:
        hypotheses: one translation a sentence.
        references: for each sentence its references, one or more.

    Raises:
        ValueError: the counts differ, there is no sentence, or one has no reference.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"there are {len(hypotheses)} translations, but {len(references)} sets of references")
    if not references or not all(references) or any(isinstance(group, str) for group in references):
        raise ValueError("each sentence needs a list of at least one reference")
    right, total, length, reference_length = [0] * N_MAX, [0] * N_MAX, 0, 0
    for hypothesis, group in zip(hypotheses, references, strict=True):
        tokens, *others = (tokenize_13a(text.lower() if lowercase else text) for text in (hypothesis, *group))
        length += len(tokens)
        reference_length += min((abs(len(other) - len(tokens)), len(other)) for other in others)[1]
        allowed = Counter()
        for other in others:
            allowed |= ngrams(other)  # the most often that each stands in one reference
        for ngram, count in ngrams(tokens).items():
            total[len(ngram) - 1] += count
            right[len(ngram) - 1] += min(count, allowed[ngram])
    return _score(right, total, length, reference_length)


def _score(right: list[int], total: list[int], length: int, reference_length: int) -> BLEU:
    precisions, smoothing = [0.0] * N_MAX, 1.0
    if any(right):
        for n in range(N_MAX):
            if right[n]:
                precisions[n] = 100 * right[n] / total[n]
            elif total[n]:
                smoothing *= 2
                precisions[n] = 100 / (smoothing * total[n])
    penalty = 1.0 if length >= reference_length else math.exp(1 - reference_length / length) if length else 0.0
    score = penalty * math.exp(sum(map(math.log, precisions)) / N_MAX) if all(precisions) else 0.0
    return BLEU(score, precisions, penalty, length, reference_length)
