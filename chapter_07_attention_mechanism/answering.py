"""One question, one answer, and where the model looked while it wrote: what inference and figures share.
一个问题、一个回答，以及书写时看了哪里：推理与绘图共用。
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from chapter_07_attention_mechanism.decoding import beam_search
from chapter_07_attention_mechanism.sorter import Sorter
from chapter_07_attention_mechanism.tasks import sort
from chapter_07_attention_mechanism.tasks.translate import copy_unknown
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS, EOS_ID, GLUE, UNK_ID, Vocabulary


@dataclass
class Answer:
    """What was read and written, piece by piece, and the weights (T, S) of each piece written on each piece read."""

    source: list[str]
    pieces: list[str]
    weights: Tensor
    unknown: list[str]  # pieces of the source that are not in the vocabulary
    ended: bool  # else it was cut at the largest length


def answer_text(model: nn.Module, vocabulary: Vocabulary, source: list[str], beam: int, longest: int) -> Answer:
    """Translate the pieces of a text, or normalise the characters of a date; unknown pieces are copied."""
    if not source:
        return Answer([], [], torch.zeros(0, 0), [], True)
    ids = vocabulary.encode(source)
    inputs = torch.tensor([ids], device=model.bias.device), torch.tensor([len(ids)], device=model.bias.device)
    answer = _write(model, vocabulary, inputs, beam, longest)
    answer.source = source
    answer.unknown = list(dict.fromkeys(piece for piece, i in zip(source, ids, strict=True) if i == UNK_ID))
    if model.config.attention != "none":
        answer.pieces = copy_unknown(answer.pieces, source, answer.weights)
    return answer


def answer_picture(model: nn.Module, vocabulary: Vocabulary, picture: Tensor, beam: int, longest: int) -> Answer:
    """Describe a picture (3, 64, 64), uint8; the weights are on its 64 cells."""
    return _write(model, vocabulary, (picture[None].to(model.bias.device),), beam, longest)


@torch.no_grad()
def _write(model: nn.Module, vocabulary: Vocabulary, inputs: tuple, beam: int, longest: int) -> Answer:
    state = model.encode(*inputs)
    start = torch.full((1,), BOS_ID, device=model.bias.device)
    [tokens], _ = beam_search(model.step, state, start, EOS_ID, longest, beam)
    weights = model.weights_while_writing(state, tokens)[:-1]  # (T, S): the last row is the end's
    return Answer([], vocabulary.decode(tokens), weights.float().cpu(), [], len(tokens) < longest)


def whole_words(answer: Answer) -> Answer:
    """Put the pieces of words together: weights on a word's pieces add up, those with which it is written are averaged.

    A mark such as a comma is a word of its own.
    """
    source, columns = _words(answer.source)
    pieces, rows = _words(answer.pieces)
    weights = answer.weights @ columns.T  # (T, S) @ (S, words read) -> (T, words read)
    weights = (rows / rows.sum(dim=1, keepdim=True)) @ weights  # (words written, T) @ (T, words read)
    return Answer(source, pieces, weights, answer.unknown, answer.ended)


def _words(pieces: list[str]) -> tuple[list[str], Tensor]:
    """Return the W words that P pieces make, and which piece belongs to which, (W, P), as zeros and ones."""
    number = torch.tensor(word_numbers(pieces), dtype=torch.long)  # (P,)
    n_words = len(number.unique())
    words = ["".join(p for p, n in zip(pieces, number.tolist(), strict=True) if n == w) for w in range(n_words)]
    belongs = (torch.arange(n_words)[:, None] == number).float()  # (W, 1) == (P,) -> (W, P)
    return [word.removeprefix(GLUE) for word in words], belongs


def word_numbers(pieces: Sequence[str]) -> list[int]:
    """Return for each piece which word it belongs to: 0, 0, 1, ... A mark is a word, and so is a Chinese character."""
    begins = [p[0] == GLUE or not p[0].isalnum() or "\u4e00" <= p[0] <= "\u9fff" for p in pieces]
    return list(accumulate(begins[1:], initial=0)) if pieces else []


@torch.no_grad()
def answer_numbers(model: Sorter, vocabulary: Vocabulary, task: str, numbers: list[int]) -> tuple[list[str], Tensor]:
    """Sort, reverse or list numbers.

    Returns:
        All tokens (T,): BOS, the numbers, the task's sign, the answer; and each head's weights (H, T, T). The row of a
        token says where the model looked to write the one after it.
    """
    tokens = torch.tensor([sort.encode(vocabulary, task, numbers, [])], device=model.head.weight.device)
    sign = torch.tensor([len(numbers) + 1], device=tokens.device)
    tokens = sort.continue_greedily(model, tokens, len(numbers) + 1)
    pieces = vocabulary.decode(tokens[0].tolist())
    end = pieces.index(EOS) if EOS in pieces else len(pieces)
    return pieces[:end], model.look(tokens[:, :end], sign, need_weights=True)[1][0].cpu()
