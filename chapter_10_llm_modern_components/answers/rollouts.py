"""What a model tries out on questions: several replies to each, right ones and wrong ones; and pairs of the two.
模型对每道题的多次尝试：有对有错；以及由一对一错组成的偏好对。
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from chapter_10_llm_modern_components.alignment import learned_logps
from chapter_10_llm_modern_components.answers.answering import Reply, answer
from chapter_10_llm_modern_components.answers.grading import answer_examples, by_family, question_prompts
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.dialogue import as_chat, encode_chat
from chapter_10_llm_modern_components.generation import Sampler
from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.packing import Text
from chapter_10_llm_modern_components.shipped import Writer
from chapter_10_llm_modern_components.tasks import Example, draw_example, example_set, is_right
from utils.errors import UserError


class Rollouts(NamedTuple):
    """G replies to each of N questions, one question's replies behind one another."""

    texts: list[Text]  # N G of them
    rewards: Tensor  # (N, G)


class Pair(NamedTuple):
    """Two conversations that begin alike and end in a reply that is preferred and in one that is not."""

    chosen: Text
    rejected: Text
    own: bool  # the preferred reply is the model's own, too


def right(example: Example, reply: Reply) -> bool:
    return is_right(example, reply.text)


def draw_questions(families: Sequence[str], split: str, count: int, generator: torch.Generator) -> list[Example]:
    """Return questions of families that are drawn, too."""
    places = torch.randint(len(families), (count,), generator=generator).tolist()
    return [draw_example(families[i], split, generator) for i in places]


def try_out(
    model: LanguageModel,
    tokenizer: ByteTokenizer,
    examples: Sequence[Example],
    n_tries: int,
    n_tokens: int,
    sampler: Sampler,
    generator: torch.Generator,
    calculator: bool = False,
) -> list[Reply]:
    """Return `n_tries` replies to each question, of at most `n_tokens` tokens, or as many as fit into the context.

    Raises:
        UserError: a question alone fills it.
    """
    prompts = [prompt for prompt in question_prompts(tokenizer, examples, calculator) for _ in range(n_tries)]
    room = model.config.max_length - max(map(len, prompts))
    if room < 1:
        raise UserError(f"a question fills the {model.config.max_length} tokens of the model's context")
    return answer(model, tokenizer, prompts, sampler, generator, min(n_tokens, room), calculator)


def roll_out(
    model: LanguageModel,
    tokenizer: ByteTokenizer,
    examples: Sequence[Example],
    n_tries: int,
    n_tokens: int,
    sampler: Sampler,
    generator: torch.Generator,
) -> Rollouts:
    """Return replies with their rewards, which a program can tell: 1 for a right one, 0 for a wrong one."""
    replies = try_out(model, tokenizer, examples, n_tries, n_tokens, sampler, generator)
    rewards = [float(right(examples[i // n_tries], reply)) for i, reply in enumerate(replies)]
    rewards = torch.tensor(rewards, device=model.head.weight.device).view(len(examples), n_tries)
    return Rollouts([reply.tokens for reply in replies], rewards)


def find_pairs(
    model: LanguageModel,
    tokenizer: ByteTokenizer,
    examples: Sequence[Example],
    n_tries: int,
    n_tokens: int,
    sampler: Sampler,
    generator: torch.Generator,
    preferred: Callable[[Example, Reply], bool] = right,
    calculator: bool = False,
) -> list[Pair]:
    """Return for each question the first reply that is not preferred, if there is one, beside the first that is.

    Where none is, the true answer stands in for it: a reply that the model would perhaps never give.

    Raises:
        UserError: every reply is preferred.
    """
    replies = try_out(model, tokenizer, examples, n_tries, n_tokens, sampler, generator, calculator)
    pairs = []
    for i, example in enumerate(examples):
        own = replies[n_tries * i : n_tries * (i + 1)]
        good, bad = ([r.tokens for r in own if preferred(example, r) == side] for side in (True, False))
        if bad:
            truth = encode_chat(tokenizer, as_chat(example, calculator))
            pairs.append(Pair(good[0] if good else truth, bad[0], bool(good)))
    if not pairs:
        raise UserError("every reply was good: with a higher --temperature or other --families there may be pairs")
    return pairs


def exact_match_by_family(
    writer: Writer, families: Sequence[str], split: str, count: int
) -> tuple[dict[str, float], list[Reply]]:
    """Return how often the likeliest replies to `count` questions of each family are right, and the replies."""
    examples = example_set(families, split, count)
    replies, right = answer_examples(writer.model, writer.tokenizer, examples)
    return by_family(examples, right), replies


def logps_of(model: LanguageModel, texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
    """Return the log-probability of the learned tokens of each text, as a whole (B,), and how many they are (B,)."""
    logps, mask, _ = learned_logps(model, texts)  # (B, L) each
    return logps.sum(dim=1), mask.sum(dim=1)
