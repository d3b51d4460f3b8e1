"""How a conversation becomes tokens, and which of them a model learns to write.
一段对话如何变成词元，以及模型要学会写其中的哪些。

    <|system|>You may use a calculator.<|end|><|user|>What is 12 times 7?<|end|>
    <|assistant|><|call|>12*7<|result|>84<|end|>

Roles are special tokens, which no user can type. The assistant's own tokens are learned, up to its <|end|>, but not
what a tool has put between them: here the 84. What stands between double quotes is spelled, a token for each byte, as
nobody can count the letters of a word that is one number.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.packing import Text
from chapter_10_llm_modern_components.tasks import Example

ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
END, CALL, RESULT = "<|end|>", "<|call|>", "<|result|>"
CHAT_TOKENS = [*ROLES.values(), END, CALL, RESULT]
NO_RESULT = "error"  # what a tool says to a call that makes no sense
CALLS = re.compile(rf"{re.escape(CALL)}(.*?){re.escape(RESULT)}(-?\d+|{NO_RESULT})", re.DOTALL)
SPELLED = re.compile(r'("[^"\n]*")')
CALCULATOR = "You may use a calculator."  # the system's message to a model that has one


@dataclass(frozen=True)
class Message:
    """A turn of a conversation. In an assistant's text calls stand as <|call|>12*7<|result|>84."""

    role: str
    text: str


def encode_text(tokenizer: ByteTokenizer, text: str) -> list[int]:
    """Return the tokens of a text; those between double quotes, and the quotes, are bytes."""
    ids = []
    for i, part in enumerate(SPELLED.split(text)):
        ids += list(part.encode("utf-8", "surrogatepass")) if i % 2 else tokenizer.encode(part)
    return ids


def encode_chat(tokenizer: ByteTokenizer, messages: Sequence[Message]) -> Text:
    """Return the tokens of a conversation; learned are those that the assistant wrote, and its <|end|>.

    Raises:
        ValueError: there is no such role.
    """
    text = Text([], [])
    for message in messages:
        if message.role not in ROLES:
            raise ValueError(f"no role {message.role}; there are: {', '.join(ROLES)}")
        own = message.role == "assistant"
        _append(text, [tokenizer.special[ROLES[message.role]]], False)
        for ids, learned in _parts(tokenizer, message.text) if own else [(encode_text(tokenizer, message.text), False)]:
            _append(text, ids, learned)
        _append(text, [tokenizer.special[END]], own)
    return text


def encode_prompt(tokenizer: ByteTokenizer, messages: Sequence[Message]) -> list[int]:
    """Return the tokens after which it is the assistant's turn to write."""
    return [*encode_chat(tokenizer, messages).ids, tokenizer.special[ROLES["assistant"]]]


def visible(text: str) -> str:
    """Return what the user sees of an assistant's text: of a call, its result."""
    return CALLS.sub(r"\2", text)


def as_chat(example: Example, calculator: bool = False, call: bool = True) -> list[Message]:
    """Return an example as a conversation; with a calculator the system says so, and where it helps it is called.

    Without a call the work comes first, where there is some, and the answer on a line of its own.

    Args:
        call: False: it is there, but the answer comes without it.
    """
    before = example.work and f"{example.work}\n"
    if calculator and call and example.expression:
        before = f"{CALL}{example.expression}{RESULT}"
    turns = [Message("user", example.question), Message("assistant", before + example.answer)]
    return [Message("system", CALCULATOR), *turns] if calculator else turns


def _parts(tokenizer: ByteTokenizer, text: str) -> Iterator[tuple[list[int], bool]]:
    """Yield the tokens of an assistant's text in parts, and whether it wrote them itself."""
    first, *rest = CALLS.split(text)
    yield encode_text(tokenizer, first), True
    for expression, result, after in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        yield [tokenizer.special[CALL], *tokenizer.encode(expression), tokenizer.special[RESULT]], True
        yield tokenizer.encode(result), False
        yield encode_text(tokenizer, after), True


def _append(text: Text, ids: list[int], learned: bool) -> None:
    text.ids.extend(ids)
    text.learned.extend([learned] * len(ids))
