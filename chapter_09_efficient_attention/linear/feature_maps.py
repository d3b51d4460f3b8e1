"""Feature maps: vectors whose dot products are positive weights, or softmax's own weights on average.
特征映射：把内积变成正的权重，或在平均意义下恰好等于 softmax 的权重。

    elu       x + 1 above 0, e^x below: positive weights of a new kind    Katharopoulos et al. 2020, equation 7
    taylor    1 + q . k + (q . k)^2 / 2: the first terms of e^(q . k)     Arora et al. 2024 (Based)
    random    e^(q . k) on average                                        Choromanski et al. 2021 (Performer)
"""

import math

import torch
from torch import Tensor, nn

from chapter_09_efficient_attention.linear.chunks import in_full_precision


@in_full_precision
def elu_features(x: Tensor) -> Tensor:
    """x (..., d) -> (..., d): x + 1 above 0, e^x below, which is elu(x) + 1.

    As a sum with 1 nothing would be left of an e^x below 6e-8, and of a query with d such features a quotient 0 / 0.
    """
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())  # the exponential of a large number would be inf


def taylor_features(x: Tensor) -> Tensor:
    """x (..., d) -> (..., 1 + d + d^2): 1, the numbers, and the products of any two divided by sqrt(2)."""
    products = (x[..., :, None] * x[..., None, :]).flatten(-2) / math.sqrt(2)  # (..., d, d) -> (..., d^2)
    return torch.cat([torch.ones_like(x[..., :1]), x, products], dim=-1)


@in_full_precision
def random_features(x: Tensor, directions: Tensor) -> Tensor:
    """Return e^(w . x - |x|^2 / 2) / sqrt(m) for each of m directions w: x (..., d), (m, d) -> (..., m), all above 0.

    For standard normal w the mean of e^(w . (q + k)) is e^(|q + k|^2 / 2), so phi(q) . phi(k) is e^(q . k) on average
    (Choromanski et al. 2021, lemma 1). Its error falls as 1 / sqrt(m).
    """
    exponents = x @ directions.T - x.square().sum(dim=-1, keepdim=True) / 2  # (..., d) @ (d, m) -> (..., m)
    return exponents.exp() / math.sqrt(len(directions))


def random_directions(m: int, d: int, orthogonal: bool = True, generator: torch.Generator | None = None) -> Tensor:
    """Return m standard normal directions, (m, d); if `orthogonal`, at right angles within each d of them.

    Each by itself stays normal, so nothing becomes biased, but they spread more evenly and the error is smaller
    (Choromanski et al. 2021, section 2). A factorisation chooses its own signs; with those of R's diagonal Q points
    everywhere alike (Mezzadri 2007), without them the estimate would be biased.
    """
    normal = torch.randn(m, d, generator=generator)
    if not orthogonal:
        return normal
    n_squares = -(-m // d)
    q, r = torch.linalg.qr(torch.randn(n_squares, d, d, generator=generator))  # (n, d, d) each
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # (n, d, d) * (n, 1, d)
    axes = q.mT.flatten(0, 1)[:m]  # (m, d): the columns
    return axes * normal.norm(dim=1, keepdim=True)


class RandomFeatures(nn.Module):
    """`random_features` along directions that are drawn once and kept with the weights."""

    def __init__(self, d: int, n_features: int):
        super().__init__()
        self.register_buffer("directions", random_directions(n_features, d))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d) -> (..., m)."""
        return random_features(x, self.directions)
