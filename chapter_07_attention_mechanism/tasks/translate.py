"""Translation: sentences in, sentences out, measured in BLEU.
翻译任务：输入句子，输出句子，用 BLEU 衡量。
"""

from pathlib import Path

import torch
from torch import Tensor

from chapter_07_attention_mechanism.bleu import corpus_bleu
from chapter_07_attention_mechanism.dataset.batching import LengthBuckets, pad, pad_targets
from chapter_07_attention_mechanism.dataset.multi30k import multi30k
from chapter_07_attention_mechanism.dataset.toy_pairs import toy_pairs
from chapter_07_attention_mechanism.decoder import DecoderConfig
from chapter_07_attention_mechanism.decoding import beam_search
from chapter_07_attention_mechanism.seq2seq import Seq2Seq
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS_ID, Vocabulary, join
from utils.evaluating import evaluating

Pairs = list[tuple[str, str]]
LONGEST = 100  # pieces of a translation at most
BEAM = 5


def load_pairs(dataset: str, root: Path) -> tuple[Pairs, Pairs, Pairs]:
    """Return pairs to train on, to validate on and to test on, in lower case, German first."""
    if dataset == "toy":
        parts = [toy_pairs(count, seed) for seed, count in enumerate((2000, 50, 100))]
        seen = set(parts[0])
        parts[1:] = [[pair for pair in part if pair not in seen] for part in parts[1:]]
    else:
        offline = "--dataset toy needs no download"
        parts = [multi30k(root, split, ("de", "en"), offline) for split in ("train", "val", "test_2016_flickr")]
    return tuple([(a.strip().lower(), b.strip().lower()) for a, b in part] for part in parts)


@torch.no_grad()
def translate(
    model: Seq2Seq, vocabulary: Vocabulary, sentences: list[str], device: torch.device, beam: int = BEAM
) -> list[str]:
    """Return translations of sentences, which are put into lower case first."""
    sources = [vocabulary.encode(vocabulary.split(text.lower())) for text in sentences]
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    found = [""] * len(sources)
    with evaluating(model):
        for i in range(0, len(order), 100):
            part = [k for k in order[i : i + 100] if sources[k]]  # of nothing the translation is nothing
            if not part:
                continue
            source, lengths = (t.to(device) for t in pad([sources[k] for k in part]))
            start = torch.full((len(part),), BOS_ID, device=device)
            longest = min(LONGEST, 2 * source.shape[1] + 10)
            answers, _ = beam_search(model.step, model.encode(source, lengths), start, EOS_ID, longest, beam)
            for k, answer in zip(part, answers, strict=True):
                found[k] = join(vocabulary.decode(answer))
    return found


class Translate:
    """The task; see `tasks`."""

    def __init__(self, dataset: str, root: Path, pieces: int, config: dict, tokens: int, device: torch.device):
        self.device = device
        train, self.validation, self.test = load_pairs(dataset, root)
        self.vocabulary = Vocabulary.of_subwords((text for pair in train for text in pair), pieces)
        self.config = DecoderConfig(len(self.vocabulary), **config)
        self.sources, self.targets = (
            [self.vocabulary.encode(self.vocabulary.split(pair[side])) for pair in train] for side in (0, 1)
        )
        lengths = [max(len(a), len(b)) for a, b in zip(self.sources, self.targets, strict=True)]
        self.buckets = LengthBuckets(lengths, tokens)

    def build(self) -> Seq2Seq:
        return Seq2Seq(self.config)

    def batch(self) -> tuple[tuple, Tensor]:
        chosen = self.buckets.draw().tolist()
        source, lengths = pad([self.sources[i] for i in chosen])
        target = pad_targets([self.targets[i] for i in chosen]).to(self.device)
        return (source.to(self.device), lengths.to(self.device), target[:, :-1]), target[:, 1:]

    def bleu(self, model: Seq2Seq, pairs: Pairs, beam: int) -> float:
        sources, references = zip(*pairs, strict=True)
        answers = translate(model, self.vocabulary, list(sources), self.device, beam)
        return corpus_bleu(answers, [[reference] for reference in references]).score

    def validate(self, model: Seq2Seq) -> dict[str, float]:
        return {"validation_bleu": self.bleu(model, self.validation[:300], beam=1)}

    def evaluate(self, model: Seq2Seq) -> dict[str, float | int | str]:
        return {
            "bleu": self.bleu(model, self.test, BEAM),
            "bleu_greedy": self.bleu(model, self.test, 1),
            "test_count": len(self.test),
            "beam": BEAM,
            "signature": "nrefs:1|case:lc|eff:no|tok:13a|smooth:exp",
        }

    def about(self) -> dict:
        return {"pieces": self.vocabulary.pieces[4:], "merges": [list(pair) for pair in self.vocabulary.merges]}
