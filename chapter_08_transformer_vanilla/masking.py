"""Hiding tokens, for a model that sees both sides of a gap to fill it in.
遮住一些词元，让能看到两侧的模型把空填上。
"""

import torch
from torch import Tensor

from chapter_07_attention_mechanism.vocab import SPECIAL, UNK_ID
from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.transformer import Transformer
from utils.evaluating import evaluating

MASK_ID = UNK_ID  # of the piece that stands for a hidden one: a byte-pair encoding knows every text, so it is free
MASKED, AS_MASK, AS_OTHER = 0.15, 0.8, 0.1  # share of the tokens to be guessed; of these, shares of what is shown


def mask_tokens(tokens: Tensor, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Choose 15 % of tokens (B, T) to be guessed: return what is shown, and the targets, IGNORED elsewhere.

    Of the chosen ones 80 % are shown as MASK_ID, 10 % as any token of the vocabulary of `n_tokens`, 10 % as they are:
    so a place without a mask may be asked for too, and must be understood (Devlin et al. 2019, section 3.1).
    """
    chosen = torch.rand(tokens.shape, device=tokens.device) < MASKED
    kind = torch.rand(tokens.shape, device=tokens.device)
    other = torch.randint(len(SPECIAL), n_tokens, tokens.shape, device=tokens.device)
    shown = torch.where(kind < AS_MASK, MASK_ID, torch.where(kind < AS_MASK + AS_OTHER, other, tokens))
    return torch.where(chosen, shown, tokens), tokens.masked_fill(~chosen, IGNORED)


@torch.no_grad()
def fill_gaps(model: Transformer, tokenizer: Tokenizer, parts: list[str], count: int) -> list[dict[str, float]]:
    """Guess which piece stands between each two of a text's parts: the `count` likeliest, with their probabilities.

    The parts have the form in which the model read its training text. Each gap is guessed by itself, all at once.
    """
    tokens = tokenizer.encode(parts[0])
    for part in parts[1:]:
        tokens += [MASK_ID, *tokenizer.encode(part)]
    shown = torch.tensor([tokens], device=model.head.weight.device)
    with evaluating(model):
        p = model(shown)[shown == MASK_ID].softmax(dim=1)  # (gaps, V)
    best = p.topk(min(count, p.shape[1]))
    return [
        dict(zip(tokenizer.show(ids), values, strict=True))
        for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
