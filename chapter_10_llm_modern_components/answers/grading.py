"""How good answers are: right or wrong, best of n, majority of n; whether a model knows it; how far it has moved.
怎样给回答打分：对错、n 个里取最好的、n 个投票；模型是否有自知之明；离参考模型有多远。
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from chapter_10_llm_modern_components.alignment import RewardModel, sequence_logps
from chapter_10_llm_modern_components.answers.answering import Reply, answer
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.dialogue import CALL, as_chat, encode_prompt
from chapter_10_llm_modern_components.generation import Sampler
from chapter_10_llm_modern_components.model import LanguageModel
from chapter_10_llm_modern_components.model_compression import token_kl
from chapter_10_llm_modern_components.packing import Text, pad
from chapter_10_llm_modern_components.tasks import Example, is_right, last_line
from utils.evaluating import evaluating

AT_ONCE = 32  # texts whose tokens' probabilities are looked at together
GREEDY = Sampler(temperature=0)


def question_prompts(
    tokenizer: ByteTokenizer, examples: Sequence[Example], calculator: bool = False
) -> list[list[int]]:
    """Return what a model is shown of each example."""
    return [encode_prompt(tokenizer, as_chat(example, calculator)[:-1]) for example in examples]


def answer_examples(
    model: LanguageModel, tokenizer: ByteTokenizer, examples: Sequence[Example], calculator: bool = False
) -> tuple[list[Reply], list[bool]]:
    """Return the likeliest replies, token by token, and which of them are right."""
    prompts = question_prompts(tokenizer, examples, calculator)
    replies = answer(model, tokenizer, prompts, GREEDY, calculator=calculator)
    return replies, [is_right(*pair) for pair in zip(examples, (reply.text for reply in replies), strict=True)]


def has_called(tokenizer: ByteTokenizer, reply: Reply) -> bool:
    """Tell whether the calculator was asked."""
    return tokenizer.special[CALL] in reply.tokens.ids  # a user cannot type it


def by_family(examples: Sequence[Example], right: Sequence[float]) -> dict[str, float]:
    """Return the mean of `right` over the examples of each family."""
    found: dict[str, list[float]] = {}
    for example, value in zip(examples, right, strict=True):
        found.setdefault(example.family, []).append(value)
    return {family: sum(values) / len(values) for family, values in found.items()}


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def exact_match(
    model: LanguageModel, tokenizer: ByteTokenizer, examples: Sequence[Example], calculator: bool = False
) -> dict[str, float]:
    """Return for each family the share of questions whose replies end in a line that is the right answer."""
    return by_family(examples, answer_examples(model, tokenizer, examples, calculator)[1])


def several_answers(
    model: LanguageModel,
    tokenizer: ByteTokenizer,
    examples: Sequence[Example],
    n: int,
    sampler: Sampler,
    generator: torch.Generator | None = None,
    judge: RewardModel | None = None,
) -> dict[str, float]:
    """Draw n answers to each question; return how often one is right, how often the most frequent is, and their mean.

    The first is what a judge who knows the truth could pick (best of n), the second needs no judge (Wang et al. 2022,
    self-consistency). Of answers that are equally frequent the one that came first is taken. With a judge also how
    often the one is right that has most reward.
    """
    prompts = [prompt for prompt in question_prompts(tokenizer, examples) for _ in range(n)]
    replies = answer(model, tokenizer, prompts, sampler, generator)
    rewards = rewards_of_texts(judge, [reply.tokens for reply in replies]) if judge else []
    found: dict[str, list[float]] = defaultdict(list)
    for i, example in enumerate(examples):
        mine = slice(n * i, n * (i + 1))
        own = [last_line(reply.text) for reply in replies[mine]]
        right = [is_right(example, text) for text in own]
        found["best_of_n"].append(any(right))
        found["majority_of_n"].append(is_right(example, Counter(own).most_common(1)[0][0]))
        found["one_of_n"].append(mean(right))
        if judge:
            found["judge_of_n"].append(right[max(range(n), key=rewards[mine].__getitem__)])
    return {name: mean(values) for name, values in found.items()}


@torch.no_grad()
def rewards_of_texts(judge: RewardModel, texts: Sequence[Text]) -> list[float]:
    """Return the judge's reward of each text."""
    found = [0.0] * len(texts)
    for rows, ids, _ in batches(texts, judge.head.weight.device):
        lengths = torch.tensor([len(texts[i].ids) for i in rows], device=ids.device)
        for i, reward in zip(rows, judge(ids, lengths).tolist(), strict=True):
            found[i] = reward
    return found


def batches(texts: Sequence[Text], device: torch.device) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield numbers of texts of about one length, their tokens (B, T) and which were chosen (B, T)."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i].ids))
    for start in range(0, len(order), AT_ONCE):
        rows = order[start : start + AT_ONCE]
        ids, chosen = pad([texts[i] for i in rows])
        yield rows, ids.to(device), chosen.to(device)


@torch.no_grad()
def confidences(model: LanguageModel, replies: Sequence[Reply]) -> list[float]:
    """Return the probability that the model gives each of these replies as a whole."""
    found = [0.0] * len(replies)
    with evaluating(model):
        for rows, ids, chosen in batches([reply.tokens for reply in replies], model.head.weight.device):
            for i, logp in zip(rows, sequence_logps(model(ids), ids, chosen).tolist(), strict=True):
                found[i] = min(1.0, math.exp(logp))  # rounding may have it a hair above 1
    return found


def calibration(confidence: Sequence[float], right: Sequence[bool], n_bins: int = 10) -> tuple[float, list[dict]]:
    """Return the expected calibration error, and a row for each bin of confidences that has answers.

    Of answers given with 80 % certainty 80 % should be right: the error is the mean distance between the two, each bin
    counting as its answers do (Guo et al. 2017, equation 3).
    """
    bins: dict[int, list[int]] = {}
    for i, p in enumerate(confidence):
        bins.setdefault(min(int(p * n_bins), n_bins - 1), []).append(i)
    rows, error = [], 0.0
    for number in sorted(bins):
        inside = bins[number]
        said, was = mean([confidence[i] for i in inside]), mean([right[i] for i in inside])
        error += abs(said - was) * len(inside) / len(confidence)
        rows.append({"confidence": said, "accuracy": was, "count": len(inside)})
    return error, rows


@torch.no_grad()
def kl_to_reference(model: LanguageModel, reference: LanguageModel, replies: Sequence[Reply]) -> float:
    """Return KL(p || p_reference) in nats, the mean over the tokens that the model chose in its replies.

    At each of them the sum over the whole vocabulary is taken: no estimate from the chosen token alone.
    """
    total, count = 0.0, 0
    with evaluating(model), evaluating(reference):
        for _, ids, chosen in batches([reply.tokens for reply in replies], model.head.weight.device):
            kl = token_kl(model(ids[:, :-1]), reference(ids[:, :-1]))  # (B, T-1)
            total += kl[chosen[:, 1:]].sum().item()
            count += int(chosen[:, 1:].sum())
    return total / max(count, 1)
