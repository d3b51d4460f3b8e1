"""What chapter 2 draws is what it says: predicted variances, dead units, a straight cut.
第 2 章画出来的与它所说的一致：方差的预测、死亡单元、一刀切开的直线。
"""

import json

import numpy as np
import pytest
import torch

from chapter_01_tensor_autograd.dataset import two_moons
from chapter_02_nn_basics_mlp.figures.plane import principal_plane, views
from chapter_02_nn_basics_mlp.network import MLP, MLPConfig
from chapter_02_nn_basics_mlp.signals import SCHEMES, dead_share, send_signal
from chapter_02_nn_basics_mlp.visualize import train_full_batch
from tests.conftest import ROOT


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_signal_keeps_to_the_predicted_line(scheme):
    width, depth = 512, 6
    s = send_signal(scheme, width, depth)
    error = np.log(np.array(s["measured"]) / s["predicted"])
    assert np.abs(error).max() < 3 * (5 * depth / width) ** 0.5  # each layer adds 5 / width to the logarithm's variance
    assert all(gradient.isfinite().all() for gradient in s["gradients"])


def test_dead_units_are_counted():
    model = MLP(MLPConfig(2, 4, 1, 2, "relu"))
    with torch.no_grad():
        model.hidden[0].linear.weight.zero_()
        model.hidden[0].linear.bias.copy_(torch.tensor([1.0, -1.0, -2.0, 3.0]))
    assert dead_share(model, torch.randn(10, 2)) == 0.5


def test_the_last_view_is_cut_by_the_vertical_line_at_zero():
    x, y = (torch.from_numpy(a) for a in two_moons(200, 0.08, np.random.default_rng(0)))
    torch.manual_seed(0)
    model, _ = train_full_batch(x, y, MLPConfig(2, 8, 2, 2, "tanh"), steps=300)
    first, *_, last = views(model, x, len(x))
    assert torch.equal(first, x)
    assert torch.equal(last[:, 0] > 0, model(x).argmax(dim=1) == 1)
    assert ((last[:, 0] > 0) == (y == 1)).float().mean() > 0.99


def test_the_principal_plane_holds_what_varies_most():
    points = torch.randn(300, 5) * torch.tensor([5.0, 0.1, 3.0, 0.1, 0.1])
    flat = principal_plane(points, len(points))
    np.testing.assert_allclose(flat.var(dim=0), points.var(dim=0)[[0, 2]], rtol=0.01)


def test_the_published_variances_are_those_predicted():
    final = json.loads((ROOT / "chapter_02_nn_basics_mlp/results/initialization.json").read_text(encoding="utf-8"))[
        "final"
    ]
    for scheme in SCHEMES:
        assert 0.3 < final[f"{scheme}_variance"] / final[f"{scheme}_predicted"] < 3  # of factors up to 1e-57
