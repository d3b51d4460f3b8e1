"""Three networks around one recurrent core: one predicts the next token, one names a sequence, one continues a series.
围绕同一个循环核心的三种网络：预测下一个字符、给序列分类、续写数列。
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
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


@dataclass
class ClassifierConfig:
    d_input: int
    n_classes: int
    cell: str = "gru"
    bidirectional: bool = True
    hidden_size: int = 128
    n_layers: int = 2
    input_dropout: float = 0.0
    dropout: float = 0.3


class Classifier(nn.Module):
    """A sequence's class: recurrent layers, then each feature's mean and maximum over the steps, then a linear head.

    The last state alone would do, but has to carry all of the sequence; pooling asks each step what it has seen.
    """

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        directions = 2 if config.bidirectional else 1
        sizes = [config.d_input] + [directions * config.hidden_size] * config.n_layers
        self.layers = nn.ModuleList(
            make_recurrent(config.cell, size, config.hidden_size, bidirectional=config.bidirectional)
            for size in sizes[:-1]
        )
        self.input_dropout = LockedDropout(config.input_dropout)
        self.dropout = LockedDropout(config.dropout)
        self.head = nn.Linear(2 * sizes[-1], config.n_classes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x (B, T, D), of which `lengths` (B,) steps count -> logits (B, C)."""
        x = self.input_dropout(x)
        for layer in self.layers:
            x = self.dropout(layer(x, lengths=lengths)[0])  # (B, T, directions H)
        return self.head(pool(x, lengths))


def pool(x: Tensor, lengths: Tensor) -> Tensor:
    """Return each feature's mean and maximum over the steps that count: (B, T, D) -> (B, 2 D)."""
    mask = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]  # (B, T, 1)
    mean = (x * mask).sum(dim=1) / lengths[:, None]
    return torch.cat([mean, x.masked_fill(~mask, -torch.inf).amax(dim=1)], dim=1)


@dataclass
class SentimentConfig:
    n_words: int
    n_buckets: int
    d_word: int = 64
    cell: str = "gru"
    bidirectional: bool = True
    hidden_size: int = 96
    n_layers: int = 1
    word_dropout: float = 0.2  # share of the words that are taken out of a sentence
    input_dropout: float = 0.3
    dropout: float = 0.5


class SentimentNet(nn.Module):
    """A sentence's class: a word's vector is the mean of its own and its pieces'; a `Classifier` reads the vectors."""

    def __init__(self, config: SentimentConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.n_words + config.n_buckets, config.d_word)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.classifier = Classifier(
            ClassifierConfig(
                d_input=config.d_word,
                n_classes=2,
                cell=config.cell,
                bidirectional=config.bidirectional,
                hidden_size=config.hidden_size,
                n_layers=config.n_layers,
                input_dropout=config.input_dropout,
                dropout=config.dropout,
            )
        )

    def forward(self, parts: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
        """Take what `Vocabulary.encode` returns, and return logits (B, 2)."""
        words = F.embedding_bag(parts, self.embedding.weight, starts, mode="mean", include_last_offset=True)  # (N, D)
        if self.training:
            words = words * words.new_empty(len(words), 1).bernoulli_(1 - self.config.word_dropout)
        x = nn.utils.rnn.pad_sequence(words.split(lengths.tolist()), batch_first=True)  # (B, T, D)
        return self.classifier(x, lengths)


@dataclass
class ForecasterConfig:
    cell: str = "lstm"
    hidden_size: int = 64
    n_layers: int = 1


class Forecaster(nn.Module):
    """The next value of a series: recurrent layers say by how much it will differ from the last one."""

    def __init__(self, config: ForecasterConfig):
        super().__init__()
        self.config = config
        sizes = [1] + [config.hidden_size] * config.n_layers
        self.layers = nn.ModuleList(
            make_recurrent(config.cell, d_in, d_out) for d_in, d_out in zip(sizes, sizes[1:], strict=False)
        )
        self.head = nn.Linear(config.hidden_size, 1)

    def step(self, x: Tensor, states: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """x (B, T) -> the value after each (B, T), and each layer's state after the last."""
        y, new_states = x[..., None], []  # (B, T, 1)
        for i, layer in enumerate(self.layers):
            y, state = layer(y, states[i] if states else None)  # (B, T, H)
            new_states.append(state)
        return x + self.head(y)[..., 0], new_states

    def forward(self, x: Tensor, n_ahead: int = 0) -> Tensor:
        """Read x (B, T), then go on for `n_ahead` steps, each read from the model's own last prediction.

        Returns:
            (B, T + n_ahead): predictions of x[:, 1], ..., x[:, T - 1], and of the n_ahead + 1 values after x.
        """
        y, states = self.step(x)
        predictions, last = [y], y[:, -1:]
        for _ in range(n_ahead):
            last, states = self.step(last, states)  # (B, 1)
            predictions.append(last)
        return torch.cat(predictions, dim=1)


def detach(states: list[State], device: torch.device | None = None) -> list[State]:
    """Return the same states without their past: no gradient flows further back (truncated backpropagation)."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device or tensor.device)

    return [cut(state) if isinstance(state, Tensor) else tuple(map(cut, state)) for state in states]


def build_classifier(config: dict) -> Classifier:
    return Classifier(ClassifierConfig(**config))


def build_forecaster(config: dict) -> Forecaster:
    return Forecaster(ForecasterConfig(**config))


def build_sentiment(config: dict) -> SentimentNet:
    return SentimentNet(SentimentConfig(**config))


def build_language_model(config: dict) -> LanguageModel:
    return LanguageModel(LanguageModelConfig(**config))
