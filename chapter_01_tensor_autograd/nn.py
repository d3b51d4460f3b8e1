"""What training a network on the engine takes: layers, and two optimizers.
在自制引擎上训练网络所需的一切：网络层，以及两个优化器。
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from chapter_01_tensor_autograd.engine import Tensor, no_grad
from utils.errors import UserError


class Module:
    """A function with parameters: its own tensors, and those of the modules in its attributes and lists."""

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for name, value in vars(self).items():
            for i, item in enumerate(value) if isinstance(value, list) else [("", value)]:
                path = f"{prefix}{name}" if i == "" else f"{prefix}{name}.{i}"
                if isinstance(item, Module):
                    yield from item.named_parameters(path + ".")
                elif isinstance(item, Tensor) and item.requires_grad:
                    yield path, item

    def parameters(self) -> list[Tensor]:
        return list(dict.fromkeys(parameter for _, parameter in self.named_parameters()))  # each once, shared or not

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Copy arrays, or anything that NumPy can read, into the parameters.

        Raises:
            ValueError: names or shapes differ from this module's.
        """
        own = dict(self.named_parameters())
        if own.keys() != state.keys():
            raise ValueError(f"expected the parameters {', '.join(own)}, found {', '.join(state)}")
        with no_grad():
            for name, parameter in own.items():
                if parameter.shape != tuple(state[name].shape):
                    raise ValueError(f"{name} has shape {parameter.shape}, found {tuple(state[name].shape)}")
                parameter[...] = np.asarray(state[name])

    @no_grad()
    def round_to_half(self) -> None:
        """Round the parameters to what 16 bits can hold. Evaluate after this: these are the weights that ship.

        Raises:
            UserError: a weight is NaN, or beyond 65,504: the training has diverged. Nothing has been rounded then.
        """
        with np.errstate(over="ignore"):
            halves = [parameter.data.astype(np.float16) for parameter in self.parameters()]
        if not all(np.isfinite(half).all() for half in halves):
            raise UserError("the weights became NaN or too large: train again with a lower --lr")
        for parameter, half in zip(self.parameters(), halves, strict=True):
            parameter[...] = half

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)


class Linear(Module):
    """x (..., d_in) -> x W + b (..., d_out). Note that W is (d_in, d_out), the transpose of PyTorch's.

    W starts normal with variance 2 / d_in, which keeps the scale of ReLU networks (He et al. 2015); b starts at zero.
    """

    def __init__(self, d_in: int, d_out: int, rng: np.random.Generator, dtype: type = np.float32):
        weight = rng.standard_normal((d_in, d_out)) * math.sqrt(2 / d_in)
        self.weight = Tensor(weight.astype(dtype), requires_grad=True)
        self.bias = Tensor(np.zeros(d_out, dtype), requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias  # (..., d_out)


class ReLU(Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


class Tanh(Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()


class Sequential(Module):
    """Apply the layers in turn."""

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def load_buffers(buffers: Sequence[np.ndarray], saved: Sequence[object]) -> None:
    """Copy an optimizer's saved arrays into its own, one for each parameter.

    Raises:
        ValueError: their number or shapes differ.
    """
    shapes, found = [b.shape for b in buffers], [np.shape(b) for b in saved]
    if shapes != found:
        raise ValueError(f"the optimizer's state is for parameters of shapes {found}, expected {shapes}")
    for buffer, values in zip(buffers, saved, strict=True):
        buffer[...] = np.asarray(values)


class SGD:
    """Gradient descent with momentum: v <- momentum v + g, then p <- p - lr v (Polyak 1964, as PyTorch writes it).

    A parameter without a gradient stays as it is.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float, momentum: float = 0.9):
        self.parameters, self.lr, self.momentum = list(parameters), lr, momentum
        self.velocity = [np.zeros_like(p.data) for p in self.parameters]

    @no_grad()
    def step(self) -> None:
        for p, v in zip(self.parameters, self.velocity, strict=True):
            if (g := p.grad) is None:
                continue
            v *= self.momentum
            v += g.data
            p -= v * self.lr

    def state_dict(self) -> dict:
        return {"velocity": self.velocity}

    def load_state_dict(self, state: dict) -> None:
        load_buffers(self.velocity, state["velocity"])


class Adam:
    """Steps of size lr, scaled by running moments of the gradient (Kingma and Ba 2015, algorithm 1).

    `weight_decay` shrinks the parameters directly, apart from the moments (AdamW: Loshchilov and Hutter 2019). A
    parameter without a gradient stays as it is, and its steps are not counted.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        self.parameters, self.lr, self.betas, self.eps = list(parameters), lr, betas, eps
        self.weight_decay = weight_decay
        self.steps = [0] * len(self.parameters)
        self.first = [np.zeros_like(p.data) for p in self.parameters]
        self.second = [np.zeros_like(p.data) for p in self.parameters]

    @no_grad()
    def step(self) -> None:
        beta1, beta2 = self.betas
        for i, (p, m, v) in enumerate(zip(self.parameters, self.first, self.second, strict=True)):
            if p.grad is None:
                continue
            g = p.grad.data
            self.steps[i] += 1
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * g * g
            m_scale, v_scale = 1 - beta1 ** self.steps[i], 1 - beta2 ** self.steps[i]  # m and v start at 0: too small
            p *= 1 - self.lr * self.weight_decay
            p -= (self.lr / m_scale) * m / (np.sqrt(v / v_scale) + self.eps)

    def state_dict(self) -> dict:
        return {"steps": self.steps, "first": self.first, "second": self.second}

    def load_state_dict(self, state: dict) -> None:
        self.steps = list(state["steps"])
        load_buffers(self.first, state["first"])
        load_buffers(self.second, state["second"])
