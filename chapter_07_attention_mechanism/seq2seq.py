"""One sequence into another: a GRU reads in both directions, and a decoder with attention writes.
把一个序列变成另一个：双向 GRU 读，带注意力的解码器写。
"""

import torch
from torch import Tensor, nn

from chapter_06_rnn_lstm_seq.recurrent import GRU
from chapter_07_attention_mechanism.attention import padding_mask
from chapter_07_attention_mechanism.decoder import AttentionDecoder, DecoderConfig, Memory


class Seq2Seq(AttentionDecoder):
    """Encoder and decoder; each place of the memory knows the whole source (Bahdanau et al. 2015, section 3.2)."""

    def __init__(self, config: DecoderConfig):
        super().__init__(config)
        self.encoder = GRU(config.embedding, config.hidden // 2, bidirectional=True)
        self.initial = nn.Linear(config.hidden, 2 * config.hidden)

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Memory, tuple[Tensor, Tensor]]:
        """Read the source (B, S); return its memory, and the states (B, D) in which the decoder's two GRUs start."""
        values, ends = self.encoder(self.dropout(self.embedding(source)), lengths=lengths)  # (B, S, D), (2, B, D/2)
        lower, upper = torch.tanh(self.initial(ends.transpose(0, 1).flatten(1))).chunk(2, dim=-1)  # each (B, D)
        values = self.dropout(values)
        mask = padding_mask(lengths, source.shape[1])
        return Memory(values, mask, self.attention.prepare(values), source), (lower, upper)

    def forward(self, source: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
        """Return the log-probabilities (B, T, V) of what follows each of the target's tokens (B, T)."""
        return self.decode(tokens, *self.encode(source, lengths))[0]
