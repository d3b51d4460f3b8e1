"""Decoding with a cache: read the prompts once, then a token a step; and text that comes out while it is written.
带缓存的解码：提示只读一遍，之后每步一个词元；边写边输出文本。

    prefill    all prompts side by side, in one pass: many tokens, so the processor has plenty to multiply
    step       one token of each sequence: every weight is read for one multiplication, so memory sets the pace

Prompts of different lengths are padded in front, so that all end, and go on, at the same place of the cache.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from chapter_10_llm_modern_components.generation.fast_step import make_step
from chapter_10_llm_modern_components.generation.sampling import Sampler, StopStrings
from chapter_10_llm_modern_components.model import Caches, LanguageModel
from utils.evaluating import evaluating


def prefill(
    model: LanguageModel, prompts: Sequence[Sequence[int]], capacity: int
) -> tuple[Tensor, Caches, Tensor | None]:
    """Read B prompts, none of them empty, into new caches for `capacity` tokens.

    Returns:
        The logits (B, V) of the token after each, the caches, and how many tokens each was padded by (B,), None where
        all are of one length.
    """
    device, lengths = model.head.weight.device, [len(prompt) for prompt in prompts]
    longest = max(lengths)
    padded = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    n_padding = None
    if min(lengths) < longest:
        n_padding = torch.tensor([longest - length for length in lengths], device=device)
    caches = model.new_caches(capacity)
    hidden = model.hidden(torch.tensor(padded, device=device), caches, n_padding)  # (B, T, D)
    return model.head(hidden[:, -1]), caches, n_padding


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    n_tokens: int,
    sampler: Sampler,
    generator: torch.Generator | None = None,
    end_tokens: Iterable[int] = (),
    running: Callable[[int], bool] = lambda row: True,
    given: Callable[[list[int]], list[int]] = lambda text: [],
) -> Iterator[list[int | None]]:
    """Yield the next token of each of B sequences, up to `n_tokens` > 0 times, as soon as they are chosen.

    None for a sequence that has ended: it has chosen one of `end_tokens`, which is yielded, or `running`, which is
    asked before each step, says that it need not go on. All end where the longest prompt fills the model's context.

    Args:
        given: told a text's tokens after each that was chosen, it returns those that come next, whatever the model
            would have written: a tool's answer to a call.
    """
    ends = set(end_tokens)
    capacity = min(max(map(len, prompts)) + n_tokens - 1, model.config.max_length)  # the last token is not read
    texts, alive = [list(prompt) for prompt in prompts], [True] * len(prompts)
    device, penalized = model.head.weight.device, sampler.repetition_penalty != 1
    waiting: list[list[int]] = [[] for _ in prompts]  # tokens that were given and are not yet read
    with evaluating(model):
        logits, caches, n_padding = prefill(model, prompts, capacity)
        step = make_step(model, caches, n_padding)
        while any(alive := [going and running(row) for row, going in enumerate(alive)]):
            if sampler.temperature == 0 and not penalized:
                chosen = logits.argmax(dim=-1).tolist()  # (B,)
            else:
                chosen = [sampler.choose(*pair, generator) for pair in zip(logits, texts, strict=True)]
            for row, text in enumerate(texts):
                was_given = bool(waiting[row])
                chosen[row] = waiting[row].pop(0) if was_given else chosen[row]
                text.append(chosen[row])
                waiting[row] += [] if was_given else given(text)
            yield [token if going else None for token, going in zip(chosen, alive, strict=True)]
            alive = [going and token not in ends for token, going in zip(chosen, alive, strict=True)]
            if caches[0].length == capacity or not any(alive):
                return
            logits = step(torch.tensor(chosen, device=device))  # (B, V)


class TextStream:
    """Turns tokens, one by one, into text that can be shown at once.

    A token is bytes, and may end in the middle of a character, which is shown when it is whole; bytes that are no
    UTF-8 become U+FFFD. `stopped` tells that a stop string has come.

    Args:
        tokens: the bytes of each token of the vocabulary.
    """

    def __init__(self, tokens: Sequence[bytes], stop_strings: Iterable[str] = ()):
        self.tokens = tokens
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.stops = StopStrings(stop_strings)

    @property
    def stopped(self) -> bool:
        return self.stops.stopped

    def feed(self, token: int) -> str:
        """Return what can be shown after one more token."""
        return self.stops.feed(self.decoder.decode(self.tokens[token]))

    def finish(self) -> str:
        """Return the rest, after the last token."""
        return self.stops.feed(self.decoder.decode(b"", final=True)) + self.stops.finish()
