"""A conversation that goes on: what was said, as much of it as a model can read, and a file to keep it in.
持续进行的对话：说过什么、模型还能读下多少，以及存放对话的文件。
"""

import json
from collections.abc import Sequence
from pathlib import Path

from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.dialogue.chat_format import ROLES, Message, encode_prompt
from utils.errors import UserError
from utils.file_io_util import write_json


def prompt_that_fits(
    tokenizer: ByteTokenizer, messages: Sequence[Message], longest: int
) -> tuple[list[int], list[Message]]:
    """Return the tokens of a conversation that ends with a question, and the messages that are left of it.

    Where there are more than `longest` tokens the oldest turns are dropped, question and answer together; what the
    system has said, and the last question, stay.

    Raises:
        UserError: even these are too long.
    """
    system = [message for message in messages[:1] if message.role == "system"]
    turns = list(messages[len(system) :])
    while len(ids := encode_prompt(tokenizer, [*system, *turns])) > longest:
        if len(turns) < 2:
            found = f"that is {len(ids)} tokens, and beside its answer the model can read {longest}"
            raise UserError(f"{found}: say it more shortly")
        del turns[:2]
    return ids, [*system, *turns]


def save_conversation(path: Path, messages: Sequence[Message]) -> None:
    write_json(path, [{"role": message.role, "text": message.text} for message in messages])


def load_conversation(path: Path) -> list[Message]:
    """Read what `save_conversation` wrote.

    Raises:
        UserError: the file is missing, or no conversation: turns of user and assistant, in turn, behind at most one
            of the system.
    """
    try:
        messages = [Message(**turn) for turn in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} holds no conversation: {error}") from error
    roles = [message.role for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    known = all(isinstance(part, str) for message in messages for part in (message.role, message.text))
    if not known or not set(roles) <= ROLES.keys() or turns != ["user", "assistant"] * (len(turns) // 2):
        raise UserError(f"{path} holds no conversation: user and assistant do not take turns")
    return messages
