"""Speculative decoding: a small model guesses a few tokens, the large one checks them all in a single pass.
投机采样：小模型先猜几个词元，大模型一次前向传播就全部核对。

Reading five tokens takes a large model hardly longer than reading one, for the time goes into fetching its weights. So
what a small model has guessed is read at once, and as much of it is kept as the large model might have written. The
text is the large model's, exactly: the same tokens if the likeliest is taken, the same distribution if they are drawn.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from chapter_10_llm_modern_components.generation.fast_step import make_step
from chapter_10_llm_modern_components.generation.sampling import Sampler, draw_token
from chapter_10_llm_modern_components.model import Caches, LanguageModel
from utils.evaluating import evaluating


def accept(p: Tensor, q: Tensor, guesses: Sequence[int], generator: torch.Generator | None = None) -> tuple[int, int]:
    """Return how many of the guesses stand, and the token after them (Leviathan et al. 2023, algorithm 1).

    A guess x, drawn from q, stands with probability min(1, p(x) / q(x)). In place of the first that falls comes a token
    drawn from max(0, p - q), made to add up to 1: just what q gave too little of. Each token is then one drawn from p.

    Args:
        p, q: (n + 1, V) and (n, V): the large and the small model's probabilities at the n places of the guesses; p
            has also those at the place after them.
    """
    luck = torch.rand(len(guesses), generator=generator).tolist()
    for i, guess in enumerate(guesses):
        if luck[i] * q[i, guess] >= p[i, guess]:
            return i, draw_token((p[i] - q[i]).clamp(min=0), generator)
    return len(guesses), draw_token(p[-1], generator)


def guess_tokens(
    draft: LanguageModel,
    caches: Caches,
    text: Sequence[int],
    n_guesses: int,
    sampler: Sampler,
    generator: torch.Generator | None = None,
) -> tuple[list[int], list[Tensor]]:
    """Return what the draft writes after the text, and the probabilities (V,) that it drew each token from.

    The caches hold a beginning of the text, and afterwards all that the draft has read.
    """
    guesses, q, device, step = [], [], draft.head.weight.device, make_step(draft, caches)
    unread = text[caches[0].length :]
    for _ in range(n_guesses):
        if len(unread) == 1:
            logits = step(torch.tensor(unread, device=device))[0]  # (V,)
        else:
            logits = draft.head(draft.hidden(torch.tensor([unread], device=device), caches)[0, -1])  # (V,)
        q.append(sampler.probabilities(logits, [*text, *guesses]).cpu())
        guesses.append(draw_token(q[-1], generator))
        unread = guesses[-1:]
    return guesses, q


@torch.inference_mode()
def speculate(
    model: LanguageModel,
    draft: LanguageModel,
    prompt: Sequence[int],
    n_tokens: int,
    sampler: Sampler,
    n_guesses: int = 4,
    generator: torch.Generator | None = None,
    end_tokens: Iterable[int] = (),
) -> Iterator[list[int]]:
    """Yield some tokens at a time, `n_tokens` in all or fewer where one of `end_tokens` comes or the context is full.

    Each time the draft guesses up to `n_guesses` tokens, and one to `n_guesses` + 1 of them come out. Both caches are
    then cut back to the tokens that stand, less the last one, which nobody has read yet.

    Raises:
        ValueError: the models do not have the same number of tokens.
    """
    if draft.config.n_tokens != model.config.n_tokens:
        raise ValueError(f"the draft knows {draft.config.n_tokens} tokens, the model {model.config.n_tokens}")
    longest = min(model.config.max_length, draft.config.max_length)
    text, ends, device = list(prompt), set(end_tokens), model.head.weight.device
    last = min(len(text) + n_tokens, longest + 1)  # length of the text at the end
    caches, draft_caches = model.new_caches(longest), draft.new_caches(longest)
    with evaluating(model), evaluating(draft):
        while len(text) < last:
            n = min(n_guesses, last - len(text) - 1)
            guesses, q = guess_tokens(draft, draft_caches, text, n, sampler, generator)
            unread = [*text[caches[0].length :], *guesses]
            logits = model.head(model.hidden(torch.tensor([unread], device=device), caches)[0, -n - 1 :])  # (n + 1, V)
            rows = enumerate(logits)
            p = torch.stack([sampler.probabilities(row, [*text, *guesses[:i]]) for i, row in rows]).cpu()
            n_stand, token = accept(p, torch.stack(q) if q else p[:0], guesses, generator)
            new = [*guesses[:n_stand], token]
            ended = next((i for i, token in enumerate(new) if token in ends), None)
            new = new if ended is None else new[: ended + 1]
            text += new
            for cache in (*caches, *draft_caches):
                cache.truncate(len(text) - 1)
            yield new
            if ended is not None:
                return
