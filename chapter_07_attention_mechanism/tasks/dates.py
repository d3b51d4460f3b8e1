"""Dates: characters in, YYYY-MM-DD out; and whether each digit was read off the right character.
日期任务：输入字符，输出 YYYY-MM-DD；并检查每个数字是否看了正确的字符。
"""

from itertools import chain

import torch
from torch import Tensor

from chapter_07_attention_mechanism.dataset.batching import pad, pad_targets
from chapter_07_attention_mechanism.dataset.dates import HELD_OUT, SEEN, Example, all_dates, draw_examples, write
from chapter_07_attention_mechanism.decoder import DecoderConfig
from chapter_07_attention_mechanism.decoding import greedy
from chapter_07_attention_mechanism.seq2seq import Seq2Seq
from chapter_07_attention_mechanism.vocab import EOS_ID, Vocabulary
from utils.evaluating import evaluating

LENGTH = len("YYYY-MM-DD")


def date_vocabulary() -> Vocabulary:
    """Every character that a date is written with, in any format."""
    days = [day for day in all_dates(test=False) if day.day < 29]
    return Vocabulary.of_characters(write(day, style).source for style in SEEN.values() for day in days[::13])


class Dates:
    """The task; see `tasks`."""

    def __init__(self, config: dict, batch_size: int, device: torch.device, test_count: int = 2000):
        self.vocabulary = date_vocabulary()
        self.config = DecoderConfig(len(self.vocabulary), **config)
        self.batch_size, self.device = batch_size, device
        generator = torch.Generator().manual_seed(1)
        self.validation = draw_examples(200, generator, test=False)
        self.test = draw_examples(test_count, generator, test=True)
        self.held_out = draw_examples(test_count, generator, test=True, formats=HELD_OUT)

    def build(self) -> Seq2Seq:
        return Seq2Seq(self.config)

    def tensors(self, examples: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
        """Return sources (B, S), their lengths (B,), targets (B, 12) from BOS to EOS."""
        source, lengths = pad([self.vocabulary.encode(e.source) for e in examples])
        target = pad_targets([self.vocabulary.encode(e.target) for e in examples])
        return source.to(self.device), lengths.to(self.device), target.to(self.device)

    def batch(self) -> tuple[tuple, Tensor]:
        source, lengths, target = self.tensors(draw_examples(self.batch_size, torch.default_generator, test=False))
        return (source, lengths, target[:, :-1]), target[:, 1:]

    @torch.no_grad()
    def answers(self, model: Seq2Seq, examples: list[Example]) -> list[str]:
        """Return what the model makes of each date."""
        found = []
        with evaluating(model):
            for i in range(0, len(examples), 500):
                source, lengths, target = self.tensors(examples[i : i + 500])
                found += greedy(model.step, model.encode(source, lengths), target[:, 0], EOS_ID, 2 * LENGTH)
        return ["".join(self.vocabulary.decode(ids)) for ids in found]

    def exact_match(self, model: Seq2Seq, examples: list[Example]) -> float:
        answers = self.answers(model, examples)
        return sum(answer == e.target for answer, e in zip(answers, examples, strict=True)) / len(examples)

    @torch.no_grad()
    def alignment_accuracy(self, model: Seq2Seq, examples: list[Example]) -> float:
        """Return the share of digits for which the most attention is on a character that tells them."""
        right = []
        with evaluating(model):
            source, lengths, target = self.tensors(examples)
            weights = model.decode(target[:, :-1], *model.encode(source, lengths))[2]  # (B, 11, S)
        for example, looked_at in zip(examples, weights.argmax(dim=-1).tolist(), strict=True):
            told = set(chain.from_iterable(example.tells))
            right += [place in example.tells[looked_at[place]] for place in range(LENGTH) if place in told]
        return sum(right) / len(right)

    def validate(self, model: Seq2Seq) -> dict[str, float]:
        return {"validation_exact_match": self.exact_match(model, self.validation)}

    def evaluate(self, model: Seq2Seq) -> dict[str, float | int]:
        final = {
            "exact_match": self.exact_match(model, self.test),
            "held_out_format": self.exact_match(model, self.held_out),
            "test_count": len(self.test),
        }
        if self.config.attention != "none":
            final["alignment_accuracy"] = self.alignment_accuracy(model, self.test)
        return final

    def about(self) -> dict:
        return {"pieces": self.vocabulary.pieces[4:], "merges": []}
