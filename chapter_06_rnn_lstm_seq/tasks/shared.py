"""What several tasks need: drawing batches so that a run can be resumed, and a config made of the flags that fit.
多个任务共用的部分：可续训的批次抽取，以及从命令行参数生成配置。
"""

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor


class Shuffled:
    """Yields `batch_size` of the indices at a time, each pass in a new order; what is left over is left out."""

    def __init__(self, indices: Tensor, batch_size: int):
        self.indices, self.batch_size = indices, min(batch_size, len(indices))
        self.left = indices[:0]

    def next(self) -> Tensor:
        if len(self.left) < self.batch_size:
            self.left = self.indices[torch.randperm(len(self.indices))]
        batch, self.left = self.left[: self.batch_size], self.left[self.batch_size :]
        return batch

    def state_dict(self) -> dict[str, Tensor]:
        return {"left": self.left.clone()}  # a slice would drag the whole order along

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        self.left = saved["left"]


def configure(config: type, options: dict[str, Any], **fixed: Any) -> Any:
    """Return the dataclass `config` made of those options that are fields of it, and of what is fixed."""
    names = {field.name for field in fields(config)}
    return config(**{name: value for name, value in options.items() if name in names} | fixed)


def accuracy_and_loss(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return which share of logits (N, C) points at its label (N,), and the mean cross-entropy (nats)."""
    right = (logits.argmax(dim=1) == labels).float().mean().item()
    return right, torch.nn.functional.cross_entropy(logits, labels).item()
