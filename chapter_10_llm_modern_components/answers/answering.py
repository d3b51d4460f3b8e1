"""Many questions answered at once: prompts of one length side by side, each with its own calculator.
同时回答许多问题：长度相同的提示并排解码，各自带着自己的计算器。
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.dialogue import END, result_inserter, visible
from chapter_10_llm_modern_components.generation import Sampler, generate
from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.packing import Text

AT_ONCE = 256  # prompts
LONGEST_ANSWER = 80  # tokens; seven numbers of three digits are about 35, and there may be as many on the way


class Reply(NamedTuple):
    """What a user sees, and the tokens of prompt and answer: "learned" are those that the model chose."""

    text: str
    tokens: Text


def answer(
    model: LanguageModel,
    tokenizer: ByteTokenizer,
    prompts: Sequence[list[int]],
    sampler: Sampler,
    generator: torch.Generator | None = None,
    n_tokens: int = LONGEST_ANSWER,
    calculator: bool = False,
) -> list[Reply]:
    """Return a reply to each prompt, of at most `n_tokens`; see `encode_prompt`.

    Without a calculator a call brings nothing, even if the model was never told that there is none: else what is
    measured without one would be measured with one, and rewards would teach to call it.

    Without padding the model can take its fast step, and of a batch of one length none waits for a longer prompt.
    """
    end, given = tokenizer.special[END], result_inserter(tokenizer, calculator)
    written: list[list[int]] = [[] for _ in prompts]
    for rows in batches_of_one_length(prompts):
        steps = generate(model, [prompts[i] for i in rows], n_tokens, sampler, generator, [end], given=given)
        for tokens in steps:
            for i, token in zip(rows, tokens, strict=True):
                if token is not None:
                    written[i].append(token)
    return [make_reply(tokenizer, *pair, given) for pair in zip(prompts, written, strict=True)]


def batches_of_one_length(prompts: Sequence[list[int]]) -> Iterator[list[int]]:
    """Yield the numbers of prompts of the same length, at most `AT_ONCE` of them at a time."""
    by_length: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(i)
    for rows in by_length.values():
        for start in range(0, len(rows), AT_ONCE):
            yield rows[start : start + AT_ONCE]


def make_reply(
    tokenizer: ByteTokenizer, prompt: list[int], written: list[int], given: Callable[[list[int]], list[int]]
) -> Reply:
    """Return a reply of a prompt and the tokens behind it; those that a tool has put there the model did not choose."""
    chosen, waiting, ids = [False] * len(prompt), 0, list(prompt)
    for token in written:
        ids.append(token)
        chosen.append(not waiting)
        waiting = waiting - 1 if waiting else len(given(ids))
    end = tokenizer.special[END]
    text = tokenizer.decode(written[:-1] if written[-1:] == [end] else written)
    return Reply(visible(text), Text(ids, chosen))
