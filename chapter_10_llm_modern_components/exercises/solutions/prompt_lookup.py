"""Solution: search backwards for the last n tokens, and take the draft as long as the model would have said the same.
解答：从后往前找最后 n 个词元；草稿与模型的选择一致多长，就采用多长。
"""


def propose(ids: list[int], n: int, k: int) -> list[int]:
    """Search from the end, without the end itself."""
    for start in range(len(ids) - n - 1, -1, -1):
        if ids[start : start + n] == ids[len(ids) - n :]:
            return ids[start + n : start + n + k]
    return []


def accept_greedily(draft: list[int], choices: list[int]) -> list[int]:
    """The draft's right beginning, and the choice behind it."""
    n_right = 0
    while n_right < len(draft) and draft[n_right] == choices[n_right]:
        n_right += 1
    return choices[: n_right + 1]
