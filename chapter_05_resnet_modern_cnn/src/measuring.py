"""How a network is measured: at which size pictures are shown to it, on which of them, by how many views.
如何评测网络：图片以多大尺寸呈现，用哪些图片，看几个视角。
"""

from functools import partial

import torch
from torch import Tensor, nn

from chapter_03_optimization_regularization.training import probabilities, score
from chapter_05_resnet_modern_cnn.src.dataset import resize, to_input


def measure(
    model: nn.Module, data: tuple[Tensor, Tensor], watched: tuple[Tensor, Tensor] | None, side: int, amp: str
) -> dict[str, float]:
    """Return accuracy and loss on a quarter of the training pictures as they are, and accuracy on `watched` ones."""
    prepare = partial(test_input, side=side)
    images, labels = (t[a_quarter(len(t)).to(t.device)] for t in data)
    names = "train_accuracy", "train_loss_clean"
    row = dict(zip(names, score(probabilities(model, images, amp, to_input=prepare), labels), strict=True))
    if watched:
        row["validation_accuracy"] = score(probabilities(model, watched[0], amp, to_input=prepare), watched[1])[0]
    return row


def a_quarter(count: int) -> Tensor:
    """Return which pictures to look at: always the same, and at random, as labels may come in turns."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[: max(1, count // 4)]


def final_accuracies(
    model: nn.Module, train_set: tuple[Tensor, Tensor], test_set: tuple[Tensor, Tensor], side: int, split: str
) -> dict[str, float | str]:
    """Return what is reported of a trained network: by one view, and by the mean over it and its mirror image."""
    prepare, name = partial(test_input, side=side), "validation" if split == "validation" else "test"
    p, flipped = (probabilities(model, test_set[0], views=views, to_input=prepare) for views in (1, 2))
    accuracy, loss = score(p, test_set[1])
    train_accuracy, clean_loss = score(probabilities(model, train_set[0], to_input=prepare), train_set[1])
    return {
        f"{name}_accuracy": accuracy,
        f"{name}_accuracy_flip": score(flipped, test_set[1])[0],
        f"{name}_loss": loss,
        f"{name}_count": len(test_set[1]),
        "split": split,
        "train_loss_clean": clean_loss,
        "train_accuracy": train_accuracy,
        "train_count": len(train_set[1]),
    }


def test_side(images: Tensor, enlarge: float) -> int:
    """Return the pixels a side at which pictures (N, 3, H, W) are shown in tests.

    In training a piece of a picture fills the whole side, and what is on it looks larger. Tests follow (Touvron et al.
    2019): with pieces of a quarter of the picture at least, by 4/3 on average.
    """
    return max(1, round(enlarge * images.shape[-1]))


def test_input(images: Tensor, side: int) -> Tensor:
    """Turn pictures (B, 3, H, W), uint8, into the inputs of a test, (B, 3, side, side)."""
    return to_input(resize(images, side))
