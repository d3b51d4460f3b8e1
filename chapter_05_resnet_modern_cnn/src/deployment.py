"""A trained network as a program that runs without this book's code: what goes in, what is folded, how it is written.
把训练好的网络变成不依赖本书代码的程序：输入是什么，哪些层被合并，如何写成文件。
"""

import io
import json
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from chapter_05_resnet_modern_cnn.src.dataset import to_input
from utils.file_io_util import atomic_write


class Deployable(nn.Module):
    """Pictures (B, 3, H, W), uint8 -> probabilities (B, n_classes), float32: preparation, network and softmax."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        images = images.to(torch.uint8)  # converts nothing: for it, recent exporters let a program refuse other types
        x = to_input(images).to(self.network.fc.weight.dtype)  # (B, 3, H, W)
        return self.network(x).softmax(dim=1, dtype=torch.float32)


@torch.no_grad()
def fold_norms(model: nn.Module) -> fx.GraphModule:
    """Return a copy for inference, in which each norm that follows a convolution has become part of it.

    In eval mode a norm is gamma (y - mean) / sqrt(var + eps) + beta. After y = w * x + b that is a convolution again,
    of weight s w and bias s (b - mean) + beta, where s = gamma / sqrt(var + eps), a number for each channel.
    """
    traced = fx.symbolic_trace(deepcopy(model).eval())
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        norm = modules.get(node.target)
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.args[0]
        conv = modules.get(before.target)
        if not isinstance(conv, nn.Conv2d) or len(before.users) > 1:  # it follows a sum, as in v2, or is not alone
            continue
        s = norm.weight / (norm.running_var + norm.eps).sqrt()  # (C,)
        b = 0 if conv.bias is None else conv.bias
        conv.weight.mul_(s.view(-1, 1, 1, 1))  # (C, C_in, k, k)
        conv.bias = nn.Parameter(s * (b - norm.running_mean) + norm.bias)  # (C,)
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def write_program(
    model: Deployable, path: Path, shape: tuple[int, int, int], classes: list[str], batch: int | None = None
) -> None:
    """Write `model` as a program for `batch` pictures of this shape (C, H, W), or, with None, for any number of them.

    "about.json" inside the file says what goes in and comes out. The program runs on the kind of device it is made on.
    """
    example = torch.zeros(batch or 2, *shape, dtype=torch.uint8, device=next(model.parameters()).device)
    free = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(model, (example,), dynamic_shapes=free, strict=False)
    about = {
        "input": {"type": "uint8", "shape": [batch or "B", *shape], "colours": "red, green, blue"},
        "output": "probabilities of the classes",
        "classes": classes,
        "precision": str(model.network.fc.weight.dtype).removeprefix("torch."),
        "device": example.device.type,
    }
    # Into memory first: on a full disk PyTorch's own writing ends the process, where Python's raises an error.
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"about.json": json.dumps(about, ensure_ascii=False)})
    with atomic_write(path) as temporary:
        temporary.write_bytes(file.getbuffer())
