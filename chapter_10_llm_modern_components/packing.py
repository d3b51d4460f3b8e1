"""Several short texts in one row: each sees itself alone, and nothing is spent on padding.
把几段短文本拼进同一行：各段只看得见自己，不在填充上浪费计算。

    texts    0 0 0 0 1 1 1 2 2 2 2 2    which text of the row each token belongs to
    places   0 1 2 3 0 1 2 0 1 2 3 4    where it stands in its text
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_09_efficient_attention.sparse import window_mask


class Text(NamedTuple):
    """The tokens of a text, and which of them a model is to learn to write."""

    ids: list[int]
    learned: list[bool]


class Packed(NamedTuple):
    """Rows of texts, one behind the other; what is left of a row is a text of zeros that nobody learns."""

    ids: Tensor  # (B, T)
    targets: Tensor  # (B, T), the token after each, IGNORED where it is not to be learned
    texts: Tensor  # (B, T)


def pack(texts: Sequence[Text], length: int) -> Packed:
    """Put texts of at least two tokens, in their order, into rows of at most `length`; one may not go on in the next.

    Raises:
        ValueError: a text does not fit into a row of its own.
    """
    rows: list[list[Text]] = []
    room = 0  # that is left in the last row
    for text in texts:
        needed = len(text.ids) - 1  # its last token is a target only
        if needed > length:
            raise ValueError(f"a text of {len(text.ids)} tokens does not fit into a row of {length}")
        if needed > room:
            rows.append([])
            room = length
        rows[-1].append(text)
        room -= needed
    width = max(sum(len(text.ids) - 1 for text in row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)  # (B, T)
    targets, numbers = torch.full_like(ids, IGNORED), torch.full_like(ids, -1)
    for row, inside in enumerate(rows):
        start = 0
        for i, text in enumerate(inside):
            end = start + len(text.ids) - 1
            tokens, learned = torch.tensor(text.ids), torch.tensor(text.learned)
            ids[row, start:end], numbers[row, start:end] = tokens[:-1], i
            targets[row, start:end] = tokens[1:].masked_fill(~learned[1:], IGNORED)
            start = end
    return Packed(ids, targets, numbers)


def pad(texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
    """Return the texts' tokens (B, T), zeros behind the shorter ones, and which are to be learned (B, T)."""
    longest = max(len(text.ids) for text in texts)
    ids = torch.tensor([text.ids + [0] * (longest - len(text.ids)) for text in texts])
    return ids, torch.tensor([text.learned + [False] * (longest - len(text.ids)) for text in texts])


def packed_places(texts: Tensor) -> Tensor:
    """Return where each token stands in its own text, (B, T) of texts (B, T)."""
    places = torch.arange(texts.shape[1], device=texts.device)  # (T,)
    begins = torch.ones_like(texts, dtype=torch.bool)
    begins[:, 1:] = texts[:, 1:] != texts[:, :-1]
    return places - torch.where(begins, places, 0).cummax(dim=1).values


def packed_mask(texts: Tensor, window: int | None) -> Tensor:
    """Return (B, 1, T, T): which tokens each may see, those of its own text that are not ahead, nor beyond the window.

    The mask of a row is a triangle for each of its texts, along the diagonal.
    """
    n_tokens = texts.shape[1]
    places = torch.arange(n_tokens, device=texts.device)
    mask = window_mask(places, places, n_tokens if window is None else window)  # (T, T)
    return (mask & (texts[:, :, None] == texts[:, None, :]))[:, None]
