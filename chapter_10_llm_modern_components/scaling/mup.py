"""Maximal update parametrisation: initial scales and rates with which one learning rate fits every width.
最大更新参数化（µP）：合适的初始尺度与学习率倍数，使同一个学习率适用于任何宽度。

With m = width / base width, both at the base width as in the ordinary model (Yang et al. 2022, table 8):

    tensor                              initial std     rate, AdamW     rate, Muon
    token and place tables, head        1               1               1 (AdamW)
    matrices inside the blocks          1 / sqrt(m)     1 / m           1 / sqrt(m), as matched to AdamW's size
    gains and biases                    1               1               1 (AdamW)
    gain of the last norm               its 1 -> 1 / m  1 / m           1 / m (AdamW)

The last row divides the logits by m: the head reads what that norm writes. Heads keep their width, there are more.
"""

import torch
from torch import Tensor, nn

from chapter_03_optimization_regularization.optimizers import OPTIMIZERS, Muon, Optimizer
from chapter_10_llm_modern_components.model import LanguageModel


def kind(name: str, parameter: nn.Parameter) -> str:
    """Return how a parameter of our model grows with the width: "table", "hidden", "vector" or "last_norm"."""
    if name.startswith("norm."):
        return "last_norm"
    if name.startswith(("embedding.", "positions.", "head.")):
        return "table"
    return "hidden" if parameter.ndim == 2 else "vector"


@torch.no_grad()
def initialize_mup_(model: LanguageModel, base_width: int) -> None:
    """Rescale the ordinary start of a model by the table's second column."""
    m = model.config.d_model / base_width
    for name, parameter in model.named_parameters():
        parameter.mul_({"hidden": m**-0.5, "last_norm": 1 / m}.get(kind(name, parameter), 1.0))


def mup_factors(model: LanguageModel, base_width: int, optimizer: str = "adamw") -> dict[str, float]:
    """Return by what the learning rate of each parameter is multiplied, by name.

    Under Adam every number of a matrix moves by the rate, and the moves of a row add up along its inputs: m times as
    many add up to m times as much. A step of Muon is orthogonal and its effect does not depend on the width; but
    `match_rms` makes it sqrt(max(rows, columns)) times as large, and only that is taken back.
    """
    m = model.config.d_model / base_width
    factors = {"hidden": m**-0.5 if optimizer == "muon" else 1 / m, "last_norm": 1 / m}
    return {name: factors.get(kind(name, p), 1.0) for name, p in model.named_parameters()}


def mup_groups(model: LanguageModel, lr: float, base_width: int, optimizer: str = "adamw") -> list[dict]:
    """Return parameter groups, one for each factor, with their learning rates."""
    factors, parameters = mup_factors(model, base_width, optimizer), dict(model.named_parameters())
    return [
        {"params": [parameters[name] for name in factors if factors[name] == factor], "lr": lr * factor}
        for factor in sorted(set(factors.values()))
    ]


def mup_optimizers(model: LanguageModel, name: str, lr: float, base_width: int) -> list[Optimizer]:
    """Return "adamw", or for "muon" two optimizers, with each parameter's rate as the width asks for, and no decay."""
    groups = mup_groups(model, lr, base_width, name)
    if name == "adamw":
        return [OPTIMIZERS["adamw"](groups, lr=lr, weight_decay=0.0)]
    hidden = {p for parameter_name, p in model.named_parameters() if kind(parameter_name, p) == "hidden"}
    inner = [group | {"params": [p for p in group["params"] if p in hidden]} for group in groups]
    outer = [group | {"params": [p for p in group["params"] if p not in hidden]} for group in groups]
    muon = Muon([group for group in inner if group["params"]], lr=lr, weight_decay=0.0, match_rms=True)
    return [muon, OPTIMIZERS["adamw"]([g for g in outer if g["params"]], lr=lr, weight_decay=0.0)]


@torch.no_grad()
def activations(model: LanguageModel, ids: Tensor) -> list[Tensor]:
    """Return what each block adds to a batch of tokens (B, T, D), and last the logits (B, T, V).

    How much these change in a step is how one checks a parametrisation: it should not depend on the width.
    """
    added: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, args, out: added.append(out - args[0])) for block in model.blocks]
    logits = model(ids)
    for hook in hooks:
        hook.remove()
    return [*added, logits]
