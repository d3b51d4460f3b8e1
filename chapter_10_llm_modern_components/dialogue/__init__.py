"""Conversations: how they become tokens, chats to learn from, a calculator to call, and a memory that is limited.
对话：如何变成词元、供学习的问答、可调用的计算器，以及有限的记忆。
"""

from chapter_10_llm_modern_components.dialogue.calculator import calculate, result_inserter
from chapter_10_llm_modern_components.dialogue.chat_format import (
    CALCULATOR,
    CALL,
    CALLS,
    CHAT_TOKENS,
    END,
    RESULT,
    Message,
    as_chat,
    encode_chat,
    encode_prompt,
    visible,
)
from chapter_10_llm_modern_components.dialogue.chats import draw_chats
from chapter_10_llm_modern_components.dialogue.conversation import (
    load_conversation,
    prompt_that_fits,
    save_conversation,
)

__all__ = [
    "CALCULATOR",
    "CALL",
    "CALLS",
    "CHAT_TOKENS",
    "END",
    "RESULT",
    "Message",
    "as_chat",
    "calculate",
    "draw_chats",
    "encode_chat",
    "encode_prompt",
    "load_conversation",
    "prompt_that_fits",
    "result_inserter",
    "save_conversation",
    "visible",
]
