"""Captions: pictures of figures in, sentences out; and whether attention lies on the figure that is being named.
图像描述：输入图形图片，输出句子；并检查说到某个图形时注意力是否落在它上面。
"""

import torch
from torch import Tensor

from chapter_07_attention_mechanism.baselines import nearest_sentences
from chapter_07_attention_mechanism.captioner import CELLS, Captioner
from chapter_07_attention_mechanism.dataset.batching import pad_targets
from chapter_07_attention_mechanism.dataset.scenes import COLOURS, RELATIONS, SHAPES, Scene, cells_of, draw_scenes
from chapter_07_attention_mechanism.decoder import DecoderConfig
from chapter_07_attention_mechanism.decoding import greedy
from chapter_07_attention_mechanism.tasks.shared import attention_entropy
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS_ID, Vocabulary
from utils.evaluating import evaluating

LONGEST = 20  # words of a sentence at most


def caption_vocabulary() -> Vocabulary:
    """Every word of the sentences."""
    return Vocabulary(sorted({"a", "and", *COLOURS, *SHAPES, *(word for link in RELATIONS for word in link.split())}))


class Caption:
    """The task; see `tasks`."""

    def __init__(self, config: dict, batch_size: int, device: torch.device, test_count: int = 2000):
        self.vocabulary = caption_vocabulary()
        self.config = DecoderConfig(len(self.vocabulary), **config)
        self.batch_size, self.device = batch_size, device
        generator = torch.Generator().manual_seed(1)
        self.validation = draw_scenes(200, generator)
        self.seen, self.unseen = (draw_scenes(test_count, generator, unseen) for unseen in (False, True))

    def build(self) -> Captioner:
        return Captioner(self.config)

    def targets(self, scenes: list[Scene]) -> Tensor:
        """Return the sentences, (B, T) from BOS to EOS."""
        return pad_targets([self.vocabulary.encode(scene.sentence.split()) for scene in scenes]).to(self.device)

    def batch(self) -> tuple[tuple, Tensor]:
        images, scenes = draw_scenes(self.batch_size, torch.default_generator)
        target = self.targets(scenes)
        return (images.to(self.device), target[:, :-1]), target[:, 1:]

    @torch.no_grad()
    def answers(self, model: Captioner, images: Tensor) -> list[str]:
        """Return what the model says about pictures (B, 3, 64, 64)."""
        found = []
        with evaluating(model):
            for part in images.to(self.device).split(500):
                start = torch.full((len(part),), BOS_ID, device=self.device)
                found += greedy(model.step, model.encode(part), start, EOS_ID, LONGEST)
        return [" ".join(self.vocabulary.decode(ids)) for ids in found]

    def exact_match(self, model: Captioner, data: tuple[Tensor, list[Scene]]) -> float:
        images, scenes = data
        answers = self.answers(model, images)
        return sum(answer == scene.sentence for answer, scene in zip(answers, scenes, strict=True)) / len(scenes)

    @torch.no_grad()
    def weights(self, model: Captioner, data: tuple[Tensor, list[Scene]]) -> tuple[Tensor, Tensor]:
        """Return where the model looks while it says the right sentences, (B, T, 64), and which places are words."""
        images, scenes = data
        target = self.targets(scenes)
        with evaluating(model):
            weights = model.decode(target[:, :-1], *model.encode(images.to(self.device)))[2]
        return weights, target[:, 1:] > EOS_ID

    def pointing_accuracy(self, model: Captioner, data: tuple[Tensor, list[Scene]]) -> float:
        """Return the share of the words for a colour or a figure during which most attention is on what they name."""
        images, scenes = (part[:500] for part in data)
        weights, _ = self.weights(model, (images, scenes))
        right = []
        for scene, looked_at in zip(scenes, weights.argmax(dim=-1).tolist(), strict=True):
            names = [t for t, word in enumerate(scene.sentence.split()) if word in COLOURS or word in SHAPES]
            for i, t in enumerate(names):
                right.append(looked_at[t] in cells_of(scene.figures[i // 2], CELLS))
        return sum(right) / len(right)

    def validate(self, model: Captioner) -> dict[str, float]:
        return {
            "validation_exact_match": self.exact_match(model, self.validation),
            "attention_entropy": attention_entropy(*self.weights(model, self.validation)),
        }

    def evaluate(self, model: Captioner) -> dict[str, float | int]:
        return {
            "exact_match": self.exact_match(model, self.unseen),
            "exact_match_seen": self.exact_match(model, self.seen),
            "split": "test: a combination of figure, colour and relation that is never trained on",
            "test_count": len(self.unseen[1]),
            "pointing_accuracy": self.pointing_accuracy(model, self.unseen),
        }

    def baselines(self) -> dict[str, float]:
        """Return how often the sentence of the most similar of many training pictures is right."""
        known, scenes = draw_scenes(len(self.seen[1]), torch.Generator().manual_seed(2))
        sentences = [scene.sentence for scene in scenes]
        found = {}
        for name, (images, wanted) in (("exact_match", self.unseen), ("exact_match_seen", self.seen)):
            answers = nearest_sentences(images, known, sentences)
            right = sum(answer == scene.sentence for answer, scene in zip(answers, wanted, strict=True))
            found[f"{name}_baseline"] = right / len(wanted)
        return found

    def about(self) -> dict:
        return self.vocabulary.plain()
