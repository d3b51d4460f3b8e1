"""Exercise: a draft that needs no model, for what was said once is often said again; the large model decides.
练习：不用模型也能打草稿，因为说过的话常常会再说一遍；是否采用由大模型决定。

    python -m pytest chapter_10_llm_modern_components/exercises/test_prompt_lookup.py
"""


def propose(ids: list[int], n: int, k: int) -> list[int]:
    """Return what followed the last n tokens when they occurred before, k tokens or fewer; [] if they never did.

    Of several earlier places the latest counts. It may overlap the end: of [1, 1, 1] the last two occur at the start.
    """
    raise NotImplementedError


def accept_greedily(draft: list[int], choices: list[int]) -> list[int]:
    """Return the tokens that one step of the large model adds, at least one.

    Args:
        draft: k proposed tokens.
        choices: k + 1 tokens that the large model likes best: the first without the draft, the next behind the draft's
            first token, and so on. What it says behind a wrong token is of no use.
    """
    raise NotImplementedError
