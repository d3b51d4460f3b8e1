"""Where a training's memory goes: what is kept from step to step, and what a batch keeps until the way back.
训练的内存用在哪里：一步一步始终保留的部分，以及一个批次要留到反向传播的部分。
"""

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig


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


def kept_numbers(c: ModelConfig) -> dict[str, int]:
    """Return how many numbers of four bytes are kept of a token, in a block and, as "end", behind the last one.

    This is what `activation_bytes` finds for a block of today's parts, but for tables that all blocks share.
    """
    d, n_kv_heads = c.d_head or c.d_model // c.n_heads, c.n_kv_heads or c.n_heads
    turned, projected = (c.n_heads + n_kv_heads) * d, (c.n_heads + 2 * n_kv_heads) * d
    return {
        "norms": 2 * (2 * c.d_model + 1),  # each: scaled input, output, and the root
        "attention": turned + projected + c.n_heads * d + c.n_heads,  # the last: a sum of exponentials for each head
        "feed_forward": 4 * c.d_ff,  # gate, up, the gate's silu, the product
        "end": 2 * c.d_model + 1 + c.n_tokens + 2,  # a norm, log-probabilities, the token's number in eight bytes
    }


def kept_bytes(c: ModelConfig, tokens: int) -> dict[str, int]:
    """Return the bytes of activations that so many tokens keep, all of them, and with checkpointing the most at once.

    Then each block's input waits, and beside these what is behind the last block, and after that one block at a time.
    """
    counts = kept_numbers(c)
    end, block = counts["end"], sum(counts.values()) - counts["end"]
    return {
        "activation_bytes": 4 * tokens * (c.n_layers * block + end),
        "checkpointed_bytes": 4 * tokens * (c.n_layers * c.d_model + max(block, end)),
    }
