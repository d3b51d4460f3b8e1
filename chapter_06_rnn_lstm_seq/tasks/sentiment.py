"""Sentiment: does a sentence about a film praise it or pan it?
情感分类：一句影评是褒还是贬？
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chapter_06_rnn_lstm_seq.baselines.naive_bayes import BagOfWords
from chapter_06_rnn_lstm_seq.dataset import polarity
from chapter_06_rnn_lstm_seq.model import SentimentConfig, SentimentNet
from chapter_06_rnn_lstm_seq.sentiment import sentence_logits
from chapter_06_rnn_lstm_seq.tasks.shared import Shuffled, accuracy_and_loss, configure
from chapter_06_rnn_lstm_seq.toy import toy_sentences
from chapter_06_rnn_lstm_seq.words import Vocabulary, tokenize
from utils.spread import over_seeds

CLASSES = ["negative", "positive"]
MIN_COUNT, N_BUCKETS = 2, 8192  # a word of its own occurs so often; buckets for all pieces of words
LABEL_SMOOTHING = 0.1
N_SEEDS = 3
PROBE = ["a joy from start to finish .", "dull , dull , dull .", "unsinkable zzyzx !", ""]


class Sentiment:
    """The task: the cross-entropy of a sentence's class."""

    def __init__(
        self,
        name: str,
        train: tuple[list[list[str]], Tensor],
        measured: tuple[list[list[str]], Tensor],
        options: dict,
        batch_size: int,
        device: torch.device,
    ):
        """`train` and `measured` are sentences, as words, and their labels (N,), 1 for praise."""
        self.name, self.train, self.measured, self.device = name, train, measured, device
        self.vocabulary = Vocabulary.build(train[0], MIN_COUNT, N_BUCKETS)
        self.config = configure(SentimentConfig, options, n_words=len(self.vocabulary.words), n_buckets=N_BUCKETS)
        self.order = Shuffled(torch.arange(len(train[0])), batch_size)

    def build(self) -> SentimentNet:
        return SentimentNet(self.config)

    def batch(self) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return what `Vocabulary.encode` makes of some sentences, and their labels (B,)."""
        index = self.order.next()
        inputs = self.vocabulary.encode([self.train[0][i] for i in index])
        return tuple(tensor.to(self.device) for tensor in inputs), self.train[1][index].to(self.device)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """A quick look at training sentences; what is measured in the end is not looked at."""
        logits = sentence_logits(model, self.vocabulary, self.train[0][::20])
        return {"train_accuracy": accuracy_and_loss(logits, self.train[1][::20])[0]}

    def evaluate(self, model: nn.Module) -> dict[str, float | int]:
        logits = sentence_logits(model, self.vocabulary, self.measured[0])
        right, loss = accuracy_and_loss(logits, self.measured[1])
        return {"accuracy": right, "loss": loss, "count": len(self.measured[1])}

    def baselines(self) -> dict[str, float]:
        """Return the accuracies of two bags of words; neither depends on a seed."""
        models = {
            "logistic": BagOfWords(longest=1, weighted=False, min_count=1, l2=3e-4),
            "naive_bayes": BagOfWords(longest=2, weighted=True, min_count=1, l2=1e-3),
        }
        found = {}
        for name, model in models.items():
            guesses = model.fit(*self.train).scores(self.measured[0]) > 0
            found[f"accuracy_{name}"] = (guesses == self.measured[1]).float().mean().item()
        return found

    def about(self, model: nn.Module) -> dict:
        probe = sentence_logits(model, self.vocabulary, [tokenize(sentence) for sentence in PROBE])
        return {"classes": CLASSES, "words": "\n".join(self.vocabulary.words), "probe_text": PROBE, "probe": probe}

    def state_dict(self) -> dict:
        return self.order.state_dict()

    def load_state_dict(self, saved: dict) -> None:
        self.order.load_state_dict(saved)


def tasks(
    dataset: str, root: Path, split: str, options: dict, batch_size: int, device: torch.device
) -> list[Sentiment]:
    """Return the same task for each seed."""
    sentences, labels, tenths = polarity(root) if dataset == "full" else toy_sentences()
    words = [tokenize(sentence) for sentence in sentences]
    held_out = 0 if split == "test" else 1
    measured, learnt = tenths == held_out, (tenths != held_out) & (tenths != 0)
    sets = [([words[i] for i in mask.nonzero()[:, 0]], labels[mask]) for mask in (learnt, measured)]
    return [Sentiment(f"seed {seed}", *sets, options, batch_size, device) for seed in range(N_SEEDS)]


def summarize(rows: list[dict], split: str) -> dict:
    """Return means and spreads over the seeds."""
    names = ["accuracy", "loss", "accuracy_logistic", "accuracy_naive_bayes"]
    means = over_seeds(rows, names[:2])
    means |= {name: rows[0][name] for name in [*names[2:], "count"]}  # the bags of words depend on no seed
    return {f"{split}_{name}": value for name, value in means.items()} | {"n_seeds": len(rows)}
