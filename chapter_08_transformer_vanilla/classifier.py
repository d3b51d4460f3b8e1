"""A sentence classifier: the encoder of a masked model, and one linear layer on the mean of what it knows.
句子分类器：掩码语言模型的编码器，输出取平均，再接一个线性层。
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from chapter_07_attention_mechanism.dataset.batching import pad
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from utils.evaluating import evaluating

AT_ONCE = 100  # sentences that are read side by side


@dataclass
class ClassifierConfig(TransformerConfig):
    """What rebuilds a model: an encoder-only Transformer's config, and the number of classes."""

    n_classes: int = 2


class SentenceClassifier(nn.Module):
    """Reads a sentence with `transformer`, an encoder alone; `head` rates the classes (Devlin et al. 2019, figure 4).

    The paper classifies by the first token; the mean over all tokens needs no token that was trained for it.
    """

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.d_model, config.n_classes)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """tokens (B, T), of which the first `lengths` (B,), at least one, are real -> logits (B, K)."""
        hidden, mask = self.transformer.encode(tokens, lengths)  # (B, T, D), (B, 1, T)
        summed = torch.where(mask.transpose(1, 2), hidden, 0).sum(dim=1)  # (B, T, D) -> (B, D)
        return self.head(self.dropout(summed / lengths[:, None]))  # (B, D) -> (B, K)


def from_masked_model(model: Transformer, n_classes: int, dropout: float) -> SentenceClassifier:
    """Return a classifier that begins with all that the masked model has learned; its head is new."""
    config = ClassifierConfig(**asdict(model.config) | {"dropout": dropout, "n_classes": n_classes})
    classifier = SentenceClassifier(config)
    classifier.transformer.load_state_dict(model.state_dict())  # strictly: no weight is missing or left over
    return classifier


@torch.no_grad()
def sentence_logits(model: SentenceClassifier, sentences: list[list[int]], device: torch.device) -> Tensor:
    """Return the model's logits (N, K) for sentences given as tokens, on the CPU."""
    parts = []
    with evaluating(model):
        for first in range(0, len(sentences), AT_ONCE):
            tokens, lengths = pad(sentences[first : first + AT_ONCE])
            parts.append(model(tokens.to(device), lengths.to(device)).cpu())
    return torch.cat(parts)
