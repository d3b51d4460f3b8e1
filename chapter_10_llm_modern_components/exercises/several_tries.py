"""Exercise: several tries at a question: by how much was each better than the others, and would k of them have done?
练习：一道题试做多次：每次比其余几次好多少？如果只试 k 次，够不够？

    python -m pytest chapter_10_llm_modern_components/exercises/test_several_tries.py
"""

from torch import Tensor


def leave_one_out(rewards: Tensor) -> Tensor:
    """Return the reward of each try less the mean of the *other* tries at its question: (N, G) -> (N, G), G > 1.

    A try that is not part of its own mean leaves the whole policy gradient, not (G - 1) / G of it (Ahmadian et al.
    2024). No loop is needed.
    """
    raise NotImplementedError


def pass_at_k(n_right: int, n_tries: int, k: int) -> float:
    """Return the chance that of k different tries out of `n_tries`, drawn at random, at least one is right.

    `n_right` of all are; k is at most `n_tries` (Chen et al. 2021, equation 1). 1 - (1 - share of right ones)^k is
    something else: it draws tries more than once.
    """
    raise NotImplementedError
