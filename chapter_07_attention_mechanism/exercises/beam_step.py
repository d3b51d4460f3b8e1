"""Exercise: one step of beam search for a whole batch, without a loop.
练习：整批束搜索的一步，不用循环。

    python -m pytest chapter_07_attention_mechanism/exercises/test_beam_step.py
"""

from torch import Tensor


def beam_step(total: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the K likeliest of the K V sequences that are one token longer.

    The beginnings of a sequence compete with each other, those of different sequences do not. Hint: (B, K V), `topk`,
    and then a division and a remainder say which beginning and which token it was.

    Args:
        total: (B, K), the log-probabilities of the beginnings; -inf for one that does not count.
        log_p: (B, K, V), the log-probabilities of each next token, given the beginning.

    Returns:
        The new totals (B, K), the likeliest first; of each the place of its beginning (B, K); its token (B, K).
    """
    raise NotImplementedError
