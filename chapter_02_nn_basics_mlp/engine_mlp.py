"""The chapter's MLP on chapter 1's engine, dressed so that the training loop of mlp.py does not notice.
把本章的 MLP 搬到第 1 章的引擎上，并换上同样的接口，使 mlp.py 的训练循环察觉不到区别。

The loop asks a model for predictions and states, an optimizer for steps, a loss for its value and its gradients. What
answers is up to us: here NumPy arrays, and gradients by the engine.
"""

import numpy as np
import torch

from chapter_01_tensor_autograd import nn
from chapter_01_tensor_autograd.engine import Tensor, no_grad
from chapter_02_nn_basics_mlp.losses import mse
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}  # what chapter 1 has


class EngineMLP(nn.Sequential):
    """Linear, activation, ..., Linear with the weights that `model` has now; without its norms and dropout."""

    def __init__(self, model: MLP, activation: str):
        layers = []
        for linear in [*(layer.linear for layer in model.hidden), model.head]:
            d_out, d_in = linear.weight.shape
            copy = nn.Linear(d_in, d_out, np.random.default_rng(0), dtype=linear.weight.detach().numpy().dtype.type)
            copy.load_state_dict({"weight": linear.weight.detach().T, "bias": linear.bias.detach()})
            layers += [copy, ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])

    def __call__(self, x: torch.Tensor) -> Tensor:
        return self.forward(Tensor(x.numpy()))

    def train(self) -> None:
        """There is no other mode: nothing here behaves differently in training."""

    @no_grad()
    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self(x).data)


class EngineAdamW(nn.Adam):
    """Chapter 1's Adam with the handles of `torch.optim.AdamW`."""

    def __init__(self, model: EngineMLP, weight_decay: float):
        super().__init__(model.parameters(), lr=0.0, weight_decay=weight_decay)
        self.zero_grad = model.zero_grad
        self.param_groups = [{"lr": 0.0}]

    def step(self) -> None:
        self.lr = self.param_groups[0]["lr"]
        super().step()


def engine_run(config: MLPConfig, weight_decay: float) -> tuple[EngineMLP, EngineAdamW]:
    """Return a new network on the engine, in float64, and its optimizer."""
    model = EngineMLP(MLP(config).double(), config.activation)
    return model, EngineAdamW(model, weight_decay)


def torch_run(config: MLPConfig, weight_decay: float) -> tuple[MLP, torch.optim.Optimizer]:
    """Return the same in PyTorch: after the same `set_seed`, with the same weights."""
    model = MLP(config).double()
    return model, torch.optim.AdamW(model.parameters(), weight_decay=weight_decay, fused=True)


def engine_mse(prediction: Tensor, target: torch.Tensor) -> Tensor:
    """The chapter's own `mse`: made of -, ** and mean, it takes the engine's tensors as well."""
    return mse(prediction, Tensor(target.numpy()))


ENGINES = {"engine": (engine_run, engine_mse), "torch": (torch_run, mse)}  # what builds model and optimizer; the loss
