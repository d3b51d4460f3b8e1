"""Pictures: a Vision Transformer learns CIFAR-10 through the pipeline of the convolutional networks.
图像分类：视觉 Transformer 用卷积网络的那套数据流程学习 CIFAR-10。
"""

from pathlib import Path

import torch
from torch import Tensor

from chapter_03_optimization_regularization.regularization.augmentation import cutout, random_flip, random_shift
from chapter_03_optimization_regularization.training import probabilities, score
from chapter_04_cnn_classic.dataset import MEAN_GREY, SIDE, load, to_input
from chapter_08_transformer_vanilla.vit import VisionTransformer, ViTConfig
from utils.checkpoint import probe_input

SHIFT, HIDDEN = 4, 8  # pixels that a picture moves at most, and side of the square that is hidden
N_DRAWN = 2000  # shapes to train on, where CIFAR-10 is not wanted
OFFLINE = "--dataset toy needs no download"


class ImageClassification:
    """The task; see `tasks`."""

    def __init__(self, dataset: str, root: Path, split: str, config: dict, batch_size: int, device: torch.device):
        """`split`: "validation" holds out the last 5,000 training pictures to measure on, "test" trains on them too."""
        sets = load({"full": "cifar10", "toy": "shapes"}[dataset], split, root, N_DRAWN, OFFLINE)
        (images, labels), (measured, truth), self.classes = sets
        self.images, self.labels = images.to(device), labels.to(device)  # (N, 3, 32, 32), uint8, and (N,)
        self.measured, self.truth = measured.to(device), truth.to(device)
        self.split, self.batch_size = split, batch_size
        self.config = ViTConfig(n_classes=len(self.classes), image_size=SIDE, **config)
        self.name = "vit" if self.config.tokenizer == "conv" else f"vit_{self.config.tokenizer}"

    def build(self) -> VisionTransformer:
        return VisionTransformer(self.config)

    def batch(self) -> tuple[tuple[Tensor], Tensor]:
        """Return pictures (B, 3, 32, 32), half of them mirrored, all moved, a square of each hidden; labels (B,)."""
        chosen = torch.randint(len(self.labels), (self.batch_size,)).to(self.labels.device)
        images = random_shift(random_flip(self.images[chosen]), SHIFT, padding="reflect")
        return (to_input(cutout(images, HIDDEN, fill=MEAN_GREY)),), self.labels[chosen]

    def n_epochs(self, steps: int) -> float:
        """Return how often each picture comes in so many steps."""
        return steps * self.batch_size / len(self.labels)

    def validate(self, model: VisionTransformer) -> dict[str, float]:
        """Return the accuracy on the validation pictures; test pictures are looked at in the end alone."""
        return {"validation_accuracy": self.measure(model)[0]} if self.split == "validation" else {}

    def evaluate(self, model: VisionTransformer) -> dict:
        accuracy, loss = self.measure(model)
        return {
            f"{self.split}_accuracy": accuracy,
            f"{self.split}_loss": loss,
            f"{self.split}_count": len(self.truth),
            "split": self.split,
        }

    def measure(self, model: VisionTransformer) -> tuple[float, float]:
        """Return the accuracy and the cross-entropy (nats)."""
        return score(probabilities(model, self.measured, to_input=to_input), self.truth)

    def baselines(self) -> dict[str, float]:
        """Return the share of the most frequent class."""
        return {"majority_accuracy": (torch.bincount(self.truth).max() / len(self.truth)).item()}

    @torch.no_grad()
    def about(self, model: VisionTransformer) -> dict:
        """Return what inference needs, and the logits by which a loaded model can be known again."""
        probe = model(probe_input(1, 3, SIDE, SIDE).to(self.images.device))[0].tolist()
        return {"classes": self.classes, "probe": probe}
