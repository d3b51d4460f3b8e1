"""What a pre-trained model looks at, which words it puts side by side, and how much reading more helps it.
预训练好的模型看哪里、把哪些词放在一起，以及多读上文有多大帮助。
"""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import causal_mask, masked_softmax
from chapter_08_transformer_vanilla.lm_analysis import copying_weights, repeated_texts
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.model import LanguageModel

AT_ONCE = 8  # windows that are read side by side
WORD = re.compile(rb" [a-z]{2,}")  # a token that begins a word, and mostly is one


@torch.no_grad()
def attention_maps(model: LanguageModel, ids: Tensor) -> list[Tensor]:
    """Return the weights (B, H, T, T) of each layer on tokens (B, T); a row is a token that asks."""
    maps: list[Tensor] = []

    def look(attention, args, _) -> None:
        x, rotation, mask, _ = args
        q, k, _ = attention.project(x, rotation)
        k = k.repeat_interleave(attention.n_heads // attention.n_kv_heads, dim=1)  # (B, G, T, d) -> (B, H, T, d)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, d) @ (B, H, d, T) -> (B, H, T, T)
        maps.append(masked_softmax(scores, causal_mask(x.shape[1], device=x.device) if mask is None else mask))

    hooks = [block.attention.register_forward_hook(look) for block in model.blocks]
    model.hidden(ids)
    for hook in hooks:
        hook.remove()
    return maps


def first_token_weights(model: LanguageModel, windows: Tensor) -> Tensor:
    """Return (L, H): the mean weight that each head gives to the first token of windows (N, T), by all behind it."""
    total = 0.0
    for some in windows.split(AT_ONCE):
        first = [layer[:, :, 1:, 0].mean(dim=2).sum(dim=0) for layer in attention_maps(model, some)]  # L of (H,)
        total = total + torch.stack(first)
    return total / len(windows)


def even_first_weight(length: int) -> float:
    """Return the same of a head that looks at all tokens alike: the second gives the first 1/2, the third 1/3, ..."""
    return sum(1 / n for n in range(2, length + 1)) / (length - 1)


def copying_heads(model: LanguageModel, count: int, half: int, generator: torch.Generator) -> Tensor:
    """Return (L, H): how much each head looks at what is to be copied, in texts of random tokens that come twice."""
    texts = repeated_texts(count, half, model.config.n_tokens, generator).to(model.head.weight.device)
    return torch.stack([copying_weights(layer) for layer in attention_maps(model, texts)])


def followers(ids: Tensor) -> Tensor:
    """Return (T, T), bool: for each token of ids (T,), the places right behind earlier ones of the same kind."""
    same = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    same[:, 1:] = ids[:, None] == ids[:-1]  # (T, T - 1)
    return same.tril()


def cut_windows(texts: Sequence[Tensor], length: int) -> Tensor:
    """Return windows (N, T + 1), side by side but for the token that they share, of texts (n,) of tokens.

    If none is so long, there is one, the longest text.
    """
    length = min(length, max(map(len, texts)) - 1)
    return torch.cat([ids.unfold(0, length + 1, length) for ids in texts if len(ids) > length])


@torch.no_grad()
def bits_by_position(model: LanguageModel, windows: Tensor) -> Tensor:
    """Return (N, T): the bits that each token of windows (N, T + 1) costs but the first; column t - 1 has read t."""
    parts = []
    for some in windows.split(AT_ONCE):
        logits = model(some[:, :-1]).transpose(1, 2)  # (B, T, V) -> (B, V, T)
        parts.append(F.cross_entropy(logits, some[:, 1:], reduction="none") / math.log(2))  # (B, T)
    return torch.cat(parts)


def by_context(bits: Tensor, sizes: Tensor) -> list[dict]:
    """Return the bits per byte after 1, 2, 3 to 4, 5 to 8 ... tokens read, of bits and bytes (N, T) of the tokens.

    `std_error` takes windows as independent: that of a ratio of means, by its linear approximation; of one it is NaN.
    """
    rows, first = [], 1
    while first <= bits.shape[1]:
        last = min(bits.shape[1], 2 * (first - 1) or 1)
        cost, size = (x[:, first - 1 : last].double().sum(dim=1) for x in (bits, sizes))  # (N,), (N,)
        ratio = (cost.sum() / size.sum()).item()
        error = math.nan
        if len(bits) > 1:
            error = (cost - ratio * size).std().item() / math.sqrt(len(bits)) / size.mean().item()
        rows.append({"from": first, "to": last, "bits_per_byte": ratio, "std_error": error})
        first = last + 1
    return rows


def nearest_words(
    table: Tensor, tokenizer: ByteTokenizer, words: Sequence[str], count: int
) -> dict[str, list[tuple[str, float]]]:
    """Return for each word that is one token the words next to it in the token table (V, D), and their cosines.

    Among tokens of a space and lower-case letters; what all of them have in common, their mean, is subtracted.
    """
    ids = [i for i, token in enumerate(tokenizer.tokens) if WORD.fullmatch(token)]
    names = [tokenizer.tokens[i].decode().strip() for i in ids]
    vectors = table[ids].detach().float()  # (W, D)
    vectors = F.normalize(vectors - vectors.mean(dim=0), dim=1)
    found = {}
    for word in words:
        if word in names:
            cosines = vectors @ vectors[names.index(word)]  # (W,)
            near = cosines.topk(min(count + 1, len(names)))
            found[word] = [(names[i], c) for i, c in zip(near.indices.tolist(), near.values.tolist(), strict=True)][1:]
    return found
