"""Where a training's memory goes: what is kept from step to step, and what a batch keeps until the way back.
训练的内存用在哪里：步与步之间一直保留的部分，以及一个批次保留到反向传播的部分。
"""

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from chapter_10_llm_modern_components.model import LanguageModel


def state_bytes(model: LanguageModel) -> dict[str, int]:
    """Return the bytes of weights, gradients and the two running means of AdamW: four numbers for each parameter."""
    weights = sum(p.nbytes for p in model.parameters())
    return {"weight_bytes": weights, "gradient_bytes": weights, "moment_bytes": 2 * weights}


def activation_bytes(model: LanguageModel, batch_size: int, length: int) -> int:
    """Return the bytes that autograd keeps of a batch's forward pass and loss; weights are not among them.

    Counted by hooks on all that is saved, a memory that several operations keep only once.
    """
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors themselves: a memory that were freed could be handed out again

    def note(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            kept[address] = tensor
        return tensor

    ids = torch.zeros(batch_size, length, dtype=torch.long, device=model.head.weight.device)
    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del loss
    return total
