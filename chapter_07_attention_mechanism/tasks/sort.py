"""Numbers sorted, reversed, or listed once each; also when there are more of them than training ever showed.
把数字排序、反转或去重；并测试比训练时更长的序列。
"""

from collections.abc import Callable

import torch
from torch import Tensor

from chapter_07_attention_mechanism.dataset.batching import pad
from chapter_07_attention_mechanism.dataset.splits import part_of
from chapter_07_attention_mechanism.sorter import Sorter, SorterConfig
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS_ID, PAD_ID, Vocabulary
from utils.evaluating import evaluating

ANSWERS: dict[str, Callable[[list[int]], list[int]]] = {
    "sort": sorted,
    "reverse": lambda numbers: numbers[::-1],
    "unique": lambda numbers: sorted(set(numbers)),
}
N_VALUES = 32  # numbers are from 0 to 31
TRAINED = range(2, 13)  # lengths in training
TESTED = range(2, 25)
SHIFT = TESTED[-1] - TRAINED[-1]  # as far as the longest list of the test reaches beyond that of training


def sort_vocabulary() -> Vocabulary:
    """The tasks' signs and the numbers."""
    return Vocabulary([*ANSWERS, *map(str, range(N_VALUES))])


def draw_lists(count: int, lengths: range, generator: torch.Generator, part: str) -> list[list[int]]:
    """Return lists of numbers, of random lengths, that in whatever order are for "train", "validation" or "test"."""
    return [_draw_list(lengths, generator, part) for _ in range(count)]


def _draw_list(lengths: range, generator: torch.Generator, part: str) -> list[int]:
    length = int(torch.randint(lengths.start, lengths.stop, (), generator=generator))
    while True:
        numbers = torch.randint(N_VALUES, (length,), generator=generator).tolist()
        if part_of(str(sorted(numbers))) == part:
            return numbers


def encode(vocabulary: Vocabulary, task: str, numbers: list[int], answer: list[int]) -> list[int]:
    """Return the tokens: BOS, the numbers, the task's sign, the answer."""
    return [BOS_ID, *vocabulary.encode([*map(str, numbers), task, *map(str, answer)])]


def continue_greedily(model: Sorter, tokens: Tensor, n_steps: int) -> Tensor:
    """Append the likeliest token so many times: (B, T) -> (B, T + n_steps); the last of the T tokens is the sign."""
    signs = torch.full((len(tokens),), tokens.shape[1] - 1, device=tokens.device)
    with torch.no_grad(), evaluating(model):
        for _ in range(n_steps):
            following = model(tokens, signs)[:, -1].argmax(dim=-1, keepdim=True)  # (B, 1)
            tokens = torch.cat([tokens, following], dim=1)
    return tokens


class Sort:
    """The task; see `tasks`."""

    def __init__(self, config: dict, batch_size: int, device: torch.device, test_count: int = 2000, shift: int = SHIFT):
        """`shift`: in training, list and answer move away from each other by a random distance up to this."""
        self.vocabulary = sort_vocabulary()
        self.config = SorterConfig(len(self.vocabulary), **config)
        self.batch_size, self.device, self.test_count, self.shift = batch_size, device, test_count, shift

    def build(self) -> Sorter:
        return Sorter(self.config)

    def batch(self) -> tuple[tuple, Tensor]:
        numbers = draw_lists(self.batch_size, TRAINED, torch.default_generator, "train")
        which = torch.randint(len(ANSWERS), (self.batch_size,)).tolist()
        rows = []
        for task, row in zip(which, numbers, strict=True):
            name = list(ANSWERS)[task]
            rows.append([*encode(self.vocabulary, name, row, ANSWERS[name](row)), EOS_ID])
        tokens = pad(rows)[0]  # (B, T + 1)
        signs = torch.tensor([len(row) + 1 for row in numbers])  # (B,)
        shift = torch.randint(self.shift + 1, (self.batch_size,))
        listed = torch.arange(tokens.shape[1] - 1) < signs[:, None]  # (B, T)
        targets = tokens[:, 1:].masked_fill(listed, PAD_ID)  # only the answer is learned
        tokens, signs, shift, targets = (t.to(self.device) for t in (tokens, signs, shift, targets))
        return (tokens[:, :-1], signs, shift), targets

    def exact_match(self, model: Sorter, task: str, numbers: list[list[int]]) -> float:
        """Return the share of lists that are answered without a fault; all of one length."""
        length = len(numbers[0])
        tokens = torch.tensor([encode(self.vocabulary, task, row, []) for row in numbers], device=self.device)
        tokens = continue_greedily(model, tokens, length + 1)  # (B, 2 length + 3)
        right = 0
        for row, answer in zip(numbers, tokens[:, length + 2 :].tolist(), strict=True):
            wanted = self.vocabulary.encode([*map(str, ANSWERS[task](row))]) + [EOS_ID]
            right += answer[: len(wanted)] == wanted
        return right / len(numbers)

    def by_length(self, model: Sorter, count: int, lengths: range, part: str) -> list[dict]:
        """Return, for each length, the share of faultless answers to `count` lists in each task."""
        generator = torch.Generator().manual_seed(1)
        rows = []
        for length in lengths:
            numbers = draw_lists(count, range(length, length + 1), generator, part)
            rows.append({"length": length} | {task: self.exact_match(model, task, numbers) for task in ANSWERS})
        return rows

    def validate(self, model: Sorter) -> dict[str, float]:
        rows = self.by_length(model, 20, TRAINED, "validation")
        return {"validation_exact_match": sum(row[task] for row in rows for task in ANSWERS) / len(rows) / len(ANSWERS)}

    def evaluate(self, model: Sorter) -> dict:
        count = max(1, self.test_count // len(TRAINED))
        rows = self.by_length(model, count, TESTED, "test")
        inside = [row for row in rows if row["length"] in TRAINED]
        means = {f"exact_match_{task}": sum(row[task] for row in inside) / len(inside) for task in ANSWERS}
        return {
            "exact_match": sum(means.values()) / len(means),
            **means,
            "split": "test: lists, as long as those of training, that are never trained on in any order",
            "trained_up_to": TRAINED[-1],
            "test_count": count * len(inside) * len(ANSWERS),
            "by_length": rows,
        }

    def baselines(self) -> dict[str, float]:
        """Return how many lists are answered by repeating them as they stand, at the lengths of training."""
        generator, right, total = torch.Generator().manual_seed(1), 0, 0
        for length in TRAINED:
            for row in draw_lists(self.test_count // len(TRAINED) + 1, range(length, length + 1), generator, "test"):
                right += sum(answer(row) == row for answer in ANSWERS.values())
                total += len(ANSWERS)
        return {"exact_match_baseline": right / total}

    def about(self) -> dict:
        return self.vocabulary.plain()
