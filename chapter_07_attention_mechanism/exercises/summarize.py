"""Exercise: the output of a summariser that can copy names which are not in its vocabulary.
练习：摘要模型的输出层，能够复制词表之外的名字。

    python -m pytest chapter_07_attention_mechanism/exercises/test_summarize.py

A summary of "Zyzzy the dog barked at Frau Kowalczyk all night" has to hold names that no vocabulary lists. So each text
extends the vocabulary by its own unknown words, for as long as it is being summarised (See et al. 2017, section 2.2).
"""

from torch import Tensor


def extend(words: list[str], vocabulary: dict[str, int]) -> tuple[list[int], list[str]]:
    """Number the words of a text, the unknown ones as well.

    Known words keep their number from `vocabulary`, whose numbers are 0 to V - 1. The unknown ones get V, V + 1, ... in
    the order in which they first occur; a name that occurs twice has one number.

    Returns:
        The number of each word, and the unknown words: the i-th of them has the number V + i.
    """
    raise NotImplementedError


def copy_distribution(own: Tensor, weights: Tensor, gate: Tensor, numbers: Tensor, n_unknown: int) -> Tensor:
    """Return p(y) = g p_own(y) + (1 - g) (sum of the weights of all places where y stands) over V + n_unknown words.

    Own words have no probability beyond V. Hint: `scatter_add` adds up what goes to the same word.

    Args:
        own: (T, V), the probabilities of the model's own words in each of T steps.
        weights: (T, S), attention on the S words of the text.
        gate: (T, 1), g, from 0 to 1.
        numbers: (S,), the words' numbers from `extend`.

    Returns:
        (T, V + n_unknown); each row adds up to 1.
    """
    raise NotImplementedError
