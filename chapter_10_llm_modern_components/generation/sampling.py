"""How the next token is chosen: chapter 6's filters, min-p, a price on repetition; and where a text has to stop.
如何选取下一个词元：第 6 章的各种过滤、min-p、重复惩罚；以及文本在哪里停下。
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_06_rnn_lstm_seq.sampling import keep_top_k, keep_top_p, with_temperature


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Set all logits (..., V) to -inf but those of tokens at least p times as probable as the likeliest.

    Where the model is sure few stay, where it is not many do (Nguyen et al. 2024, section 3).

    Raises:
        ValueError: p outside of [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"min-p is a share from 0 to 1, not {p}")
    if p == 0:
        return logits
    least = logits.amax(dim=-1, keepdim=True) + math.log(p)  # of the logits; the softmax's divisor is the same for all
    return logits.masked_fill(logits < least, -math.inf)


def penalize_repetition(logits: Tensor, seen: Iterable[int], penalty: float) -> Tensor:
    """Make tokens that were seen less likely: divide their logits (V,) by the penalty, or multiply negative ones by it.

    Keskar et al. 2019 (CTRL), section 4.1, where negative ones are divided, too, and so become likelier. A penalty of 1
    changes nothing.

    Raises:
        ValueError: a penalty that is not above 0.
    """
    if not 0 < penalty < math.inf:
        raise ValueError(f"a repetition penalty is a finite number above 0, not {penalty}")
    index = torch.tensor(sorted(set(seen)), dtype=torch.long, device=logits.device)
    some = logits[index]
    return logits.index_copy(0, index, torch.where(some > 0, some / penalty, some * penalty))


@dataclass
class Sampler:
    """Chooses tokens: first the penalty, then the temperature, then the filters, each on what the last one left."""

    temperature: float = 1.0  # 0: always the likeliest
    top_k: int | None = None
    top_p: float | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def probabilities(self, logits: Tensor, seen: Iterable[int] = ()) -> Tensor:
        """Return for logits (V,) the probabilities (V,) with which `choose` draws.

        Args:
            seen: the tokens so far, for the penalty.
        """
        logits = self._penalized(logits, seen)
        if self.temperature == 0:
            return F.one_hot(logits.argmax(), len(logits)).to(logits.dtype)
        logits = with_temperature(logits, self.temperature)
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        return keep_min_p(logits, self.min_p).softmax(dim=-1)

    def choose(self, logits: Tensor, seen: Iterable[int] = (), generator: torch.Generator | None = None) -> int:
        """Draw a token from logits (V,)."""
        if self.temperature == 0:
            return int(self._penalized(logits, seen).argmax())
        return draw_token(self.probabilities(logits, seen), generator)

    def _penalized(self, logits: Tensor, seen: Iterable[int]) -> Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits if self.repetition_penalty == 1 else penalize_repetition(logits, seen, self.repetition_penalty)


def draw_token(p: Tensor, generator: torch.Generator | None = None) -> int:
    """Draw from probabilities (V,), on the CPU, so that a seed means the same on every device."""
    return int(torch.multinomial(p.cpu(), 1, generator=generator))


class StopStrings:
    """Lets a text through as it grows, and ends it where one of some strings begins.

    A stop string may come in parts, so what could be the beginning of one is held back until it is known not to be:
    of a stop string nothing is ever shown.
    """

    def __init__(self, strings: Iterable[str]):
        self.strings = [string for string in strings if string]
        self.held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Take more text; return what can be shown now."""
        if self.stopped:
            return ""
        text = self.held + text
        ends = [place for string in self.strings if (place := text.find(string)) >= 0]
        if ends:
            self.stopped, self.held = True, ""
            return text[: min(ends)]
        keep = max((overlap(text, string) for string in self.strings), default=0)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """Return what was held back: the text has ended, and no stop string can be completed any more."""
        held, self.held = self.held, ""
        return held


def overlap(text: str, string: str) -> int:
    """Return the length of the longest end of `text` that is a beginning of `string`, but not all of it."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
