"""Writing with a decoder-only model: read a prompt, then draw one token after another.
用只有解码器的模型写作：先读提示，再逐个抽取后面的词元。
"""

from collections.abc import Iterator

import torch

from chapter_06_rnn_lstm_seq.sampling import sample
from chapter_08_transformer_vanilla.transformer import Transformer
from utils.evaluating import evaluating


@torch.no_grad()
def generate(
    model: Transformer,
    prompt: list[int],
    n_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """Yield n_tokens tokens that follow the prompt, which is not empty, each as soon as it is drawn.

    The keys and values of what was read are kept, so a step costs one token. A model knows `max_length` positions: when
    they are used up, the last half of the text is read again, as its beginning. At most so much of the prompt is read.
    """
    device, longest = model.head.weight.device, model.config.max_length
    tokens, n_read = list(prompt), longest
    with evaluating(model):
        for _ in range(n_tokens):
            if n_read == longest:
                tokens = tokens[-max(1, longest // 2) :]
                state = model.start(torch.tensor([tokens[:-1]], dtype=torch.long, device=device))
                n_read = len(tokens) - 1
            log_p, state = model.step(torch.tensor(tokens[-1:], device=device), state)  # (1, V)
            n_read += 1
            tokens.append(int(sample(log_p[0].cpu(), temperature, top_k, top_p, generator)))
            yield tokens[-1]
