"""The average of a model's weights along its training: exponential (EMA) or equal (SWA).
训练过程中模型权重的平均：指数滑动平均（EMA）或等权平均（SWA）。

Late in training the weights circle around a minimum; their average lies nearer to it than any one of them.
"""

import copy
from collections.abc import Iterable

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

    def keep(self, count: int) -> float:
        """Return how much of the average so far, over `count` models, the next update keeps; nothing at first."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """average <- keep average + (1 - keep) model. Call it after the optimizer's step."""
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        averaged = [(ours, new) for ours, new in pairs if new.is_floating_point()]
        ours, new = map(list, zip(*averaged, strict=True))
        torch._foreach_lerp_(ours, new, 1 - self.keep(self.count))  # on a GPU one kernel for all tensors
        for old, latest in pairs:
            if not latest.is_floating_point():
                old.copy_(latest)
        self.count += 1

    def copy_to(self, model: nn.Module) -> None:
        """Give `model` the averaged weights and buffers."""
        model.load_state_dict(self.model.state_dict())

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
        self.decay, self.warmup = decay, warmup

    def keep(self, count: int) -> float:
        if self.warmup:
            return min(self.decay, count / (count + 9))
        return self.decay if count else 0.0


class SWA(Average):
    """Equal average of all the models seen, say one an epoch at a constant rate (Izmailov et al. 2018).

    Recompute BatchNorm's statistics afterwards: the models lie too far apart for an average of them.
    """

    def keep(self, count: int) -> float:
        return count / (count + 1)


@torch.no_grad()
def recompute_batch_norm(model: nn.Module, batches: Iterable[Tensor | tuple[Tensor, ...]]) -> None:
    """Set BatchNorm's running statistics to their mean over `batches`, whose first tensors are the inputs.

    Only the norms go into training mode: dropout stays off, as it will be when the statistics are used.
    """
    norms = [module for module in model.modules() if getattr(module, "running_mean", None) is not None]
    momenta, modes = [norm.momentum for norm in norms], {module: module.training for module in model.modules()}
    model.eval()
    for norm in norms:
        norm.train()
    seen = 0
    for batch in batches:
        x = batch if isinstance(batch, Tensor) else batch[0]
        seen += len(x)
        for norm in norms:
            norm.momentum = len(x) / seen  # 1 for the first batch, which thus replaces what was there
        model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, mode in modes.items():
        module.training = mode


def _tensors(model: nn.Module) -> list[Tensor]:
    """Return what the model saves; tied weights once."""
    saved = model.state_dict(keep_vars=True).values()
    return list({id(tensor): tensor for tensor in saved}.values())
