"""Hiding tokens, for a model that sees both sides of a gap to fill it in.
遮住一些词元，让能看到两侧的模型把空填上。
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.sampling import sample
from chapter_07_attention_mechanism.vocab import SPECIAL, UNK_ID
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.transformer import Transformer
from utils.evaluating import evaluating

MASK_ID = UNK_ID  # of the piece that stands for a hidden one: a byte-pair encoding knows every text, so it is free
MASKED, AS_MASK, AS_OTHER = 0.15, 0.8, 0.1  # share of the tokens to be guessed; of these, shares of what is shown


def mask_tokens(tokens: Tensor, n_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose 15 % of each row of tokens (B, T) to be guessed: G of them, at least one.

    Of the chosen ones 80 % are shown as MASK_ID, 10 % as any token of the vocabulary of `n_tokens`, 10 % as they are:
    so a position without a mask may be asked for too, and must be understood (Devlin et al. 2019, section 3.1).

    Returns:
        what is shown (B, T), the positions to be guessed (B, G), in random order, and what stood there (B, G).
    """
    n_chosen = max(1, round(MASKED * tokens.shape[1]))
    chosen = torch.rand(tokens.shape, device=tokens.device).topk(n_chosen).indices  # (B, T) -> (B, G)
    truth = tokens.gather(1, chosen)  # (B, G)
    kind = torch.rand(truth.shape, device=tokens.device)
    other = torch.randint(len(SPECIAL), n_tokens, truth.shape, device=tokens.device)
    shown = torch.where(kind < AS_MASK, MASK_ID, torch.where(kind < AS_MASK + AS_OTHER, other, truth))
    return tokens.scatter(1, chosen, shown), chosen, truth


class MaskedTransformer(Transformer):
    """An encoder alone that rates tokens only where some are to be guessed: for training, which asks for 15 %.

    To rate all positions, each against a vocabulary of thousands, takes about as long as all layers together.
    """

    def forward(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        """tokens (B, T) as shown, positions (B, G) -> logits (B, G, V)."""
        hidden, _ = self.encode(tokens)  # (B, T, D)
        return self.head(hidden.take_along_dim(chosen[:, :, None], dim=1))  # (B, G, D) -> (B, G, V)


def hide_gaps(tokenizer: Tokenizer, parts: list[str]) -> list[int]:
    """Return the tokens of a text's parts, MASK_ID between any two; they have the form of the training text."""
    tokens = tokenizer.encode(parts[0])
    for part in parts[1:]:
        tokens += [MASK_ID, *tokenizer.encode(part)]
    return tokens


@torch.no_grad()
def gap_logits(model: Transformer, tokens: Tensor) -> Tensor:
    """Return the logits (G, V) of what stands at the gaps of a text (T,), on the CPU; special pieces stand nowhere."""
    with evaluating(model):
        logits = model(tokens[None].to(model.head.weight.device))[0].cpu()  # (T, V)
    logits[:, : len(SPECIAL)] = -torch.inf
    return logits[tokens == MASK_ID]


def fill_gaps(model: Transformer, tokenizer: Tokenizer, tokens: list[int], count: int) -> list[dict[str, float]]:
    """Guess which piece stands at each MASK_ID: the `count` likeliest, with their probabilities.

    Each gap is guessed by itself, all at once.
    """
    p = gap_logits(model, torch.tensor(tokens)).softmax(dim=1)  # (G, V)
    best = p.topk(min(count, p.shape[1]))
    return [
        dict(zip(tokenizer.show(ids), values, strict=True))
        for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def unmask(
    model: Transformer,
    tokens: list[int],
    per_step: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[list[int]]:
    """Fill all gaps of a text, `per_step` at a time; yield the text after each step (Chang et al. 2022, section 3.2).

    A step draws a token for every gap by itself. The likeliest ones of those stay, the others are drawn anew.
    """
    shown = torch.tensor(tokens)  # (T,)
    while len(gaps := (shown == MASK_ID).nonzero()[:, 0]):  # (G,)
        logits = gap_logits(model, shown)  # (G, V)
        drawn = sample(logits, temperature, top_k, top_p, generator)  # (G,)
        log_p = logits.log_softmax(dim=1).gather(1, drawn[:, None])[:, 0]  # (G, V) -> (G,)
        surest = log_p.argsort(descending=True, stable=True)[:per_step]
        shown[gaps[surest]] = drawn[surest]
        yield shown.tolist()
