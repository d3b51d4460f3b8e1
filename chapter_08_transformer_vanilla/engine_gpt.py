"""The same Transformer on our own tensor engine of chapter 1: NumPy, and no PyTorch.
同一个 Transformer，跑在第 1 章自制的张量引擎上：只用 NumPy，不用 PyTorch。

Where scalar_gpt.py loops over positions, heads and rows, one operation here takes them all. The weights have the names
and shapes of the decoder-only `Transformer` in transformer.py, so that either can take over the other's.
"""

import math

import numpy as np

from chapter_01_tensor_autograd.engine import Tensor, no_grad, ops
from chapter_01_tensor_autograd.nn import Adam
from chapter_08_transformer_vanilla.names import END, padded


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """x (..., D) -> (..., D): mean 0 and variance 1 along the last axis, then a scale and a shift (Ba et al. 2016)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)  # (..., 1)
    return centred / (variance + eps).sqrt() * weight + bias


class EngineGPT:
    """A decoder-only Transformer with norms before its branches, learned positions, and tied embeddings."""

    def __init__(self, weights: dict[str, np.ndarray], n_heads: int):
        """`weights` are copied; their precision is the precision of the computation."""
        self.weights = {name: Tensor(np.array(array), requires_grad=True) for name, array in weights.items()}
        self.n_heads = n_heads
        self.optimizer = Adam(self.weights.values(), lr=0.0)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].mT + self.weights[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        return layer_norm(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def attention(self, name: str, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D): no position sees a later one."""
        n, n_positions, width = x.shape
        size = width // self.n_heads
        qkv = x @ self.weights[f"{name}.in_proj_weight"].mT + self.weights[f"{name}.in_proj_bias"]  # (B, T, 3D)
        q, k, v = qkv.reshape(n, n_positions, 3, self.n_heads, size).permute(2, 0, 3, 1, 4)  # (B, H, T, D/H) each
        later = np.triu(np.full((n_positions, n_positions), -math.inf, x.dtype), 1)
        weights = (q @ k.mT / math.sqrt(size) + later).softmax()  # (B, H, T, T)
        heads = (weights @ v).permute(0, 2, 1, 3).reshape(n, n_positions, width)  # (B, H, T, D/H) -> (B, T, D)
        return self.linear(f"{name}.out_proj", heads)

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        return self.linear(f"{name}.linear2", self.linear(f"{name}.linear1", x).relu())

    def forward(self, tokens: np.ndarray) -> Tensor:
        """tokens (B, T) -> logits (B, T, V) of what follows each of them."""
        embedding, positions = self.weights["embedding.weight"], self.weights["positions.weight"]
        x = ops.embedding(embedding, tokens) * math.sqrt(embedding.shape[1]) + positions[: tokens.shape[1]]  # (B, T, D)
        i = 0
        while (layer := f"decoder.layers.{i}") + ".norm1.weight" in self.weights:
            x = x + self.attention(f"{layer}.self_attention", self.norm(f"{layer}.norm1", x))
            x = x + self.feed_forward(f"{layer}.feed_forward", self.norm(f"{layer}.norm3", x))
            i += 1
        return self.norm("decoder.norm", x) @ embedding.mT  # (B, T, V)

    def loss(self, batch: list[list[int]]) -> Tensor:
        """Return the mean of -log p(next token), in nats, over all tokens of the sequences."""
        inputs, targets = padded(batch)
        real = targets >= 0  # (B, T)
        return ops.cross_entropy(self.forward(inputs)[real], targets[real])  # (N, V), (N,)

    def step(self, batch: list[list[int]], lr: float) -> float:
        """Forward, loss, backward, step; return the loss."""
        loss = self.loss(batch)
        loss.backward()
        self.optimizer.lr = lr
        self.optimizer.step()
        for p in self.weights.values():
            p.grad = None
        return loss.item()

    @no_grad()
    def write(self, rng: np.random.Generator, temperature: float) -> list[int]:
        """Return a new sequence: each token drawn from softmax(logits / temperature), up to END or the longest."""
        tokens = [END]
        while len(tokens) <= len(self.weights["positions.weight"]):
            logits = self.forward(np.array([tokens]))[0, -1]  # (V,)
            p = (logits / temperature).softmax().data
            tokens.append(int(rng.choice(len(p), p=p)))
            if tokens[-1] == END:
                break
        return tokens
