"""From a model that rates the next token to a whole sequence: greedy decoding and beam search.
从“给下一个词元打分”的模型到完整的序列：贪心解码与束搜索。

A model is a function `step(tokens, state) -> (log_probabilities, state)`: the last token (N,) of each of N sequences,
and whatever the model remembers of them, give the log-probabilities (N, V) of the next. The state is a tensor whose
first dimension is N, or a tuple, list or dict of states, or None.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


def select(state: Any, index: Tensor) -> Any:
    """Return the state of the sequences `index` (M,), in that order."""
    if isinstance(state, Tensor):
        return state[index]
    if isinstance(state, dict):
        return {name: select(part, index) for name, part in state.items()}
    if isinstance(state, tuple | list):
        return tuple(select(part, index) for part in state)
    return state


@torch.no_grad()
def greedy(step: Step, state: Any, start: Tensor, eos: int, max_length: int) -> list[list[int]]:
    """Take the likeliest token again and again, until `eos` or `max_length` tokens.

    Args:
        start: (N,), the first token of each sequence.

    Returns:
        N sequences, without the start and without `eos`.
    """
    tokens, sequences, running = start, [], torch.ones_like(start, dtype=torch.bool)
    for _ in range(max_length):
        log_p, state = step(tokens, state)
        tokens = log_p.argmax(dim=-1).where(running, eos)  # (N,)
        sequences.append(tokens)
        running = running & (tokens != eos)
        if not running.any():
            break
    return [_until(row, eos) for row in torch.stack(sequences, dim=1).tolist()] if sequences else [[] for _ in start]


@torch.no_grad()
def beam_search(
    step: Step, state: Any, start: Tensor, eos: int, max_length: int, beam: int = 5, length_penalty: float = 1.0
) -> tuple[list[list[int]], Tensor]:
    """Return for each of B sequences the best continuation that a beam of K finds, and its score (B,).

    A beam keeps the K likeliest beginnings. One that takes `eos` and is still among the K likeliest has ended; K that
    have ended are enough, and the one of the highest score wins. What has not ended after `max_length` tokens counts as
    it is. The score is the log-probability divided by ((5 + length) / 6) ** length_penalty, or short sequences would
    win (Wu et al. 2016, equation 14); the length counts `eos`. A beam of one is greedy decoding.

    Args:
        start: (B,), the first token of each sequence; `state` is of the same B.
        length_penalty: 0 takes the likeliest sequence, 1 about the one that is likeliest per token.
    """
    batch, device = len(start), start.device
    rows = torch.arange(batch, device=device)[:, None]  # (B, 1)
    tokens = start.repeat_interleave(beam)  # (B K,)
    state = select(state, rows.expand(batch, beam).flatten())
    log_p = torch.full((batch, beam), -torch.inf, device=device)
    log_p[:, 0] = 0.0  # all beginnings are the same one: only one of them counts
    history = torch.empty(batch, beam, 0, dtype=torch.long, device=device)
    answers: list[list[int]] = [[] for _ in range(batch)]
    best = torch.full((batch,), -torch.inf, device=device)
    ended = torch.zeros(batch, dtype=torch.long, device=device)
    largest_norm = ((5 + max_length) / 6) ** length_penalty

    for length in range(1, max_length + 1):
        next_log_p, state = step(tokens, state)
        vocabulary = next_log_p.shape[-1]
        total = (log_p[:, :, None] + next_log_p.float().view(batch, beam, vocabulary)).flatten(1)  # (B, K V)
        total, index = total.topk(min(2 * beam, total.shape[1]), dim=1)  # (B, 2 K): at most K of them end
        origin, token = index // vocabulary, index % vocabulary  # (B, 2 K), (B, 2 K)
        ends = token == eos

        scores = (total / ((5 + length) / 6) ** length_penalty)[:, :beam]  # (B, K)
        finished = ends[:, :beam] & (scores > -torch.inf) & (ended < beam)[:, None]
        for b, k in torch.nonzero(finished).tolist():
            if scores[b, k] > best[b]:
                best[b], answers[b] = scores[b, k], history[b, origin[b, k]].tolist()
        ended += finished.sum(dim=1)

        alive = ends.int().argsort(dim=1, stable=True)[:, :beam]  # (B, K): the likeliest that do not end come first
        log_p = total.masked_fill(ends, -torch.inf).gather(1, alive)
        origin, token = origin.gather(1, alive), token.gather(1, alive)
        history = torch.cat([history[rows, origin], token[:, :, None]], dim=2)  # (B, K, length)
        state = select(state, (rows * beam + origin).flatten())
        tokens = token.flatten()  # (B K,)
        cannot_improve = log_p[:, 0] / largest_norm <= best  # what goes on only gets less likely
        if ((ended >= beam) | cannot_improve).all():
            return answers, best

    for b in torch.nonzero((ended < beam) & (log_p[:, 0] / largest_norm > best)).flatten().tolist():
        best[b], answers[b] = log_p[b, 0] / largest_norm, history[b, 0].tolist()
    return answers, best


def _until(tokens: list[int], eos: int) -> list[int]:
    return tokens[: tokens.index(eos)] if eos in tokens else tokens
