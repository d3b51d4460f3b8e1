"""The average of a model's weights along its training: exponential (EMA) or equal (SWA).
训练过程中模型权重的平均：指数滑动平均（EMA）或等权平均（SWA）。

Late in training the weights circle around a minimum; their average lies nearer to it than any one of them.
"""

import copy

import torch
from torch import Tensor, nn


class Average:
    """Holds the average in `model`, a copy in eval mode that can be used at any time.

    Parameters are averaged, and so are floating-point buffers (BatchNorm's running statistics: those of the averaged
    weights are closer to this than to the latest). Integers are copied. What `state_dict` leaves out, such as
    masks, counts as constant.
    """

    def __init__(self, model: nn.Module):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.count = 0

    def decay_at(self, count: int) -> float:
        """Return how much of the average so far, over `count` models, the next update keeps; nothing at first."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """average <- decay average + (1 - decay) model. Call it after the optimizer's step."""
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        averaged = [(ours, new) for ours, new in pairs if new.is_floating_point()]
        ours, new = map(list, zip(*averaged, strict=True))
        torch._foreach_lerp_(ours, new, 1 - self.decay_at(self.count))  # on a GPU one kernel for all tensors
        for old, latest in pairs:
            if not latest.is_floating_point():
                old.copy_(latest)
        self.count += 1

    def state_dict(self) -> dict:
        return {"count": self.count, "model": self.model.state_dict()}

    def load_state_dict(self, saved: dict) -> None:
        self.count = saved["count"]
        self.model.load_state_dict(saved["model"])


class EMA(Average):
    """Exponential moving average: a model of k updates ago weighs (1 - decay) decay^k.

    With `warmup` the decay begins at 0 and grows as t / (t + 9): an early average looks back over about the last tenth
    of the steps, so the random start is soon forgotten. Without it, the first model keeps its weight of decay^t.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, warmup: bool = True):
        super().__init__(model)
        if not 0 <= decay < 1:
            raise ValueError(f"decay is at least 0 and below 1, not {decay}")
        self.decay, self.warmup = decay, warmup

    def decay_at(self, count: int) -> float:
        if self.warmup:
            return min(self.decay, count / (count + 9))
        return self.decay if count else 0.0


class SWA(Average):
    """Equal average of all the models seen, say one an epoch at a constant rate (Izmailov et al. 2018).

    Recompute BatchNorm's statistics afterwards (utils/batch_norm.py): the models lie too far apart for an average.
    """

    def decay_at(self, count: int) -> float:
        return count / (count + 1)


def _tensors(model: nn.Module) -> list[Tensor]:
    """Return what the model saves; tied weights once."""
    saved = model.state_dict(keep_vars=True).values()
    return list({id(tensor): tensor for tensor in saved}.values())
