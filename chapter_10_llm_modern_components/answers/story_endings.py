"""Stories that a model goes on with, and a judge who says whether they sound glad: what PPO learns from.
模型续写的故事，以及判断故事是否欢快的裁判：PPO 从中学习。
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from chapter_06_rnn_lstm_seq.model import SentimentNet
from chapter_06_rnn_lstm_seq.sentiment import sentence_logits
from chapter_06_rnn_lstm_seq.shipped import CHECKPOINTS, sentiment_model
from chapter_06_rnn_lstm_seq.words import Vocabulary, tokenize
from chapter_10_llm_modern_components.bpe import ByteTokenizer
from chapter_10_llm_modern_components.generation import Sampler, generate
from chapter_10_llm_modern_components.packing import Text, pad
from chapter_10_llm_modern_components.shipped import Writer


class Judge:
    """Chapter 6's classifier, which learned on film reviews what praise sounds like."""

    def __init__(self, model: SentimentNet, vocabulary: Vocabulary):
        self.model, self.vocabulary = model, vocabulary

    def scores(self, texts: Sequence[str]) -> Tensor:
        """Return log(p / (1 - p)) of the probability p of praise, (N,): unlike p it never stops growing."""
        logits = sentence_logits(self.model, self.vocabulary, [tokenize(text) for text in texts])  # (N, 2)
        return logits[:, 1] - logits[:, 0]


def load_judge(device: torch.device) -> Judge:
    """Return the classifier that ships with chapter 6."""
    model, vocabulary, _ = sentiment_model(CHECKPOINTS, device)
    return Judge(model, vocabulary)


def beginnings(tokenizer: ByteTokenizer, documents: Sequence[str], n_tokens: int) -> list[list[int]]:
    """Return the first `n_tokens` tokens of all paragraphs that go on after them."""
    paragraphs = [line for document in documents for line in document.splitlines() if len(line) > n_tokens]
    encoded = (tokenizer.encode(line) for line in paragraphs)
    return [ids[:n_tokens] for ids in encoded if len(ids) > n_tokens]


def write_endings(
    writer: Writer, prompts: Sequence[list[int]], n_tokens: int, sampler: Sampler, generator: torch.Generator
) -> tuple[Tensor, Tensor, list[str]]:
    """Go on with beginnings of one length.

    Returns:
        The tokens (B, T), which of those but the first the model chose (B, T-1), and the endings as texts.
    """
    written: list[list[int]] = [[] for _ in prompts]
    for tokens in generate(writer.model, prompts, n_tokens, sampler, generator, writer.end_tokens):
        for row, token in zip(written, tokens, strict=True):
            if token is not None:
                row.append(token)
    pairs = list(zip(prompts, written, strict=True))
    ids, chosen = pad([Text(p + w, [False] * len(p) + [True] * len(w)) for p, w in pairs])
    device = writer.model.head.weight.device
    return ids.to(device), chosen[:, 1:].to(device), [writer.tokenizer.decode(row) for row in written]
