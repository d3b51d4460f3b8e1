"""Dates: characters in, YYYY-MM-DD out; and whether each digit was read off the right character.
日期任务：输入字符，输出 YYYY-MM-DD；并检查每个数字是否看了正确的字符。
"""

from itertools import chain

import torch
from torch import Tensor

from chapter_07_attention_mechanism.baselines import date_by_rule
from chapter_07_attention_mechanism.dataset.batching import pad, pad_targets
from chapter_07_attention_mechanism.dataset.dates import HELD_OUT, SEEN, Example, all_dates, draw_examples, write
from chapter_07_attention_mechanism.decoder import DecoderConfig
from chapter_07_attention_mechanism.decoding import greedy
from chapter_07_attention_mechanism.seq2seq import Seq2Seq
from chapter_07_attention_mechanism.tasks.shared import attention_entropy
from chapter_07_attention_mechanism.vocab import EOS_ID, PAD_ID, UNK_ID, Vocabulary
from utils.evaluating import evaluating

LENGTH = len("YYYY-MM-DD")
UNKNOWN_SHARE = 0.05


def date_vocabulary() -> Vocabulary:
    """Every character that a date is written with, in any format, and those of the answers."""
    texts = (write(day, style).source for style in SEEN.values() for day in all_dates("train")[::13])
    return Vocabulary.of_characters(chain(texts, ["-"]))  # the answer's mark occurs in no question


class Dates:
    """The task; see `tasks`."""

    def __init__(self, config: dict, batch_size: int, device: torch.device, test_count: int = 2000):
        self.vocabulary = date_vocabulary()
        self.config = DecoderConfig(len(self.vocabulary), **config)
        self.batch_size, self.device = batch_size, device
        generator = torch.Generator().manual_seed(1)
        self.validation = draw_examples(200, generator, "validation")
        self.test = draw_examples(test_count, generator, "test")
        self.held_out = draw_examples(test_count, generator, "test", HELD_OUT)

    def build(self) -> Seq2Seq:
        return Seq2Seq(self.config)

    def tensors(self, examples: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
        """Return sources (B, S), their lengths (B,), targets (B, 12) from BOS to EOS."""
        source, lengths = pad([self.vocabulary.encode(e.source) for e in examples])
        target = pad_targets([self.vocabulary.encode(e.target) for e in examples])
        return source.to(self.device), lengths.to(self.device), target.to(self.device)

    def batch(self) -> tuple[tuple, Tensor]:
        """Draw dates; some characters that tell nothing become unknown, so that the unknown comes to tell nothing."""
        examples = draw_examples(self.batch_size, torch.default_generator, "train")
        source, lengths, target = self.tensors(examples)
        tells, _ = pad([[bool(places) for places in example.tells] for example in examples])  # (B, S)
        hidden = (tells == 0) & (source.cpu() != PAD_ID) & (torch.rand(tells.shape) < UNKNOWN_SHARE)
        source = source.masked_fill(hidden.to(self.device), UNK_ID)
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
    def weights(self, model: Seq2Seq, examples: list[Example]) -> Tensor:
        """Return where the model looks while it writes the right answers, (B, 11, S)."""
        source, lengths, target = self.tensors(examples)
        with evaluating(model):
            return model.decode(target[:, :-1], *model.encode(source, lengths))[2]

    def alignment_accuracy(self, model: Seq2Seq, examples: list[Example]) -> float:
        """Return the share of digits for which the most attention is on a character that tells them."""
        right, weights = [], self.weights(model, examples)
        for example, looked_at in zip(examples, weights.argmax(dim=-1).tolist(), strict=True):
            told = set(chain.from_iterable(example.tells))
            right += [place in example.tells[looked_at[place]] for place in range(LENGTH) if place in told]
        return sum(right) / len(right)

    def validate(self, model: Seq2Seq) -> dict[str, float]:
        row = {"validation_exact_match": self.exact_match(model, self.validation)}
        if self.config.attention != "none":
            weights = self.weights(model, self.validation)
            row["attention_entropy"] = attention_entropy(weights, torch.ones_like(weights[..., 0], dtype=torch.bool))
        return row

    def evaluate(self, model: Seq2Seq) -> dict[str, float | int]:
        final = {
            "exact_match": self.exact_match(model, self.test),
            "held_out_format": self.exact_match(model, self.held_out),
            "split": "test: dates that are never trained on",
            "test_count": len(self.test),
        }
        if self.config.attention != "none":
            final["alignment_accuracy"] = self.alignment_accuracy(model, self.test)
        return final

    def baselines(self) -> dict[str, float]:
        """Return what a rule gets right: see `date_by_rule`."""
        return {
            f"{name}_baseline": sum(date_by_rule(e.source) == e.target for e in examples) / len(examples)
            for name, examples in (("exact_match", self.test), ("held_out_format", self.held_out))
        }

    def about(self) -> dict:
        return self.vocabulary.plain()
