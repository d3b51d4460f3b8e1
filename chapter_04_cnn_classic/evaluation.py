"""Reading a classifier's answers: which classes it confuses, how often it is right, class by class.
读懂分类器的回答：它混淆了哪些类，每一类各有多少是对的。
"""

import torch
from torch import Tensor

from utils.shape_checks import check_labels, check_same_shape


def confusion_matrix(predicted: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Return counts (K, K): entry (i, j) says how many things of class i were taken for class j.

    Args:
        predicted, labels: classes (N,), int64, from 0 to K - 1.

    Raises:
        ValueError: the two differ in shape, or hold something else than classes.
    """
    check_same_shape(predicted, labels)
    for classes in (predicted, labels):
        check_labels(classes[..., None], classes, n_classes)
    pairs = (labels * n_classes + predicted).flatten()  # (N,): each pair of classes is one number
    return torch.bincount(pairs, minlength=n_classes**2).view(n_classes, n_classes)  # (K, K)


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Return how often the label (N,) is among the `k` largest of its row of scores (N, K).

    Raises ValueError for labels of another shape, such as (N, 1), (1,) or one-hot, or out of range.
    """
    check_labels(scores, labels)
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices  # (N, k)
    return (best == labels[:, None]).any(dim=1).double().mean().item()


def per_class(matrix: Tensor) -> dict[str, Tensor]:
    """Return figures (K,), float64, for each class of a confusion matrix (K, K).

    recall: of the things of this class, the share that was found; also called the accuracy on this class.
    precision: of the answers that named this class, the share that was right.
    f1: their harmonic mean. accuracy: of all things, the share for which "this class or not" was decided rightly; with
    ten equal classes a network that never names the class has 90 %, so it says little.
    A share of nothing counts as 0.
    """
    matrix = matrix.double()
    right, things, answers = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)  # (K,)
    total = matrix.sum()
    return {
        "recall": _share(right, things),
        "precision": _share(right, answers),
        "f1": _share(2 * right, things + answers),
        "accuracy": _share(total - things - answers + 2 * right, total.expand_as(right)),
    }


def most_confused(matrix: Tensor, count: int) -> list[tuple[int, int, int]]:
    """Return the `count` largest mistakes, as (true class, answer, how many), the largest first."""
    mistakes = matrix - matrix.diagonal().diag()
    order = mistakes.flatten().argsort(descending=True, stable=True)[:count].tolist()
    pairs = [(place // len(matrix), place % len(matrix)) for place in order]
    return [(i, j, int(mistakes[i, j])) for i, j in pairs if mistakes[i, j] > 0]


def mistakes_within(matrix: Tensor, groups: Tensor) -> float:
    """Return the share of all mistakes that stay within a group of classes; `groups` (K,) numbers each class's group.

    Given a matrix of ones, the share is that of mistakes that fall evenly. Raises ValueError for groups not (K,).
    """
    check_same_shape(groups, matrix[0])
    mistakes = (matrix - matrix.diagonal().diag()).double()
    same = groups[:, None] == groups  # (K, K)
    return _share(mistakes[same].sum(), mistakes.sum()).item()


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return part / whole.clamp(min=1)  # counts: where the whole is 0, so is the part
