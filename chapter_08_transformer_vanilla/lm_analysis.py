"""What happens inside a language model: heads that copy, what they are worth, and what each layer would already say.
语言模型的内部：会照抄的头、它们有多大用处，以及每一层之后已经能说出什么。
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from chapter_08_transformer_vanilla.transformer import Transformer


def repeated_texts(count: int, half: int, n_tokens: int, generator: torch.Generator) -> Tensor:
    """Return (count, 2 half): random tokens, and the same again. Of the second half all can be known, by copying."""
    return torch.randint(n_tokens, (count, half), generator=generator).repeat(1, 2)


def copying_weights(weights: Tensor) -> Tensor:
    """Return (H,): the mean weight that each head gives, in the second half of repeated texts, to what is to be copied.

    That is the token behind the earlier one of the same kind: from position t that at t - n + 1, where half a text is n
    tokens (Olsson et al. 2022). `weights` are (B, H, 2n, 2n).
    """
    half = weights.shape[-1] // 2
    return weights[:, :, half:, 1:].diagonal(dim1=-2, dim2=-1).mean(dim=(0, 2))  # (B, H, n) -> (H,)


@torch.no_grad()
def token_losses(model: Transformer, tokens: Tensor) -> Tensor:
    """Return (B, T - 1): the loss (nats) on each token of texts (B, T) but the first."""
    logits = model(tokens)[:, :-1].transpose(1, 2)  # (B, T - 1, V) -> (B, V, T - 1)
    return F.cross_entropy(logits, tokens[:, 1:], reduction="none")


@contextmanager
@torch.no_grad()
def without_head(model: Transformer, layer: int, head: int) -> Iterator[None]:
    """Let one head of a decoder's self-attention add nothing."""
    attention = model.decoder.layers[layer].self_attention
    columns = attention.out_proj.weight.unflatten(1, (attention.n_heads, -1))[:, head]  # (D, D) -> (D, D/H), a view
    kept = columns.clone()
    try:
        columns.zero_()
        yield
    finally:
        columns.copy_(kept)


@torch.no_grad()
def survey_copying(model: Transformer, texts: Tensor) -> dict:
    """Look for heads that copy in repeated texts (B, 2n).

    `losses` (2n - 1,) are nats at each position but the first, `weights` (L, H) `copying_weights`, `uniform` those of
    a head that looks everywhere alike; `costs` (L, H): by how much the second half's loss rises without each head.
    """
    half = texts.shape[1] // 2
    losses = token_losses(model, texts).mean(dim=0)  # (2n - 1,)
    weights = torch.stack([copying_weights(layer) for layer in model.attention_maps(texts)["decoder"]])  # (L, H)
    costs = torch.empty_like(weights)
    for layer, head in torch.cartesian_prod(*map(torch.arange, weights.shape)).tolist():
        with without_head(model, layer, head):
            costs[layer, head] = (token_losses(model, texts).mean(dim=0) - losses)[half:].mean()
    uniform = (1 / torch.arange(half + 1, 2 * half + 1)).mean().item()
    return {"losses": losses.cpu(), "weights": weights.cpu(), "uniform": uniform, "costs": costs.cpu()}


def report_copying(found: dict) -> dict:
    """Return what to report of `survey_copying`: losses of both halves, the heads that copy most, cost most, and all.

    The second half's loss begins with its second token: that the first one comes again cannot be known.
    """
    half = (len(found["losses"]) + 1) // 2
    report = {"half": half, "loss_first": found["losses"][: half - 1].mean().item()}
    report |= {"loss_second": found["losses"][half:].mean().item(), "uniform": found["uniform"]}
    for name in ("weights", "costs"):
        index = int(found[name].argmax())
        layer, head = divmod(index, found[name].shape[1])
        report |= {f"largest_{name}": found[name].max().item(), f"largest_{name}_head": f"{layer + 1}.{head + 1}"}
        report[name] = found[name].tolist()
    return report


@torch.no_grad()
def logit_lens(model: Transformer, tokens: Tensor) -> Tensor:
    """Return (L + 1, T, V): the log-probabilities that the head would give after the embedding and after each layer.

    tokens (T,). The last row is what the model says (nostalgebraist 2020).
    """
    x = model.embed(tokens[None])  # (1, T, D)
    stream = [x]
    for layer in model.decoder.layers:
        x = layer(x)[0]
        stream.append(x)
    hidden = model.decoder.norm(torch.cat(stream))  # (L + 1, T, D)
    return model.head(hidden).log_softmax(dim=-1)
