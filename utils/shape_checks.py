"""Shapes that must agree: broadcasting would turn a mistake into a wrong number without a word.
必须一致的形状：否则广播机制会悄悄算出错误的结果。

PyTorch's tensors and NumPy's arrays are both taken.
"""

from typing import Any


def check_same_shape(prediction: Any, target: Any) -> None:
    """Refuse predictions (N, 1) for targets (N,): their difference has N x N numbers.

    Raises:
        ValueError: the shapes differ.
    """
    if tuple(prediction.shape) != tuple(target.shape):
        raise ValueError(f"predictions {tuple(prediction.shape)} and targets {tuple(target.shape)} differ in shape")


def check_labels(logits: Any, labels: Any, n_classes: int | None = None, ignore_index: int | None = None) -> None:
    """Refuse labels that do not name one class for each row of `logits` (..., C): (N, 1), (1,), one-hot, out of range.

    Args:
        n_classes: by default C.
        ignore_index: a label outside the range that stands for no class.

    Raises:
        ValueError: the shapes do not fit, or a label is no whole number from 0 to `n_classes` - 1.
    """
    if tuple(labels.shape) != tuple(logits.shape[:-1]):
        wanted = f"labels {tuple(logits.shape[:-1])}, not {tuple(labels.shape)}"
        raise ValueError(f"logits {tuple(logits.shape)} need {wanted}")
    if "int" not in str(labels.dtype):
        raise ValueError(f"labels are whole numbers, not {labels.dtype}")
    known = labels if ignore_index is None else labels[labels != ignore_index]
    n_classes = logits.shape[-1] if n_classes is None else n_classes
    if len(known.reshape(-1)) and not (0 <= int(known.min()) and int(known.max()) < n_classes):
        raise ValueError(f"labels from {int(known.min())} to {int(known.max())} for {n_classes} classes")
