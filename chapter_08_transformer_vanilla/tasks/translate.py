"""Translation: sentences in, sentences out, measured in BLEU.
翻译任务：输入句子，输出译文，用 BLEU 衡量。

Texts keep their capital letters, so that a translation can be used as it is. `bleu` puts both sides into lower case, as
most published figures for Multi30k do; `bleu_cased` does not.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from chapter_07_attention_mechanism.dataset.batching import LengthBuckets, pad, pad_targets
from chapter_07_attention_mechanism.tasks.translate import SIGNATURE, Pairs, bleu, bleu_by_length
from chapter_07_attention_mechanism.vocab import BOS_ID, PAD_ID
from chapter_08_transformer_vanilla.baselines import nearest
from chapter_08_transformer_vanilla.dataset import load_pairs
from chapter_08_transformer_vanilla.tasks import IGNORED
from chapter_08_transformer_vanilla.tokenizer import Tokenizer
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from chapter_08_transformer_vanilla.translating import encode_source, language_odds, translate
from utils.evaluating import evaluating

MIN_COUNT = 5  # a character that is rarer in training is written in bytes
N_VALIDATED = 300  # pairs that are looked at during training
N_PROBE = 32  # logits that are recorded with the weights
SPLITS = {"toy": "toy", "zh": "tatoeba: linked to no training pair", "de": "test_2016_flickr", "en": "test_2016_flickr"}


class Translate:
    """The task; see `tasks`."""

    def __init__(
        self,
        pair: str,
        dataset: str,
        root: Path,
        vocab_size: int,
        config: dict,
        tokens: int,
        beam: int,
        length_penalty: float,
        device: torch.device,
    ):
        """`vocab_size`: pieces that both languages share; `tokens`: of a batch's sources or targets, at most."""
        self.pair, self.device, self.beam, self.length_penalty = pair, device, beam, length_penalty
        self.name = f"translate_{pair.replace('-', '_')}"
        self.split = SPLITS["toy" if dataset == "toy" else pair[:2]]
        self.train, self.validation, self.test = load_pairs(pair, dataset, root)
        self.tokenizer = Tokenizer.train((text for pair in self.train for text in pair), vocab_size, MIN_COUNT)
        self.config = TransformerConfig(len(self.tokenizer), **config)
        self.sources, self.targets = self.encode(self.train)
        lengths = [max(len(a), len(b) + 1) for a, b in zip(self.sources, self.targets, strict=True)]
        self.buckets = LengthBuckets(lengths, tokens)

    def encode(self, pairs: Pairs) -> tuple[list[list[int]], list[list[int]]]:
        """Return the numbers of sources and of targets."""
        sources = [encode_source(self.tokenizer, source) for source, _ in pairs]
        return sources, [self.tokenizer.encode(target) for _, target in pairs]

    def build(self) -> Transformer:
        return Transformer(self.config)

    def batch(self) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Return sources (B, S), their lengths (B,), targets (B, T) from BOS on, and what follows each token (B, T)."""
        chosen = self.buckets.draw().tolist()
        return self.tensors([self.sources[i] for i in chosen], [self.targets[i] for i in chosen])

    def tensors(
        self, sources: list[list[int]], targets: list[list[int]]
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        source, lengths = pad(sources)
        target = pad_targets(targets).to(self.device)  # (B, T + 1): BOS, the sentence, EOS, padding
        following = target[:, 1:].masked_fill(target[:, 1:] == PAD_ID, IGNORED)  # (B, T)
        return (source.to(self.device), lengths.to(self.device), target[:, :-1]), following

    def n_epochs(self, steps: int) -> float:
        """Return how often each pair comes in so many steps."""
        return steps / float(self.buckets.batches.sum())

    @torch.no_grad()
    def loss(self, model: Transformer, pairs: Pairs) -> float:
        """Return the mean cross-entropy (nats a token) of the references, each token given those before it."""
        total, count = 0.0, 0
        with evaluating(model):
            for first in range(0, len(pairs), 100):
                inputs, following = self.tensors(*self.encode(pairs[first : first + 100]))
                logits = model(*inputs).flatten(0, 1)  # (B T, V)
                total += F.cross_entropy(logits, following.flatten(), ignore_index=IGNORED, reduction="sum").item()
                count += int((following != IGNORED).sum())
        return total / count

    def answers(self, model: Transformer, pairs: Pairs, beam: int) -> list[str]:
        sources = [source for source, _ in pairs]
        return translate(model, self.tokenizer, sources, self.device, beam, self.length_penalty)

    def validate(self, model: Transformer) -> dict[str, float]:
        pairs = self.validation[:N_VALIDATED]
        return {
            "validation_loss": self.loss(model, pairs),
            "validation_bleu": bleu(self.answers(model, pairs, beam=1), pairs),
        }

    def evaluate(self, model: Transformer) -> dict:
        answers = self.answers(model, self.test, self.beam)
        return {
            "bleu": bleu(answers, self.test),
            "bleu_cased": bleu(answers, self.test, lowercase=False),
            "bleu_greedy": bleu(self.answers(model, self.test, beam=1), self.test),
            "bleu_validation": bleu(self.answers(model, self.validation, self.beam), self.validation),
            "loss": self.loss(model, self.test),
            "split": self.split,
            "test_count": len(self.test),
            "validation_count": len(self.validation),
            "beam": self.beam,
            "length_penalty": self.length_penalty,
            "signature": SIGNATURE,
            "signature_cased": SIGNATURE.replace("case:lc", "case:mixed"),
            "by_length": bleu_by_length(answers, self.test),
        }

    def baselines(self) -> dict[str, float]:
        """Return BLEU of the translations of the most similar training sentences."""
        found = nearest(self.encode(self.test)[0], self.sources, len(self.tokenizer))
        return {"bleu_nearest": bleu([self.train[i][1] for i in found], self.test)}

    @torch.no_grad()
    def about(self, model: Transformer) -> dict:
        """Return what inference needs, and some logits by which a loaded model can be known again."""
        source, target = (side[0] for side in self.encode(self.test[:1]))
        with evaluating(model):
            logits = model(*self.tensors([source], [target])[0])[0, -1, :N_PROBE]
        return {
            "pair": self.pair,
            "tokenizer": self.tokenizer.to_plain(),
            "odds": language_odds(self.sources, self.targets, len(self.tokenizer)),
            "longest": max(map(len, self.sources)),
            "probe_source": source,
            "probe_target": [BOS_ID, *target],
            "probe": logits.tolist(),
        }
