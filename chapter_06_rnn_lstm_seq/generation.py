"""Writing with a language model: read a prompt, then draw one token after another.
用语言模型写作：先读提示，再逐个抽取后面的字符。
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.model import LanguageModel
from chapter_06_rnn_lstm_seq.sampling import sample
from utils.evaluating import evaluating

CHUNK = 1024  # tokens of a prompt read at once


def known_part(text: str, characters: str) -> tuple[str, str]:
    """Return the text without the characters that are not among `characters`, and those, each once."""
    known = "".join(character for character in text if character in characters)
    return known, "".join(sorted(set(text) - set(characters)))


@torch.no_grad()
def generate(
    model: LanguageModel,
    prompt: Tensor,
    n_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    states: list | None = None,
) -> Iterator[int]:
    """Yield n_tokens tokens that follow the prompt (T,), T > 0, each as soon as it is drawn.

    All the past is in the states, so it is read only once. `states` are those to begin with; None: the model's own.
    """
    device = model.head.weight.device
    with evaluating(model):
        for part in prompt.split(CHUNK):
            logits, states = model(part[None].to(device), states)  # (1, T, V)
        for _ in range(n_tokens):
            token = sample(logits[0, -1].cpu(), temperature, top_k, top_p, generator)
            yield int(token)
            logits, states = model(token.view(1, 1).to(device), states)
