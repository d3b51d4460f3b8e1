"""Fine-tuning: does a sentence about a film praise it? Learned by an encoder that has read books, or by a new one.
微调：一句影评是褒是贬？由读过书的编码器来学，或由全新的编码器来学。
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from chapter_07_attention_mechanism.dataset.batching import LengthBuckets, pad
from chapter_08_transformer_vanilla.classifier import SentenceClassifier, from_masked_model, sentence_logits
from chapter_08_transformer_vanilla.sentences import CLASSES, Part
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.transformer import Transformer

PROBE = "a joy from start to finish ."  # whose logits are recorded with the weights


class Finetuning:
    """The task; see `tasks`. Its figures are of validation sentences in `validate`, of test ones in `evaluate`."""

    name = "sentiment"

    def __init__(
        self,
        pretrained: Transformer,
        tokenizer: Tokenizer,
        parts: dict[str, Part],
        tokens: int,
        dropout: float,
        device: torch.device,
        from_scratch: bool,
    ):
        """`tokens`: of a batch's sentences, at most. `from_scratch`: begin with new weights in the same shapes."""
        self.pretrained, self.tokenizer, self.dropout = pretrained, tokenizer, dropout
        self.device, self.from_scratch = device, from_scratch
        self.ids = {name: [tokenizer.encode(text) for text in texts] for name, (texts, _) in parts.items()}
        self.labels = {name: labels for name, (_, labels) in parts.items()}
        self.buckets = LengthBuckets([len(ids) for ids in self.ids["train"]], tokens)
        self.config = self.build().config

    def build(self) -> SentenceClassifier:
        model = from_masked_model(self.pretrained, len(CLASSES), self.dropout)
        return SentenceClassifier(model.config) if self.from_scratch else model

    def batch(self) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return sentences (B, T), their lengths (B,), and their labels (B,)."""
        chosen = self.buckets.draw()
        tokens, lengths = pad([self.ids["train"][i] for i in chosen.tolist()])
        return (tokens.to(self.device), lengths.to(self.device)), self.labels["train"][chosen].to(self.device)

    def n_epochs(self, steps: int) -> float:
        """Return how often each sentence comes in so many steps."""
        return steps / float(self.buckets.batches.sum())

    def validate(self, model: SentenceClassifier) -> dict[str, float]:
        accuracy, loss = self.measure(model, "validation")
        return {"validation_accuracy": accuracy, "validation_loss": loss}

    def evaluate(self, model: SentenceClassifier) -> dict[str, float]:
        accuracy, loss = self.measure(model, "test")
        return {"accuracy": accuracy, "loss": loss}

    def measure(self, model: SentenceClassifier, part: str) -> tuple[float, float]:
        """Return the accuracy and the cross-entropy (nats) on a part."""
        logits, labels = sentence_logits(model, self.ids[part], self.device), self.labels[part]
        return (logits.argmax(dim=1) == labels).double().mean().item(), F.cross_entropy(logits, labels).item()

    def about(self, model: SentenceClassifier) -> dict:
        """Return what inference needs, and some logits by which a loaded model can be known again."""
        probe = sentence_logits(model, [self.tokenizer.encode(PROBE)], self.device)[0].tolist()
        return {"tokenizer": self.tokenizer.to_plain(), "classes": CLASSES, "probe_text": PROBE, "probe": probe}
