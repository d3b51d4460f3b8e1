"""A table of what a network's layers put out, hold and cost.
一张表，列出网络各层的输出形状、参数量和计算量。
"""

from dataclasses import dataclass, field
from math import prod

import torch
from torch import nn

from utils.evaluating import evaluating
from utils.tables import aligned

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass
class Row:
    name: str
    layer: str
    output: str  # the shape
    parameters: int
    macs: int  # multiply-accumulates


@dataclass
class Summary:
    """One row per call of a layer; printing it shows the table. The totals are over the rows."""

    rows: list[Row] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    def __str__(self) -> str:
        lines = [("name", "layer", "output", "parameters", "MACs")]
        lines += [(r.name, r.layer, r.output, f"{r.parameters:,}", f"{r.macs:,}") for r in self.rows]
        lines.append(("total", "", "", f"{self.parameters:,}", f"{self.macs:,}"))
        text = aligned(lines, "<<<>>")
        rule = "-" * len(text[0])
        return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])


@torch.no_grad()
def model_summary(model: nn.Module, *inputs: object) -> Summary:
    """Run `model(*inputs)` once, in eval mode, and tell what happened in each layer.

    A layer is a module without children or with parameters of its own. One that is called twice costs twice, but holds
    its parameters once, as do tied weights; the total is that of `model.parameters()`. MACs are those of linear,
    convolution and recurrent layers, products with the padding's zeros included; whatever else the network computes
    counts as 0. The model is left as it was, even if it fails.
    """
    summary, seen = Summary(), set()
    names = {module: name or "(model)" for name, module in model.named_modules()}

    def add(module: nn.Module, output: str, macs: int) -> None:
        new = {id(p): p.numel() for p in module.parameters(recurse=False) if id(p) not in seen}
        seen.update(new)
        summary.rows.append(Row(names[module], type(module).__name__, output, sum(new.values()), macs))

    def hook(module: nn.Module, args: tuple, output: object) -> None:
        while isinstance(output, (tuple, list)):  # the main output of a recurrent layer comes first
            output = output[0]
        if isinstance(output, torch.Tensor):
            add(module, str(tuple(output.shape)), _macs(module, args, output))
        else:
            add(module, type(output).__name__, 0)

    layers = [m for m in names if not any(m.children()) or any(True for _ in m.parameters(recurse=False))]
    hooks = [module.register_forward_hook(hook) for module in layers]
    try:
        with evaluating(model):
            model(*inputs)
    finally:
        for handle in hooks:
            handle.remove()
    for module in layers:
        if any(id(p) not in seen for p in module.parameters(recurse=False)):
            add(module, "not called", 0)
    return summary


def _macs(module: nn.Module, args: tuple, output: torch.Tensor) -> int:
    if isinstance(module, CONVOLUTIONS):
        return output.numel() * prod(module.weight.shape[1:])  # weight (C_out, C_in / groups, *kernel)
    if isinstance(module, TRANSPOSED):
        return args[0].numel() * prod(module.weight.shape[1:])  # weight (C_in, C_out / groups, *kernel)
    if isinstance(module, RECURRENT):
        return prod(output.shape[:-1]) * sum(p.numel() for p in module.parameters() if p.dim() == 2)
    weight = getattr(module, "weight", None)
    if weight is not None and weight.shape == (output.shape[-1], args[0].shape[-1]) and args[0].is_floating_point():
        return prod(output.shape[:-1]) * weight.numel()  # PyTorch's linear layer, or one built from scratch
    return 0
