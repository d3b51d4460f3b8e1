"""Sentences in, sentences out, and where the model looked while it wrote.
输入句子，输出译文，以及写每个词时看了哪里。
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from chapter_07_attention_mechanism.dataset.batching import pad
from chapter_07_attention_mechanism.decoding import beam_search, greedy
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS_ID
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.transformer import Transformer
from utils.evaluating import evaluating

AT_ONCE = 100  # sentences decoded side by side
BREAKS = [  # where a text may be cut, the better places first; what is cut keeps its spaces
    re.compile("(?<=[.!?…] )|(?<=[。！？])"),
    re.compile("(?<=[,;:] )|(?<=[，；：、])"),
    re.compile("(?<= )"),
]


def encode_source(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the numbers of a sentence to be read; EOS shows where it ends."""
    return [*tokenizer.encode(text), EOS_ID]


@torch.no_grad()
def write(
    model: Transformer, sources: list[list[int]], device: torch.device, beam: int, length_penalty: float = 1.0
) -> list[list[int]]:
    """Return the numbers of the translations of sources; a beam of 1 is greedy decoding."""
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))  # similar lengths side by side: less padding
    answers: list[list[int]] = [[] for _ in sources]
    with evaluating(model):
        for first in range(0, len(order), AT_ONCE):
            part = order[first : first + AT_ONCE]
            source, lengths = (t.to(device) for t in pad([sources[i] for i in part]))
            state, start = model.start(source, lengths), torch.full((len(part),), BOS_ID, device=device)
            longest = 2 * source.shape[1] + 10
            if beam == 1:
                found = greedy(model.step, state, start, EOS_ID, longest)
            else:
                found, _ = beam_search(model.step, state, start, EOS_ID, longest, beam, length_penalty)
            for i, answer in zip(part, found, strict=True):
                answers[i] = answer
    return answers


def translate(
    model: Transformer,
    tokenizer: Tokenizer,
    sentences: list[str],
    device: torch.device,
    beam: int,
    length_penalty: float = 1.0,
) -> list[str]:
    """Return the translations of sentences, each of them read as it is; that of nothing is nothing."""
    real = [i for i, text in enumerate(sentences) if text.strip()]
    answers = write(model, [encode_source(tokenizer, sentences[i]) for i in real], device, beam, length_penalty)
    found = [""] * len(sentences)
    for i, answer in zip(real, answers, strict=True):
        found[i] = tokenizer.decode(answer)
    return found


@torch.no_grad()
def alignment(model: Transformer, source: list[int], answer: list[int], device: torch.device) -> Tensor:
    """Return where the model looked to write each of T tokens: weights (T, S), the mean over all layers' heads."""
    inputs = torch.tensor([source], device=device), torch.tensor([len(source)], device=device)
    target = torch.tensor([[BOS_ID, *answer]], device=device)  # row t reads token t - 1 and writes token t
    with evaluating(model):
        maps = model.attention_maps(*inputs, target)["cross"]  # a layer (1, H, T + 1, S)
    return torch.cat(maps, dim=1)[0].mean(dim=0)[:-1].cpu()  # (L H, T + 1, S) -> (T, S): the last row writes the end


def split_text(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Cut a text that does not fit into parts that do, which joined are the text again.

    Sentences are cut apart; one that is too long still is cut after as many clauses, or else words, as fit; and a word
    that does not fit is cut in half.
    """
    if fits(text) or len(text) < 2:
        return [text]
    for at_sentences, pattern in zip((True, False, False), BREAKS, strict=True):
        parts: list[str] = []
        for part in filter(None, pattern.split(text)):
            if parts and not at_sentences and fits(parts[-1] + part):
                parts[-1] += part
            else:
                parts.append(part)
        if len(parts) > 1:
            return [piece for part in parts for piece in split_text(part, fits)]
    middle = len(text) // 2
    return split_text(text[:middle], fits) + split_text(text[middle:], fits)


def language_odds(sources: list[list[int]], targets: list[list[int]], n_tokens: int) -> list[float]:
    """Return for each piece log(p / q), where p and q are its shares of all that stands in the two languages' texts."""
    logs = []
    for sentences in (sources, targets):
        counts = torch.bincount(torch.tensor([i for ids in sentences for i in ids]), minlength=n_tokens) + 1.0
        logs.append((counts / counts.sum()).log())
    return [round(odds, 2) for odds in (logs[0] - logs[1]).tolist()]


@dataclass
class Translation:
    """What was read and written, in pieces, and where the model looked: weights (T, S)."""

    text: str
    source: list[str]
    pieces: list[str]
    weights: Tensor


@dataclass
class Translator:
    """A trained model and what it takes to use it."""

    pair: str  # from which language into which: "de-en"
    model: Transformer
    tokenizer: Tokenizer
    odds: list[float]  # `language_odds`
    longest: int  # pieces of the longest source in training

    def parts(self, text: str) -> list[str]:
        """Cut a text into parts that are no longer than what the model has learned from."""
        return split_text(text, lambda part: len(encode_source(self.tokenizer, part)) <= self.longest)

    def looks_foreign(self, text: str) -> bool:
        """Tell whether a text looks like the language that the model writes, or like none of the two."""
        ids = self.tokenizer.encode(text)
        return 2 * self.tokenizer.count_bytes(ids) > len(ids) or sum(self.odds[i] for i in ids) < -1

    def __call__(
        self, texts: list[str], device: torch.device, beam: int, length_penalty: float = 1.0
    ) -> list[Translation]:
        """Translate texts that are not empty, and say where the model looked."""
        sources = [encode_source(self.tokenizer, text) for text in texts]
        answers = write(self.model, sources, device, beam, length_penalty)
        show = self.tokenizer.show
        return [
            Translation(self.tokenizer.decode(answer), show(source), show(answer), self.align(source, answer, device))
            for source, answer in zip(sources, answers, strict=True)
        ]

    def align(self, source: list[int], answer: list[int], device: torch.device) -> Tensor:
        return alignment(self.model, source, answer, device)
