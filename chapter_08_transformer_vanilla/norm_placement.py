"""What the norm's placement does before anything has been learned: gradients through the layers, and the first step.
归一化放在哪里，训练之前就有什么影响：梯度怎样穿过各层，第一步更新有多大。
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chapter_03_optimization_regularization.optimizers import Adam
from chapter_08_transformer_vanilla.transformer import Transformer, TransformerConfig
from utils.spread import mean_and_std

N_TOKENS, BATCH, LENGTH = 200, 8, 16  # of the made-up sequences: random tokens, and random labels


def random_model(norm: str, n_layers: int, d_model: int, seed: int) -> tuple[Transformer, Tensor, Tensor]:
    """Return an encoder with a head as it is initialised, tokens (B, T) and labels (B, T)."""
    torch.manual_seed(seed)
    config = TransformerConfig(N_TOKENS, d_model, 4, 4 * d_model, n_layers, 0, dropout=0.0, norm=norm)
    tokens, labels = torch.randint(N_TOKENS, (2, BATCH, LENGTH))
    return Transformer(config), tokens, labels


def mean_loss(model: nn.Module, tokens: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(tokens).flatten(0, 1), labels.flatten())  # (B T, V), (B T,)


def cut_branches_(model: Transformer) -> None:
    """Let no gradient through attention and feed-forward: the straight path along the stream is left."""
    for layer in model.encoder.layers:
        layer.self_attention.register_forward_hook(lambda module, inputs, output: (output[0].detach(), output[1]))
        layer.feed_forward.register_forward_hook(lambda module, inputs, output: output.detach())


def stream_gradients(
    norm: str, n_layers: int, d_model: int = 64, seed: int = 0, through_branches: bool = True
) -> list[float]:
    """Return the norm of the loss's gradient by what enters each layer, and last by what leaves the last one."""
    model, tokens, labels = random_model(norm, n_layers, d_model, seed)
    if not through_branches:
        cut_branches_(model)
    x = model.embed(tokens).detach().requires_grad_()  # (B, T, D)
    stream = [x]
    for layer in model.encoder.layers:
        stream.append(layer(stream[-1])[0])
    logits = model.head(model.encoder.norm(stream[-1]))  # (B, T, V)
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    return [gradient.norm().item() for gradient in torch.autograd.grad(loss, stream)]


def first_step_change(norm: str, n_layers: int, lr: float = 1e-3, d_model: int = 64, seed: int = 0) -> float:
    """Return by how much one step of Adam changes what the encoder says: its norm, relative to what it said before."""
    model, tokens, labels = random_model(norm, n_layers, d_model, seed)
    with torch.no_grad():
        before = model.encode(tokens)[0]  # (B, T, D)
    mean_loss(model, tokens, labels).backward()
    Adam(model.encoder.parameters(), lr).step()
    with torch.no_grad():
        return ((model.encode(tokens)[0] - before).norm() / before.norm()).item()


def measure_norms(n_layers: int, n_seeds: int, rate: float) -> tuple[dict, dict, dict]:
    """Return gradients along the stream, changes by depth (means over seeds), and what to report.

    Changes are those of a step of `rate`, and, in the report alone, of a hundredth of it.
    """
    depths = [2**k for k in range((n_layers - 1).bit_length() + 1)]  # up to the first power of two from n_layers on
    gradients, changes, final = {}, {}, {"layers": n_layers, "seeds": n_seeds, "rate": rate}
    for norm in ("pre", "post"):
        changes[norm] = {}
        for name, branches in ((norm, True), (f"{norm}_straight", False)):
            rows = [stream_gradients(norm, n_layers, 64, s, branches) for s in range(n_seeds)]
            gradients[name] = torch.tensor(rows).mean(dim=0).tolist()
            final |= mean_and_std(f"{name}_gradient_ratio", [row[0] / row[-1] for row in rows])
            final[f"{name}_gradients"] = gradients[name]
        for depth in depths:
            for name, step in (("change", rate), ("small_change", rate / 100)):
                found = [first_step_change(norm, depth, step, seed=seed) for seed in range(n_seeds)]
                final |= mean_and_std(f"{norm}_{name}_{depth}", found)
            changes[norm][depth] = final[f"{norm}_change_{depth}"]
    return gradients, changes, final
