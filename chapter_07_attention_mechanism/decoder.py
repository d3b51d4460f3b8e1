"""A decoder with attention: two GRUs write, token by token, and look between them at what has been read.
带注意力的解码器：两个 GRU 逐个写出词元，由两者之间的注意力去看读到的内容。
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from chapter_06_rnn_lstm_seq.recurrent import GRU
from chapter_07_attention_mechanism.attention import SCORES, Attention, MultiHeadAttention
from chapter_07_attention_mechanism.vocab import BOS_ID

ATTENTIONS = [*SCORES, "multihead", "none"]


@dataclass
class DecoderConfig:
    """What rebuilds a model. Where the source is text, it shares the target's vocabulary and embeddings."""

    vocabulary: int
    embedding: int = 192
    hidden: int = 320  # width D of the memory, the queries and the states
    attention: str = "additive"
    n_heads: int = 4  # of "multihead"
    copy: bool = False
    dropout: float = 0.3


class Memory(NamedTuple):
    """What has been read: of each batch row, so that rows can be repeated and reordered."""

    values: Tensor  # (B, S, D), what each place of the source says
    mask: Tensor  # (B, 1, S), which places are no padding
    prepared: Tensor  # what attention makes of the values once and for all
    source: Tensor | None = None  # (B, S), the tokens, where the source is text


class FixedVector(nn.Module):
    """No attention: whatever is asked, the answer is the one vector in which reading ended (Sutskever et al. 2014).

    A network of one hidden layer on that vector gives it as many parameters as `AdditiveScore` has, so that the two can
    be compared. It is called as `Attention` is, whatever of that it needs.
    """

    def __init__(self, width: int):
        super().__init__()
        self.refine = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))

    def prepare(self, values: Tensor) -> Tensor:
        return values

    def forward(self, queries: Tensor, values: Tensor, mask: Tensor, prepared: Tensor) -> tuple[Tensor, Tensor]:
        last = mask.sum(dim=-1, keepdim=True) - 1  # (B, 1, 1): where the forward direction ended
        width = values.shape[-1] // 2
        forward = values[..., :width].gather(1, last.expand(-1, 1, width))  # (B, 1, D/2)
        context = torch.cat([forward, values[:, :1, width:]], dim=-1)  # (B, 1, D): the backward one ended in front
        context = context + self.refine(context)
        weights = queries.new_zeros(*queries.shape[:2], values.shape[1])
        return context.expand(-1, queries.shape[1], -1), weights


class MultiHeadCrossAttention(MultiHeadAttention):
    """Multi-head cross-attention, called as `Attention` is; its weights are the mean over the heads."""

    def prepare(self, values: Tensor) -> Tensor:
        return torch.stack(self.project(values, 1, 2), dim=1)  # (B, 2, H, S, D/H)

    def forward(self, queries: Tensor, values: Tensor, mask: Tensor, prepared: Tensor) -> tuple[Tensor, Tensor]:
        [q], (k, v) = self.project(queries, 0, 0), prepared.unbind(dim=1)
        found, weights = self.attend(q, k, v, mask, need_weights=True)
        return found, weights.mean(dim=1)


def make_attention(config: DecoderConfig) -> nn.Module:
    """Return the module that answers queries (B, T, D) from a memory."""
    if config.attention == "none":
        return FixedVector(config.hidden)
    if config.attention == "multihead":
        return MultiHeadCrossAttention(config.hidden, config.n_heads)
    return Attention(SCORES[config.attention](config.hidden, config.hidden, config.hidden))


def mix_copies(log_p: Tensor, gate: Tensor, weights: Tensor, source: Tensor) -> Tensor:
    """Mix: write a token of one's own, or copy the one that attention points to (See et al. 2017, equation 9).

    Args:
        log_p: (B, T, V), the log-probabilities of the model's own tokens.
        gate: (B, T, 1), the logit of writing one of these.
        weights: (B, T, S), attention on the source's tokens (B, S).

    Returns:
        The log-probabilities (B, T, V) of the mixture.
    """
    own, copied = nn.functional.logsigmoid(gate), nn.functional.logsigmoid(-gate)  # (B, T, 1) each
    pointed = torch.zeros_like(log_p).scatter_add(2, source[:, None].expand_as(weights), weights)  # (B, T, V)
    return torch.logaddexp(own + log_p, copied + pointed.clamp(min=1e-20).log())


class AttentionDecoder(nn.Module):
    """Writes tokens from a memory (Bahdanau et al. 2015; two layers: Wu et al. 2016, section 3).

    The lower GRU asks, attention answers, the upper GRU goes on from the answer. The lower one never hears the answer:
    so in training, where all tokens of the target are known, every place is computed at once. A subclass reads: its
    `encode` returns the memory and the states in which the two GRUs start.
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        if config.copy and config.attention == "none":
            raise ValueError("without attention nothing points at what to copy")
        width = config.hidden
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        nn.init.normal_(self.embedding.weight, std=config.embedding**-0.5)
        self.lower = GRU(config.embedding, width)
        self.attention = make_attention(config)
        self.upper = GRU(width, width)
        self.head = nn.Linear(2 * width, config.embedding)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.copy_gate = nn.Linear(2 * width, 1) if config.copy else None
        self.dropout = nn.Dropout(config.dropout)

    def decode(
        self, tokens: Tensor, memory: Memory, states: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Go on writing after the tokens (B, T).

        Returns:
            The log-probabilities (B, T, V) of each next token, the states (B, D) after the last, the weights (B, T, S).
        """
        embedded = self.dropout(self.embedding(tokens))  # (B, T, E)
        queries, lower = self.lower(embedded, states[0][None])  # (B, T, D), (1, B, D)
        context, weights = self.attention(queries, memory.values, memory.mask, memory.prepared)  # (B, T, D), (B, T, S)
        written, upper = self.upper(self.dropout(queries + context), states[1][None])  # (B, T, D), (1, B, D)
        both = torch.cat([written + queries, context], dim=-1)  # (B, T, 2 D)
        hidden = self.dropout(torch.tanh(self.head(both)))  # (B, T, E)
        logits = nn.functional.linear(hidden, self.embedding.weight, self.bias.to(hidden.dtype))  # (B, T, V)
        log_p = logits.float().log_softmax(dim=-1)
        if self.copy_gate is not None:
            log_p = mix_copies(log_p, self.copy_gate(both).float(), weights.float(), memory.source)
        return log_p, (lower[0], upper[0]), weights

    @torch.no_grad()
    def weights_while_writing(self, state: tuple, tokens: list[int]) -> Tensor:
        """Return the weights (T + 1, S) with which one sequence's tokens, and EOS after them, are written.

        `state` is what `encode` returns for a batch of one.
        """
        given = torch.tensor([[BOS_ID, *tokens]], device=self.bias.device)
        return self.decode(given, *state)[2][0]

    def step(self, tokens: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        """One step of decoding, as `decoding.py` calls it; the state is what `encode` returns."""
        memory, states = state
        log_p, states, _ = self.decode(tokens[:, None], Memory(*memory), states)
        return log_p[:, 0], (memory, states)
