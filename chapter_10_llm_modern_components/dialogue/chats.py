"""Chats to learn from: questions of many families, made up as they are needed, packed in rows.
供模型学习的对话：多个任务族的题目，随用随生成，再拼接成行。
"""

from collections.abc import Sequence

import torch

from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.dialogue.chat_format import as_chat, encode_chat
from chapter_10_llm_modern_components.packing import Packed, pack
from chapter_10_llm_modern_components.tasks import draw_example
from utils.errors import UserError


def draw_chats(
    tokenizer: ByteTokenizer,
    families: Sequence[str],
    count: int,
    length: int,
    generator: torch.Generator,
    calculator: float = 0.0,
    calls: float = 1.0,
    shares: Sequence[float] | None = None,
) -> Packed:
    """Draw training examples of families, and return them packed in rows of at most `length` tokens.

    Args:
        calculator: the share of chats in which there is one.
        calls: the share of these in which it is called, if it helps.
        shares: how often each family is drawn, up to a common factor; None: all alike.

    Raises:
        UserError: a chat does not fit into a row.
    """
    texts, weights = [], torch.ones(len(families)) if shares is None else torch.tensor(shares)
    for i in torch.multinomial(weights, count, replacement=True, generator=generator).tolist():
        example = draw_example(families[i], "train", generator)
        there, called = torch.rand(2, generator=generator).tolist()
        texts.append(encode_chat(tokenizer, as_chat(example, there < calculator, called < calls)))
    try:
        return pack(texts, length)
    except ValueError as error:
        raise UserError(f"{error}: chats need longer ones, see --length") from error
