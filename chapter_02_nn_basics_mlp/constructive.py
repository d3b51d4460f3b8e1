"""Universal approximation by construction: networks whose weights are written down instead of learned.
用构造证明万能逼近：权重是直接写出来的，而不是学出来的。

One wide layer draws any polygon, and polygons come as close to a continuous function as you like. Many narrow layers
fold the line over and over, and make exponentially many pieces out of few weights.
"""

import copy
from collections.abc import Callable

import torch

from chapter_02_nn_basics_mlp.activations import LeakyReLU, ReLU
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig


@torch.no_grad()
def interpolate(f: Callable[[torch.Tensor], torch.Tensor], knots: torch.Tensor) -> MLP:
    """Return the network that equals `f` at n ascending knots (n,) and is straight in between; n - 1 hidden ReLU units.

    Unit i switches on at knot t_i and from there adds the change of slope that the polygon makes:
    g(x) = f(t_0) + sum_i (s_i - s_{i-1}) max(x - t_i, 0), with s_i the slope from t_i to t_{i+1} and s_{-1} = 0.
    For a smooth f the error is at most max |f''| h^2 / 8, with h the widest gap. Left of t_0 the network is constant.
    """
    values = f(knots)  # (n,)
    slopes = values.diff() / knots.diff()  # (n - 1,)
    network = MLP(MLPConfig(d_in=1, d_hidden=len(slopes), n_hidden=1, d_out=1, activation="relu")).to(knots)
    first, head = network.hidden[0].linear, network.head
    first.weight.fill_(1.0)
    first.bias.copy_(-knots[:-1])
    head.weight.copy_(slopes.diff(prepend=slopes.new_zeros(1))[None])  # (1, n - 1)
    head.bias.copy_(values[:1])
    return network


@torch.no_grad()
def sawtooth(depth: int) -> MLP:
    """Return the network of `depth` hidden layers of 2 units whose graph has 2^depth pieces on [0, 1] (Telgarsky 2016).

    Each layer folds [0, 1] in half: the tent 2 max(x, 0) - 4 max(x - 1/2, 0) climbs from 0 to 1 and comes back, so that
    all that the later layers draw on [0, 1] is drawn twice, once forwards and once backwards.
    """
    network = MLP(MLPConfig(d_in=1, d_hidden=2, n_hidden=depth, d_out=1, activation="relu")).double()
    tent = torch.tensor([[2.0, -4.0]], dtype=torch.float64)  # (1, 2): from a layer's two units to the folded x
    for i, layer in enumerate(network.hidden):
        x = tent if i > 0 else torch.ones(1, 1, dtype=torch.float64)
        layer.linear.weight.copy_(x.expand(2, -1))  # both units read x,
        layer.linear.bias.copy_(torch.tensor([0.0, -0.5]))  # one switches on at 0, the other at 1/2
    network.head.weight.copy_(tent)
    network.head.bias.zero_()
    return network


@torch.no_grad()
def squaring(depth: int) -> MLP:
    """Return the network of `depth` layers of 3 units that is within 4^-(depth + 1) of x^2 on [0, 1] (Yarotsky 2017).

    x^2 = x - sum_k T_k(x) / 4^k with T_k the tent applied k times. Two units fold, as in `sawtooth`; the third carries
    the sum so far, which is never negative, so that its ReLU lets it pass.
    """
    network = MLP(MLPConfig(d_hidden=3, n_hidden=depth)).double()
    for k, layer in enumerate(network.hidden):
        fold, carry = [2.0, -4.0, 0.0], [-2 / 4**k, 4 / 4**k, 1.0]
        layer.linear.weight.copy_(torch.tensor([fold, fold, carry] if k > 0 else [[1.0]] * 3))
        layer.linear.bias.copy_(torch.tensor([0.0, -0.5, 0.0]))
    network.head.weight.copy_(torch.tensor([[-2 / 4**depth, 4 / 4**depth, 1.0]]))
    network.head.bias.zero_()
    return network


@torch.no_grad()
def breakpoints(network: MLP, lo: float, hi: float) -> torch.Tensor:
    """Return lo, every x in between where a unit of a network R -> R switches on or off, and hi, ascending, in float64.

    Exact but for rounding, without sampling: between two breakpoints of the layers before it a unit's z is a straight
    line, so it has a zero exactly if z changes sign, and one division finds it.
    """
    _check_piecewise_linear(network)
    network = copy.deepcopy(network).double().eval()
    points = torch.tensor([lo, hi], dtype=torch.float64)  # (P,)
    for depth, layer in enumerate(network.hidden):
        z = layer.linear(network.hidden[:depth](points[:, None]))  # (P, width)
        left, right = z[:-1], z[1:]
        share = left / (left - right)  # how far along its interval each line meets zero
        zeros = points[:-1, None] + share * points.diff()[:, None]  # (P - 1, width)
        points = torch.cat([points, zeros[left * right < 0]]).sort().values
        apart = points.diff() > 1e-12 * (hi - lo)  # zeros that differ by rounding are one
        points = torch.cat([points[:-1][apart], points[-1:]])
    return points


def count_linear_regions(network: MLP, lo: float, hi: float) -> int:
    """Return how many straight pieces the graph of a ReLU network R -> R has on [lo, hi].

    A unit's switch that the output does not feel makes no new piece: the slopes decide.
    """
    points = breakpoints(network, lo, hi)
    middles = ((points[:-1] + points[1:]) / 2).requires_grad_()
    with torch.enable_grad():
        outputs = copy.deepcopy(network).double().eval()(middles[:, None])
        (slopes,) = torch.autograd.grad(outputs.sum(), middles)
    return 1 + (~torch.isclose(slopes[1:], slopes[:-1], rtol=1e-9, atol=1e-12)).sum().item()


def _check_piecewise_linear(network: MLP) -> None:
    for layer in network.hidden:
        if hasattr(layer, "norm") or not isinstance(layer.activation, (ReLU, LeakyReLU)):
            raise ValueError("only networks of ReLU or LeakyReLU units without batch norm are made of straight pieces")
