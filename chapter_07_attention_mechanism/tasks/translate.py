"""Translation: sentences in, sentences out, measured in BLEU.
翻译任务：输入句子，输出句子，用 BLEU 衡量。
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from chapter_07_attention_mechanism.baselines import learn_dictionary, translate_by_words
from chapter_07_attention_mechanism.bleu import corpus_bleu
from chapter_07_attention_mechanism.dataset.batching import LengthBuckets, pad, pad_targets
from chapter_07_attention_mechanism.dataset.multi30k import multi30k
from chapter_07_attention_mechanism.dataset.toy_pairs import toy_pairs
from chapter_07_attention_mechanism.decoder import DecoderConfig
from chapter_07_attention_mechanism.decoding import beam_search
from chapter_07_attention_mechanism.seq2seq import Seq2Seq
from chapter_07_attention_mechanism.tasks.shared import attention_entropy
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS_ID, PAD_ID, UNK, Vocabulary, join
from utils.evaluating import evaluating

Pairs = list[tuple[str, str]]
LONGEST = 100  # pieces of a translation at most
BEAM = 5
SIGNATURE = "nrefs:1|case:lc|eff:no|tok:13a|smooth:exp"  # how sacreBLEU names this way of scoring
BUCKETS = [range(0, 9), range(9, 12), range(12, 15), range(15, 19), range(19, 1000)]  # words of a source sentence
WORDS = re.compile("[\u4e00-\u9fff]|[^\\s\u4e00-\u9fff]+")  # a Chinese character, or what stands between spaces


def load_pairs(dataset: str, root: Path, languages: tuple[str, str] = ("de", "en")) -> tuple[Pairs, Pairs, Pairs]:
    """Return pairs to train on, to validate on and to test on; none of the first is among the others."""
    if dataset == "toy":
        parts = [toy_pairs(count, seed, languages) for seed, count in enumerate((2000, 50, 100))]
        seen = set(parts[0])
        parts[1:] = [[pair for pair in part if pair not in seen] for part in parts[1:]]
    else:
        offline = "--dataset toy needs no download"
        parts = [multi30k(root, split, languages, offline) for split in ("train", "val", "test_2016_flickr")]
    return tuple([(a.strip(), b.strip()) for a, b in part] for part in parts)


@torch.no_grad()
def translate(
    model: Seq2Seq, vocabulary: Vocabulary, sentences: list[str], device: torch.device, beam: int = BEAM
) -> list[str]:
    """Return translations of sentences, which are put into lower case first; unknown words are copied."""
    pieces = [vocabulary.split(text.lower()) for text in sentences]
    sources = [vocabulary.encode(part) for part in pieces]
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
                written = vocabulary.decode(answer)
                if UNK in written and model.config.attention != "none":
                    written = copy_unknown(written, pieces[k], look_up(model, sources[k], answer))
                found[k] = join(written)
    return found


def look_up(model: Seq2Seq, source: list[int], answer: list[int]) -> Tensor:
    """Return the weights (T + 1, S) with which an answer of T tokens, and its end, are written."""
    with torch.no_grad(), evaluating(model):
        batch, lengths = (t.to(model.bias.device) for t in pad([source]))
        return model.weights_while_writing(model.encode(batch, lengths), answer).cpu()


def copy_unknown(answer: list[str], source: list[str], weights: Tensor) -> list[str]:
    """Replace what is unknown in an answer by the piece of the source that attention lay on (Luong et al. 2015b)."""
    places = weights.argmax(dim=-1).tolist()
    return [source[place] if piece == UNK else piece for piece, place in zip(answer, places, strict=False)]


def bleu(answers: list[str], pairs: Pairs, lowercase: bool = True) -> float:
    """Return BLEU of translations, the pairs' second sentences being the references."""
    return corpus_bleu(answers, [[reference] for _, reference in pairs], lowercase).score


def bleu_by_length(answers: list[str], pairs: Pairs) -> list[dict]:
    """Return BLEU, and how many sentences it is over, for each of BUCKETS that holds any."""
    lengths, rows = [len(WORDS.findall(source)) for source, _ in pairs], []
    for bucket in BUCKETS:
        chosen = [i for i, length in enumerate(lengths) if length in bucket]
        if chosen:
            longest = max(lengths[i] for i in chosen)
            score = bleu([answers[i] for i in chosen], [pairs[i] for i in chosen])
            rows.append({"words_from": bucket.start, "words_to": longest, "count": len(chosen), "bleu": score})
    return rows


class Translate:
    """The task; see `tasks`."""

    def __init__(
        self, dataset: str, root: Path, vocabulary: str, pieces: int, config: dict, tokens: int, device: torch.device
    ):
        """`vocabulary`: "subwords", of which there are about `pieces`, or "words"; `tokens`: of a batch, at most."""
        self.device, self.split = device, "toy" if dataset == "toy" else "test_2016_flickr"
        train, self.validation, self.test = (
            [(source.lower(), target.lower()) for source, target in part] for part in load_pairs(dataset, root)
        )
        self.dictionary = learn_dictionary(train)
        texts = [text for pair in train for text in pair]
        words = vocabulary == "words"
        self.vocabulary = Vocabulary.of_words(texts) if words else Vocabulary.of_subwords(texts, pieces)
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

    def answers(self, model: Seq2Seq, pairs: Pairs, beam: int) -> list[str]:
        return translate(model, self.vocabulary, [source for source, _ in pairs], self.device, beam)

    @torch.no_grad()
    def attention_entropy(self, model: Seq2Seq, pairs: Pairs) -> float:
        """Return the mean entropy (nats) of the weights while the references are written."""
        sources, targets = (
            [self.vocabulary.encode(self.vocabulary.split(pair[side])) for pair in pairs] for side in (0, 1)
        )
        source, lengths = (t.to(self.device) for t in pad(sources))
        target = pad_targets(targets).to(self.device)
        with evaluating(model):
            weights = model.decode(target[:, :-1], *model.encode(source, lengths))[2]
        return attention_entropy(weights, target[:, 1:] != PAD_ID)

    def validate(self, model: Seq2Seq) -> dict[str, float]:
        row = {"validation_bleu": bleu(self.answers(model, self.validation[:300], beam=1), self.validation[:300])}
        if self.config.attention != "none":
            row["attention_entropy"] = self.attention_entropy(model, self.validation[:100])
        return row

    def evaluate(self, model: Seq2Seq) -> dict:
        answers = self.answers(model, self.test, BEAM)
        return {
            "bleu": bleu(answers, self.test),
            "bleu_greedy": bleu(self.answers(model, self.test, beam=1), self.test),
            "split": self.split,
            "test_count": len(self.test),
            "beam": BEAM,
            "signature": SIGNATURE,
            "by_length": bleu_by_length(answers, self.test),
        }

    def baselines(self) -> dict[str, float]:
        """Return BLEU of the German sentence as it stands, and of a dictionary that replaces word by word."""
        sources = [source for source, _ in self.test]
        words = [translate_by_words(text, self.dictionary) for text in sources]
        return {"bleu_copied": bleu(sources, self.test), "bleu_dictionary": bleu(words, self.test)}

    def about(self) -> dict:
        return self.vocabulary.plain()
