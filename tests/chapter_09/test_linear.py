"""Linear attention: the chunked, the recurrent and the quadratic form of every variant are one function.
线性注意力：每个变体的分段、递推与并行（二次）形式是同一个函数。
"""

import math
from functools import cache

import pytest
import torch
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import causal_mask, scaled_dot_product_attention
from chapter_09_efficient_attention.kv_cache import StateCache
from chapter_09_efficient_attention.linear import (
    DeltaRule,
    RandomFeatures,
    chunked_delta_rule,
    chunked_gated_attention,
    chunked_linear_attention,
    elu_features,
    quadratic_delta_rule,
    quadratic_gated_attention,
    quadratic_linear_attention,
    random_directions,
    random_features,
    recurrent_delta_rule,
    recurrent_gated_attention,
    recurrent_linear_attention,
    taylor_features,
)
from tests.chapter_09.parity import check_equal, gradients, random

FORMS = {
    "kernel": (quadratic_linear_attention, recurrent_linear_attention, chunked_linear_attention),
    "gated": (quadratic_gated_attention, recurrent_gated_attention, chunked_gated_attention),
    "delta": (quadratic_delta_rule, recurrent_delta_rule, chunked_delta_rule),
}


def inputs(name, length, b=2, h=3, d=4, d_v=5):
    """(form, leaves, function of the leaves to the arguments of the forms) of a variant."""
    q, k, v, gate, beta = random(b, h, length, d), random(b, h, length, d), random(b, h, length, d_v), None, None
    family = "delta" if name.endswith("delta") else "kernel" if name == "kernel" else "gated"
    if family == "kernel":
        return family, [q, k, v], lambda q, k, v: (elu_features(q), elu_features(k), v)
    if name == "retention":
        fixed = torch.tensor([0.5, 0.9, 1.0]).double().log()[:h, None, None].expand(b, h, length, 1)
        return family, [q, k, v], lambda q, k, v: (q, k, v, fixed)
    gate = random(b, h, length, d if name in ("channels", "closed") else 1)
    if name == "closed":  # some gates let nothing through
        return family, [q, k, v, gate], lambda q, k, v, g: (q, k, v, -F.softplus(g).masked_fill(g > 0.8, math.inf))
    if family == "gated":  # some let nearly nothing through: e^-60 a token
        return family, [q, k, v, gate], lambda q, k, v, g: (q, k, v, -F.softplus(g) * (1 + 60 * (g > 1.5)))
    beta = random(b, h, length, 1)
    if name == "delta":
        zeros = torch.zeros_like(gate)
        return family, [q, k, v, beta], lambda q, k, v, r: (q, F.normalize(k, dim=-1), v, 2 * r.sigmoid(), zeros)
    threshold = 0.8 if name == "closed delta" else math.inf
    return (
        family,
        [q, k, v, beta, gate],
        lambda q, k, v, r, g: (
            q,
            F.normalize(k, dim=-1),
            v,
            r.sigmoid(),
            F.logsigmoid(g).masked_fill(g > threshold, -math.inf),
        ),
    )


@pytest.mark.parametrize("length,chunk_size", [(1, 4), (7, 3), (8, 4), (5, 16)])
@pytest.mark.parametrize(
    "name", ["kernel", "retention", "scalar", "channels", "closed", "delta", "gated delta", "closed delta"]
)
def test_three_forms_are_one_function(name, length, chunk_size):
    family, leaves, prepare = inputs(name, length)
    quadratic, recurrent, chunked = FORMS[family]
    expected, state = recurrent(*prepare(*leaves))
    check_equal(quadratic(*prepare(*leaves)), expected, leaves)
    out, chunked_state = chunked(*prepare(*leaves), chunk_size=chunk_size)
    check_equal(out, expected, leaves)
    used = leaves[1:]  # a state does not depend on queries
    check_equal(chunked_state, state, used)


@pytest.mark.parametrize("name", ["kernel", "channels", "gated delta"])
def test_a_state_is_all_that_is_left_of_the_past(name):
    family, leaves, prepare = inputs(name, 9)
    _, recurrent, chunked = FORMS[family]
    given = prepare(*leaves)
    expected, last = recurrent(*given)
    out, state = [], None
    for part in zip(*(x.split([4, 1, 4], dim=-2) for x in given), strict=True):
        y, state = chunked(*part, state, chunk_size=3)
        out.append(y)
    check_equal(torch.cat(out, dim=-2), expected, leaves)
    check_equal(state, last, leaves[1:])


def test_without_forgetting_it_is_linear_attention_before_the_division():
    q, k, v = (random(2, 7, 4).abs() for _ in range(3))
    sums = recurrent_gated_attention(q, k, v, torch.zeros(2, 7, 1))[0]
    counts = recurrent_gated_attention(q, k, torch.ones_like(v), torch.zeros(2, 7, 1))[0]
    torch.testing.assert_close(sums / counts, quadratic_linear_attention(q, k, v), rtol=0, atol=1e-9)


def test_one_gate_is_the_same_gate_for_every_channel():
    _, leaves, prepare = inputs("scalar", 7)
    q, k, v, gate = prepare(*leaves)
    expected = chunked_gated_attention(q, k, v, gate.expand_as(k), chunk_size=3)[0]
    check_equal(chunked_gated_attention(q, k, v, gate, chunk_size=3)[0], expected, leaves)


def test_a_delta_step_is_a_step_of_gradient_descent():
    state, k, v = random(4, 5), F.normalize(torch.randn(1, 4, dtype=torch.float64), dim=-1), random(1, 5)
    beta, no_gate = torch.full((1, 1), 0.3, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    _, after = recurrent_delta_rule(k, k, v, beta, no_gate, state)
    [slope] = torch.autograd.grad((k @ state - v).square().sum() / 2, state)
    torch.testing.assert_close(after, state - 0.3 * slope, rtol=0, atol=1e-12)


def test_the_delta_rule_overwrites_where_a_sum_piles_up():
    keys = torch.eye(3)[[0, 1, 0]]
    values = torch.tensor([[1.0], [2.0], [5.0]])
    ones, zeros = torch.ones(3, 1), torch.zeros(3, 1)
    _, delta = recurrent_delta_rule(keys, keys, values, ones, zeros)
    _, summed = recurrent_gated_attention(keys, keys, values, zeros)
    assert delta.flatten().tolist() == [5, 2, 0] and summed.flatten().tolist() == [6, 2, 0]
    _, flipped = recurrent_delta_rule(keys[:1], keys[:1], 0 * ones[:1], 2 * ones[:1], zeros[:1], delta)
    assert flipped.flatten().tolist() == [-5, 2, 0]  # a rate of 2 turns the sign round


def test_nothing_overflows_however_fast_a_state_fades():
    q, k, v = (torch.randn(1, 64, 4, requires_grad=True) for _ in range(3))
    gate = torch.full((1, 64, 4), -50.0)
    out, _ = chunked_gated_attention(q, k, v, gate, chunk_size=32)
    torch.testing.assert_close(out, recurrent_gated_attention(q, k, v, gate)[0])
    assert all(g.isfinite().all() for g in gradients(out, [q, k, v]))


@pytest.mark.parametrize("name", ["kernel", "channels", "gated delta"])
def test_bfloat16_is_summed_in_float32_also_under_autocast(name):
    family, leaves, prepare = inputs(name, 40)
    given = [x.detach().bfloat16() for x in prepare(*leaves)]
    expected = FORMS[family][1](*(x.double() for x in given))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, state = FORMS[family][2](*given, chunk_size=16)
    assert out.dtype == torch.bfloat16 and state.dtype == torch.float32
    assert (out - expected).abs().max() <= 2**-8 * expected.abs().max()


def test_keys_have_length_1_in_bfloat16_too_so_that_nothing_stored_grows():
    """At a rate of 2 each token turns the sign of what is stored under its key: longer keys would amplify it."""
    torch.manual_seed(0)
    layer, cache = DeltaRule(32, 4, max_rate=2.0), StateCache()
    torch.nn.init.constant_(layer.rate.bias, 40.0)
    sizes = []
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.randn(1, 1, 32).expand(1, 2001, 32)
        for part in x.split([1, 2000], dim=1):
            layer(part, cache)
            sizes.append(cache.state.norm())
    assert sizes[1] < 1.01 * sizes[0]


# --- feature maps -----------------------------------------------------------------------------------------------------


def test_taylors_features_are_the_first_terms_of_e():
    q, k = random(6, 3), random(5, 3)
    products = q @ k.T
    torch.testing.assert_close(taylor_features(q) @ taylor_features(k).T, 1 + products + products**2 / 2)
    x = torch.tensor([-40.0, -1, 0, 2, 100], requires_grad=True)
    assert elu_features(x).tolist() == pytest.approx([math.exp(-40), math.exp(-1), 1, 3, 101], rel=1e-6)
    assert gradients(elu_features(x), x)[0].isfinite().all()
    coarse = torch.tensor([-7.0, -4], dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(elu_features(coarse), coarse.double().exp().bfloat16(), rtol=2**-7, atol=0)


@cache
def products(orthogonal, n_directions=320_000):
    """For one q and k of 4 numbers, the product of their features along each direction; and e^(q . k)."""
    generator = torch.Generator().manual_seed(0)
    q, k = torch.tensor([[0.3, -0.2, 0.15, 0.25], [0.1, -0.35, 0.2, 0.05]], dtype=torch.float64)
    directions = random_directions(n_directions, 4, orthogonal, generator).double()
    return random_features(q, directions) * random_features(k, directions) * n_directions, math.exp(q @ k)


def estimates(m, orthogonal):
    """Of e^(q . k): one estimate for each m directions, m a multiple of 4."""
    each, exact = products(orthogonal)
    return each.view(-1, m).mean(dim=1), exact


@pytest.mark.parametrize("orthogonal", [False, True])
def test_random_features_are_unbiased_and_their_error_falls_as_the_root_of_m(orthogonal):
    errors = {}
    for m in (4, 16, 64):
        found, exact = estimates(m, orthogonal)
        assert abs(found.mean() - exact) < 4 * found.std() / len(found) ** 0.5
        errors[m] = (found - exact).square().mean().sqrt().item()
    slope = math.log(errors[64] / errors[4]) / math.log(16)
    assert -0.52 < slope < -0.48


def test_orthogonal_directions_have_the_smaller_error():
    spread = {orthogonal: estimates(4, orthogonal)[0].std() for orthogonal in (False, True)}
    assert spread[True] < 0.97 * spread[False]
    directions = F.normalize(random_directions(6, 4), dim=1)
    torch.testing.assert_close(directions[:4] @ directions[:4].T, torch.eye(4), rtol=0, atol=1e-5)


def test_with_many_features_linear_attention_nears_softmax():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 6, 4)
    exact = scaled_dot_product_attention(q, k, v, causal_mask(6))[0]
    errors = []
    for m in (16, 4096):
        features = RandomFeatures(4, m)
        out = quadratic_linear_attention(features(q / 4**0.25), features(k / 4**0.25), v)
        errors.append((out - exact).square().mean().sqrt())
    assert errors[1] < errors[0] / 4
