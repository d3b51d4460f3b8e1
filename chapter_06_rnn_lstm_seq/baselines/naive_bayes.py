"""Two ways to weigh a bag of words: logistic regression, plain and on features weighted by naive Bayes.
词袋的两种加权方式：普通逻辑回归，以及先用朴素贝叶斯加权特征的逻辑回归。
"""

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Sentence = Sequence[str]


def ngrams(sentence: Sentence, longest: int) -> set[str]:
    """Return the different runs of one to `longest` words of a sentence."""
    return {" ".join(sentence[i : i + n]) for n in range(1, longest + 1) for i in range(len(sentence) - n + 1)}


def log_count_ratio(positive: Tensor, negative: Tensor, alpha: float = 1.0) -> Tensor:
    """r = log((alpha + p) / |alpha + p|_1) - log((alpha + q) / |alpha + q|_1)  (Wang & Manning 2012, eq. 2).

    p and q (V,) are in how many positive and negative sentences each feature occurs. r is naive Bayes' weight.
    """
    p, q = alpha + positive, alpha + negative
    return (p / p.sum()).log() - (q / q.sum()).log()


class BagOfWords:
    """Logistic regression on which n-grams occur in a sentence, each column scaled by naive Bayes if `weighted`.

    Rare features then begin with a say of their own; plain regression has to learn each from a handful of sentences.
    """

    def __init__(self, longest: int = 2, weighted: bool = True, min_count: int = 2, l2: float = 1e-4):
        self.longest, self.weighted, self.min_count, self.l2 = longest, weighted, min_count, l2

    def fit(self, sentences: Sequence[Sentence], labels: Tensor) -> "BagOfWords":
        """labels (N,) of 0 and 1. The loss is the mean cross-entropy + l2 / 2 |w|^2, minimised by L-BFGS."""
        bags = [ngrams(sentence, self.longest) for sentence in sentences]
        counts = Counter(feature for bag in bags for feature in bag)
        features = sorted(feature for feature in counts if counts[feature] >= self.min_count)
        self.index = {feature: i for i, feature in enumerate(features)}
        ids, starts = self._encode(bags)
        self.scale = torch.ones(len(features))
        if self.weighted:
            owner = labels.repeat_interleave(starts.diff())  # (all features,): the label of each one's sentence
            present = torch.stack([torch.bincount(ids[owner == c], minlength=len(features)) for c in (1, 0)]).float()
            self.scale = log_count_ratio(*present)
        self.w, self.bias = torch.zeros(len(features), 1, requires_grad=True), torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.LBFGS([self.w, self.bias], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.binary_cross_entropy_with_logits(self._scores(ids, starts), labels.float())
            value = value + self.l2 / 2 * self.w.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        return self

    @torch.no_grad()
    def scores(self, sentences: Sequence[Sentence]) -> Tensor:
        """Return log(p / (1 - p)) that each sentence is positive, (N,)."""
        return self._scores(*self._encode([ngrams(sentence, self.longest) for sentence in sentences]))

    def _scores(self, ids: Tensor, starts: Tensor) -> Tensor:
        weights = self.scale[:, None] * self.w  # (V, 1)
        return F.embedding_bag(ids, weights, starts, mode="sum", include_last_offset=True)[:, 0] + self.bias

    def _encode(self, bags: Sequence[set[str]]) -> tuple[Tensor, Tensor]:
        found = [[self.index[feature] for feature in sorted(bag) if feature in self.index] for bag in bags]
        ids = torch.tensor([i for row in found for i in row], dtype=torch.long)
        return ids, torch.tensor([0, *map(len, found)]).cumsum(0)
