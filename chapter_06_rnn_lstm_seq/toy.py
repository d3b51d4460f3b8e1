"""Small made-up data that needs no download: nursery-like text, sung digits, sentences with feelings.
无需下载的小型合成数据：类童谣文本、“唱”出来的数字、带情绪的句子。
"""

import random

TOY_SUBJECTS = ["the cat", "the old king", "a small bird", "my sister", "the moon"]
TOY_VERBS = ["sees", "follows", "sings to", "forgets", "waits for"]


def toy_text(lines: int = 400, seed: int = 0) -> str:
    """Return so many lines, each "WHO verb WHO." with a pause here and there."""
    dice = random.Random(seed)
    return "".join(
        f"{dice.choice(TOY_SUBJECTS)} {dice.choice(TOY_VERBS)} {dice.choice(TOY_SUBJECTS)}{dice.choice('.,!')}\n"
        for _ in range(lines)
    )
