"""Three networks around one recurrent core: one predicts the next token, one names a sequence, one continues a series.
围绕同一个循环核心的三种网络：预测下一个字符、给序列分类、续写数列。
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chapter_03_optimization_regularization.regularization import Dropout
from chapter_06_rnn_lstm_seq.recurrent import make_recurrent

State = Tensor | tuple[Tensor, ...]  # h, or LSTM's (h, c)


class LockedDropout(Dropout):
    """Dropout whose mask is drawn once a sequence and holds at all its steps (Gal & Ghahramani 2016)."""

    def __init__(self, p: float):
        super().__init__(p, channels=True)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D)."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)  # a feature is a channel, the steps its pixels


@dataclass
class LanguageModelConfig:
    n_tokens: int
    cell: str = "lstm"
    d_embedding: int = 64
    hidden_size: int = 384
    n_layers: int = 2
    input_dropout: float = 0.1  # of the embedding's features
    dropout: float = 0.4  # of each layer's outputs


class LanguageModel(nn.Module):
    """p(token | all tokens before it): embedding, recurrent layers with dropout after each, a linear head."""

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.config = config
        sizes = [config.d_embedding] + [config.hidden_size] * config.n_layers
        self.embedding = nn.Embedding(config.n_tokens, config.d_embedding)
        self.layers = nn.ModuleList(
            make_recurrent(config.cell, d_in, d_out) for d_in, d_out in zip(sizes, sizes[1:], strict=False)
        )
        self.input_dropout = LockedDropout(config.input_dropout)
        self.dropout = LockedDropout(config.dropout)
        self.head = nn.Linear(config.hidden_size, config.n_tokens)

    def forward(self, ids: Tensor, states: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """ids (B, T) -> logits (B, T, V) of the token after each, and each layer's state after the last."""
        x = self.input_dropout(self.embedding(ids))  # (B, T, E)
        new_states = []
        for i, layer in enumerate(self.layers):
            x, state = layer(x, states[i] if states else None)  # (B, T, H)
            x = self.dropout(x)
            new_states.append(state)
        return self.head(x), new_states


def detach(states: list[State], device: torch.device | None = None) -> list[State]:
    """Return the same states without their past: no gradient flows further back (truncated backpropagation)."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device or tensor.device)

    return [cut(state) if isinstance(state, Tensor) else tuple(map(cut, state)) for state in states]


def build_language_model(config: dict) -> LanguageModel:
    return LanguageModel(LanguageModelConfig(**config))
