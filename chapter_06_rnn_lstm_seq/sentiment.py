"""The sentiment classifier as a function: sentences in, the probability of praise out.
把情感分类器当作函数来用：输入句子，输出“褒”的概率。
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.model import SentimentNet, build_sentiment
from chapter_06_rnn_lstm_seq.words import Vocabulary, tokenize
from utils.checkpoint import load_model
from utils.evaluating import evaluating

BATCH = 100  # sentences at once


def load_sentiment(path: Path, device: torch.device) -> tuple[SentimentNet, Vocabulary, list[str]]:
    """Return a shipped model, its vocabulary and its classes' names.

    Raises:
        UserError: the file is missing, damaged, or another model's.
    """
    model, about = load_model(path, build_sentiment, device)
    return model, Vocabulary(about["words"].split("\n"), model.config.n_buckets), about["classes"]


@torch.no_grad()
def sentence_logits(model: SentimentNet, vocabulary: Vocabulary, sentences: Sequence[Sequence[str]]) -> Tensor:
    """Return the model's logits (N, 2) for sentences given as words, on the CPU."""
    device, parts = model.embedding.weight.device, [torch.zeros(0, 2)]
    with evaluating(model):
        for first in range(0, len(sentences), BATCH):
            inputs = vocabulary.encode(sentences[first : first + BATCH])
            parts.append(model(*(tensor.to(device) for tensor in inputs)).cpu())
    return torch.cat(parts)


def positive_probability(model: SentimentNet, vocabulary: Vocabulary, sentences: Sequence[str]) -> Tensor:
    """Return the probability that each sentence praises what it is about, (N,)."""
    logits = sentence_logits(model, vocabulary, [tokenize(sentence) for sentence in sentences])
    return logits.softmax(dim=1)[:, 1]
