"""Fully sharded data parallelism: each process holds some rows of every matrix, and the rest only while it is needed.
全分片数据并行：每个进程只保存每个矩阵的若干行，其余部分用到时才临时取来。

With plain data parallelism every process holds all weights, gradients and moments. Here PyTorch's `fully_shard` gathers
a block's weights before the block runs, drops them after it, and hands each process the sum of the gradients of its own
rows. Only what belongs to no block, token table and last norm, stays whole from its first use to the way back. What an
optimizer does number by number it can do on rows alone: ours does, and knows nothing of the others.
"""

import io
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from chapter_10_llm_modern_components.model import LanguageModel
from utils.distributed import rank, world_size
from utils.errors import UserError

FORCE_SUM = "set_force_sum_reduction_for_comms"  # gloo, through which CPUs talk, cannot take means


def shard_(model: LanguageModel, device: torch.device) -> nn.ParameterList:
    """Leave each process its rows of the model's parameters, and return these, as parameters that share their memory.

    All processes hold the same model before. Gradients will be sums over the processes.

    Raises:
        UserError: this PyTorch is too old.
    """
    if not hasattr(FSDPModule, FORCE_SUM):
        raise UserError(f"--parallel fsdp needs a newer PyTorch than {torch.__version__}")
    mesh = init_device_mesh(device.type, (world_size(),))
    for part in (*model.blocks, model):  # a block's weights are gathered together; the last call takes what is left
        fully_shard(part, mesh=mesh)
        getattr(part, FORCE_SUM)(True)
        part.set_gradient_divide_factor(1.0)
    with torch.no_grad():
        return nn.ParameterList(parameter.to_local() for parameter in model.parameters())


@torch.no_grad()
def take_gradients_(rows: nn.ParameterList, model: nn.Module, max_norm: float) -> None:
    """Clip the gradients by the norm of all processes' together, and hand each of the rows its own.

    Raises:
        UserError: the norm is NaN or infinite.
    """
    try:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm, error_if_nonfinite=True)
    except RuntimeError as error:
        raise UserError("the norm of the gradients is no finite number: start again with a lower --lr") from error
    for own, parameter in zip(rows, model.parameters(), strict=True):
        own.grad = parameter.grad.to_local()


class EachProcess:
    """The parts of a training of which each process has its own, for `save_state` and `load_state`.

    Args:
        parts: what has a `state_dict`; "model" is what `shard_` returned, "ema" an average of it.
    """

    def __init__(self, parts: dict[str, Any]):
        self.parts = parts
        self.states: list[dict] = []

    def gather(self) -> None:
        """Bring the states of all processes to the first one, onto its CPU. All call this before that one saves."""
        content = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in self.parts.items()}, content)
        collected = [b""] * world_size() if rank() == 0 else None
        dist.gather_object(content.getvalue(), collected)
        self.states = [torch.load(io.BytesIO(x), map_location="cpu", weights_only=True) for x in collected or ()]

    def join(self, model: LanguageModel, averaged: bool) -> LanguageModel:
        """Return, in the first process, the whole model, or its average: each matrix's rows, process after process."""
        rows = [state["ema"]["model"] if averaged else state["model"] for state in self.states]
        whole = LanguageModel(model.config)
        with torch.no_grad():
            for i, parameter in enumerate(whole.parameters()):
                parameter.copy_(torch.cat([own[str(i)] for own in rows]))
        return whole.to(self.parts["model"][0].device).eval()

    def state_dict(self) -> dict:
        return dict(enumerate(self.states))

    def load_state_dict(self, saved: dict) -> None:
        """Take over this process's own.

        Raises:
            UserError: there were more processes, or fewer.
        """
        if len(saved) != world_size():
            raise UserError(f"this is a run of {len(saved)} processes: continue it with as many")
        for name, part in self.parts.items():
            part.load_state_dict(saved[rank()][name])
