"""What the heads of a translator specialise in, measured over many sentences.
翻译模型的各个注意力头各有什么专长：在许多句子上测量。
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from chapter_07_attention_mechanism.answering import word_numbers
from chapter_07_attention_mechanism.attention import causal_mask, padding_mask
from chapter_07_attention_mechanism.dataset.batching import pad
from chapter_07_attention_mechanism.vocab import BOS_ID, GLUE
from chapter_08_transformer_vanilla.attention_analysis import (
    CROSS_ROLES,
    ROLES,
    cross_roles,
    effective_tokens,
    head_roles,
    uniform,
)
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.translating import Translator, encode_source
from utils.evaluating import evaluating

UNSEEN = ("after", "last")  # what no token of a decoder can look at, but for the last one at itself
NAMES = {"encoder": list(ROLES), "decoder": [name for name in ROLES if name not in UNSEEN], "cross": list(CROSS_ROLES)}


class Pieces(NamedTuple):
    """Texts side by side, filled up behind `lengths` (B,); the others are (B, T)."""

    ids: Tensor
    lengths: Tensor
    words: Tensor  # which word a piece belongs to
    marks: Tensor  # bool: punctuation


def describe(tokenizer: Tokenizer, texts: Sequence[Sequence[int]], device: torch.device) -> Pieces:
    ids, lengths = pad(texts)
    shown = [tokenizer.show(text) for text in texts]
    words, _ = pad([word_numbers(pieces) for pieces in shown])
    marks, _ = pad([[is_mark(piece) for piece in pieces] for pieces in shown])
    return Pieces(*(t.to(device) for t in (ids, lengths, words, marks.bool())))


def is_mark(piece: str) -> bool:
    """Tell whether a piece is punctuation; <bos>, <eos> and the like are not."""
    return bool(piece.strip(GLUE)) and not any(character.isalnum() for character in piece)


@torch.no_grad()
def survey_heads(translator: Translator, pairs: Sequence[tuple[str, str]], device: torch.device) -> dict[str, dict]:
    """Return for "encoder", "decoder" and "cross" the names of its `roles`, and what each head looks at.

    `weights` (L, R, H) are the means of `head_roles` or `cross_roles`, `tokens` (L, H) those of `effective_tokens`;
    `uniform` (R,) and `uniform_tokens` are the same of a head that looks everywhere alike. References are given.
    """
    tokenizer = translator.tokenizer
    read = describe(tokenizer, [encode_source(tokenizer, text) for text, _ in pairs], device)
    written = describe(tokenizer, [[BOS_ID, *tokenizer.encode(text)] for _, text in pairs], device)
    n_read, n_written = read.ids.shape[1], written.ids.shape[1]
    with evaluating(translator.model):
        maps = translator.model.attention_maps(read.ids, read.lengths, written.ids)
    real, real_written = padding_mask(read.lengths, n_read), padding_mask(written.lengths, n_written)  # (B, 1, S or T)
    sides = {  # what is measured of a layer's weights; who asks; where it may look
        "encoder": (lambda w: head_roles(w, *read[1:]), real[:, 0], real.expand(-1, n_read, -1)),
        "decoder": (
            lambda w: head_roles(w, *written[1:], causal=True),
            real_written[:, 0],
            causal_mask(n_written, device=device).expand(len(pairs), -1, -1),
        ),
        "cross": (
            lambda w: cross_roles(w, written.lengths, read.lengths, read.marks),
            real_written[:, 0],
            real.expand(-1, n_written, -1),
        ),
    }
    found = {}
    for side, (measure, queries, allowed) in sides.items():
        alike = uniform(allowed)
        chosen = [list(ROLES if side != "cross" else CROSS_ROLES).index(name) for name in NAMES[side]]
        found[side] = {
            "roles": NAMES[side],
            "weights": torch.stack([measure(layer)[chosen] for layer in maps[side]]),
            "tokens": torch.stack([effective_tokens(layer, queries) for layer in maps[side]]),
            "uniform": measure(alike)[chosen, 0],
            "uniform_tokens": effective_tokens(alike, queries).item(),
        }
    return found


def specialists(found: dict[str, dict]) -> dict:
    """Return what to report of `survey_heads`: for each role the head with most weight on it, "2.3" being layer.head.

    And for each side the sharpest head, which looks at the fewest tokens, and the most diffuse one.
    """
    report = {}
    for side, part in found.items():
        n_heads = part["tokens"].shape[1]

        def name(index: int, n_heads: int = n_heads) -> str:
            return f"{index // n_heads + 1}.{index % n_heads + 1}"

        for i, role in enumerate(part["roles"]):
            weights = part["weights"][:, i].flatten()  # (L H,)
            report[f"{side}_{role}"] = weights.max().item()
            report[f"{side}_{role}_head"] = name(int(weights.argmax()))
            report[f"{side}_{role}_uniform"] = part["uniform"][i].item()
        tokens = part["tokens"].flatten()  # (L H,)
        for word, index in (("sharpest", tokens.argmin()), ("most_diffuse", tokens.argmax())):
            report[f"{side}_{word}_tokens"], report[f"{side}_{word}_head"] = tokens[index].item(), name(int(index))
        report[f"{side}_uniform_tokens"] = part["uniform_tokens"]
        report[side] = {"weights": part["weights"].tolist(), "tokens": part["tokens"].tolist()}
    return report
