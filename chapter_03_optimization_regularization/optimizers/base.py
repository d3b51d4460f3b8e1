"""What all optimizers share: parameter groups, state for each parameter, saving and loading.
所有优化器的共同部分：参数组、每个参数的状态、保存与恢复。
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


class Optimizer:
    """Calls `update` for every parameter that has a gradient.

    Args:
        params: the parameters, or groups of them with settings of their own: {"params": [...], "lr": 0.1}.
        settings: what holds for groups that do not say otherwise. A schedule may change them between steps, in
            `param_groups`. All have `lr` and `maximize`: climb, instead of going down.

    Raises:
        ValueError: what `add_param_group` refuses, or no parameters at all.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[dict], **settings: object):
        self.defaults = settings
        self.param_groups: list[dict] = []
        self.state: dict[Tensor, dict] = {}
        self._buffers: dict[tuple, Tensor] = {}  # scratch memory
        self._scratch: dict[tuple[Tensor, str], Tensor] = {}  # and each parameter's view of it
        groups = list(params)
        if not groups:
            raise ValueError("there are no parameters to optimize")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, group: dict) -> None:
        """Optimize these parameters too, for instance a layer that has been thawed.

        Raises:
            ValueError: a setting is unknown or out of range, or a parameter is there already, or can have no gradient.
        """
        group = group | {"params": list(group["params"])}
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            raise ValueError(f"{type(self).__name__} has no setting {', '.join(sorted(unknown))}")
        group = self.defaults | group
        check_settings(group)
        if len({*group["params"], *self.state}) < len(group["params"]) + len(self.state):
            raise ValueError("a parameter is in two groups, or twice in one")
        if not all(p.is_leaf for p in group["params"]):
            raise ValueError("a parameter is computed from others: gradients are kept at the leaves of the graph alone")
        self.param_groups.append(group)
        self.state |= {p: {} for p in group["params"]}

    def update(self, p: Tensor, g: Tensor, state: dict, group: dict) -> None:
        """Change the parameter `p` in place, given its gradient `g`, which stays as it is."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    g = torch.neg(p.grad, out=self.scratch(p, "ascent")) if group["maximize"] else p.grad
                    self.update(p, g, self.state[p], group)

    def zero_grad(self) -> None:
        for p in self.state:
            p.grad = None

    def scratch(self, p: Tensor, use: str) -> Tensor:
        """Return memory of the shape and layout of `p` to compute in. What it holds is lost with the next call.

        Parameters of one size share it: what has just been used is still in the cache of the core that used it. Were it
        shared by all sizes, the borders between two threads' parts would move, and the parts from core to core.
        """
        if (p, use) not in self._scratch:  # each parameter's view is kept: to make one takes as long as a small step
            extent = 1 + sum((size - 1) * stride for size, stride in zip(p.shape, p.stride(), strict=True))
            key = extent, p.dtype, p.device, use
            if key not in self._buffers:
                self._buffers[key] = p.new_empty(extent)
            self._scratch[p, use] = self._buffers[key].as_strided(p.shape, p.stride())
        return self._scratch[p, use]

    def with_l2(self, p: Tensor, g: Tensor, group: dict) -> Tensor:
        """Return g + weight_decay * p, the gradient of the loss plus weight_decay / 2 |p|^2."""
        if group["weight_decay"] == 0:
            return g
        return torch.add(g, p, alpha=group["weight_decay"], out=self.scratch(p, "l2"))

    def denominator(self, p: Tensor, square: Tensor, eps: float) -> Tensor:
        """Return sqrt(square) + eps in scratch memory; `square` belongs to the parameter `p`."""
        return torch.sqrt(square, out=self.scratch(p, "root")).add_(eps)

    def state_dict(self) -> dict:
        """Return the groups' settings and all states, the parameters replaced by their numbers."""
        number = {p: i for i, p in enumerate(self.state)}
        groups = [group | {"params": [number[p] for p in group["params"]]} for group in self.param_groups]
        return {"groups": groups, "state": {number[p]: state for p, state in self.state.items()}}

    def load_state_dict(self, saved: dict) -> None:
        """Take over what `state_dict` returned, onto the devices where the parameters are.

        Raises:
            ValueError: it comes from another kind of optimizer, or from other groups or shapes.
        """
        mine = self.state_dict()["groups"]
        if [group["params"] for group in saved["groups"]] != [group["params"] for group in mine]:
            raise ValueError("the saved state has other parameter groups")
        if [group.keys() for group in saved["groups"]] != [group.keys() for group in mine]:
            raise ValueError("the saved state is another optimizer's")
        state = {}
        for i, p in enumerate(self.state):
            values = saved["state"][i]
            tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
            if any(value.shape != p.shape for value in tensors.values()):
                raise ValueError("the saved state is for parameters of other shapes")
            state[p] = values | {name: value.to(p.device, copy=True) for name, value in tensors.items()}
        for group, settings in zip(self.param_groups, saved["groups"], strict=True):
            group.update(settings | {"params": group["params"]})
        self.state = state


def check_settings(group: dict) -> None:
    """Refuse settings with which no step makes sense.

    Raises:
        ValueError: a rate or a decay is negative or infinite, a share of the past lies outside [0, 1], a beta at 1.
    """
    for name in ("lr", "weight_decay", "eps", "lr_decay", "momentum_decay"):
        if not 0 <= group.get(name, 0) < math.inf:
            raise ValueError(f"{name} is a finite number of at least 0, not {group[name]}")
    for name in ("momentum", "dampening", "alpha", "rho"):
        if not 0 <= group.get(name, 0) <= 1:
            raise ValueError(f"{name} lies from 0 to 1, not at {group[name]}")
    if not all(0 <= beta < 1 for beta in group.get("betas", ())):  # at 1 the bias correction divides by 0
        raise ValueError(f"betas are at least 0 and below 1, not {group['betas']}")


def buffer(state: dict, name: str, p: Tensor) -> Tensor:
    """Return state[name]: zeros of the shape and layout of `p` at first, afterwards what the last step left there."""
    if name not in state:
        state[name] = torch.zeros_like(p)
    return state[name]


def next_step(state: dict) -> int:
    """Count this parameter's steps in its state, and return the number of the new one, from 1."""
    state["step"] = state.get("step", 0) + 1
    return state["step"]
