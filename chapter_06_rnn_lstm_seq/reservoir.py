"""An echo state network: a recurrent net whose recurrent weights stay random, and whose readout is one linear solve.
回声状态网络：循环权重保持随机不变，只用一次线性求解得到读出层。

    python -m pytest tests/chapter_06/test_reservoir.py      # it forgets, solves its ridge, foretells a sine: 5 s

The reservoir h' = (1 - leak) h + leak tanh(W_in u + W h + b) turns the past of a signal u into many different echoes of
it; what is to be foretold is a weighted sum of these (Jaeger 2001). With W's spectral radius near 1 echoes last long.
储备池把信号的过去变成许多不同的“回声”，要预测的量就是它们的加权和；谱半径接近 1 时回声持续得久。
"""

import torch
from torch import Tensor


class EchoStateNetwork:
    """Random weights in float64, drawn from `generator`; `fit` finds the readout.

    Args:
        n_inputs: numbers in u_t, which are also what is foretold when it runs freely.
        size: neurons of the reservoir, H.
        spectral_radius: the largest absolute eigenvalue of W.
        leak: share of the new state in each step, from 0 (frozen) to 1 (no leaky integration).
        input_scaling: W_in is uniform within this of 0.
        bias_scaling: b is uniform within this of 0.
        density: share of W's entries that are not 0.
        ridge: weight of the readout's squared norm beside the squared errors summed over all steps.

    Raises:
        ValueError: the reservoir is so sparse that nothing echoes in it: its spectral radius is 0.
    """

    def __init__(
        self,
        n_inputs: int,
        size: int,
        generator: torch.Generator,
        spectral_radius: float = 0.9,
        leak: float = 1.0,
        input_scaling: float = 1.0,
        bias_scaling: float = 0.2,
        density: float = 0.1,
        ridge: float = 1e-6,
    ):
        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1

        self.spectral_radius, self.leak, self.input_scaling, self.ridge = spectral_radius, leak, input_scaling, ridge
        self.w_in = input_scaling * uniform(size, n_inputs)
        self.b = bias_scaling * uniform(size)
        w = uniform(size, size)
        w[torch.rand(size, size, generator=generator, dtype=torch.float64) >= density] = 0
        radius = torch.linalg.eigvals(w).abs().max()
        if radius < 1e-9:
            raise ValueError(f"a reservoir of {size} neurons and density {density} has no loops: nothing echoes in it")
        self.w = w * (spectral_radius / radius)
        self.readout: Tensor | None = None  # (H + n_inputs + 1, n_outputs)

    def step(self, u: Tensor, h: Tensor) -> Tensor:
        """u (n_inputs,), h (H,) -> h' (H,)."""
        return (1 - self.leak) * h + self.leak * torch.tanh(self.w_in @ u + self.w @ h + self.b)

    def run(self, u: Tensor, h: Tensor | None = None) -> Tensor:
        """Return the states after every step: u (T, n_inputs) -> (T, H), from h or 0 on."""
        h, states = self.w.new_zeros(len(self.w)) if h is None else h, []
        for u_t in u.double():
            h = self.step(u_t, h)
            states.append(h)
        return torch.stack(states)

    def fit(self, u: Tensor, targets: Tensor, washout: int) -> Tensor:
        """Solve for the readout by ridge regression, and return the state after the last step.

        u (T, n_inputs), targets (T, n_outputs). The first `washout` steps, where the state still depends on its start
        at 0, are left out. (X^T X + ridge I) R = X^T Y is solved by a Cholesky factorisation; the bias counts as any
        other feature.
        """
        states = self.run(u)
        x, y = self.features(states, u.double())[washout:], targets.double()[washout:]  # (T', F), (T', n_outputs)
        gram = x.T @ x + self.ridge * torch.eye(x.shape[1], dtype=x.dtype)  # (F, F)
        self.readout = torch.cholesky_solve(x.T @ y, torch.linalg.cholesky(gram))  # (F, n_outputs)
        return states[-1]

    def features(self, h: Tensor, u: Tensor) -> Tensor:
        """Return what the readout sees: the states, the inputs and a 1, (..., H + n_inputs + 1)."""
        return torch.cat([h, u, torch.ones_like(u[..., :1])], dim=-1)

    def predict(self, h: Tensor, u: Tensor) -> Tensor:
        """States h (..., H) and the inputs u (..., n_inputs) that led to them -> (..., n_outputs)."""
        return self.features(h, u) @ self.readout

    def generate(self, h: Tensor, u: Tensor, n_steps: int) -> Tensor:
        """Run freely: each prediction is the next input. h (H,), u (n_inputs,) -> (n_steps, n_inputs)."""
        values, u = [], u.double()
        for _ in range(n_steps):
            u = self.predict(h, u)
            values.append(u)
            h = self.step(u, h)
        return torch.stack(values)
