"""Attention against PyTorch's own, forward and gradients, under every kind of mask.
与 PyTorch 的注意力对照：前向与梯度，覆盖各种掩码。
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from chapter_07_attention_mechanism.attention import (
    SCORES,
    Attention,
    MultiHeadAttention,
    batched_attention,
    causal_mask,
    fused_attention,
    local_attention,
    local_mask,
    masked_softmax,
    multi_head,
    padding_mask,
    scaled_dot_product_attention,
)

INF = math.inf
SHAPES = [(1, 1, 1, 1, 1), (2, 3, 5, 7, 4), (3, 2, 1, 6, 5), (1, 4, 6, 6, 3)]  # B, H, T, S, d


def masks(b, t, s):
    lengths = torch.randint(1, s + 1, (b,))
    float_mask = torch.randn(t, s, dtype=torch.float64)
    float_mask[:, 1:] = float_mask[:, 1:].masked_fill(torch.rand(t, s - 1) < 0.3, -INF)
    return {
        "none": None,
        "bool": (torch.rand(b, 1, t, s) < 0.6) | (torch.arange(s) == 0),
        "padding": padding_mask(lengths, s)[:, None],
        "added": float_mask,
    } | ({"causal": causal_mask(t, s)} if t <= s else {})


def gradients(output, inputs):
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * weights).sum(), inputs, retain_graph=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scaled_dot_product_equals_pytorchs(shape):
    b, h, t, s, d = shape
    q, k, v = (torch.randn(b, h, n, d, dtype=torch.float64, requires_grad=True) for n in (t, s, s))
    for name, mask in masks(b, t, s).items():
        expected = F.scaled_dot_product_attention(q, k, v, mask)
        for attention in (fused_attention, batched_attention, lambda *given: scaled_dot_product_attention(*given)[0]):
            ours = attention(q, k, v, mask)
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12, msg=name)
            for mine, theirs in zip(gradients(ours, (q, k, v)), gradients(expected, (q, k, v)), strict=True):
                torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11, msg=name)


@pytest.mark.parametrize("kind", ["bool", "added"])
def test_a_query_that_may_see_nothing_gets_nothing(kind):
    q, k, v = (torch.randn(2, n, 4, dtype=torch.float64, requires_grad=True) for n in (3, 5, 5))
    mask = torch.ones(2, 3, 5, dtype=torch.bool)
    mask[0, 1] = False
    mask[1] = False
    mask = mask if kind == "bool" else torch.zeros(2, 3, 5, dtype=torch.float64).masked_fill(~mask, -INF)
    out, weights = scaled_dot_product_attention(q, k, v, mask)
    for result in (out, fused_attention(q, k, v, mask), batched_attention(q, k, v, mask)):
        assert result[0, 1].eq(0).all() and result[1].eq(0).all()
        torch.testing.assert_close(result[0, 0], F.scaled_dot_product_attention(q, k, v)[0, 0], rtol=0, atol=1e-12)
        found = gradients(result, (q, k, v))
        assert all(g.isfinite().all() for g in found) and found[0][1].eq(0).all()
    torch.testing.assert_close(weights.sum(-1), torch.tensor([[1.0, 0, 1], [0, 0, 0]], dtype=torch.float64))


def test_weights_are_a_mean_and_dropout_keeps_it_on_average():
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 2, 8), torch.randn(1, 9, 8), torch.randn(1, 9, 3)
    plain, weights = scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2))
    tries = torch.stack([scaled_dot_product_attention(q, k, v, dropout=0.5)[0] for _ in range(4000)])
    spread = tries.std(0) / math.sqrt(len(tries))
    assert ((tries.mean(0) - plain).abs() < 5 * spread).all() and spread.min() > 0


def test_masks_say_who_sees_whom():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal_mask(1, 4).tolist() == [[True] * 4]
    assert causal_mask(2, 3).tolist() == [[True, True, False], [True, True, True]]
    assert padding_mask(torch.tensor([1, 3]), 3).tolist() == [[[True, False, False]], [[True, True, True]]]
    assert local_mask(4, 1)[1].tolist() == [True, True, True, False]
    assert local_mask(4, 1, causal=True)[2].tolist() == [False, True, True, False]
    assert local_mask(1, 1, 4, causal=True).tolist() == [[False, False, True, True]]
    with pytest.raises(ValueError, match="3 queries cannot be the last ones of 2 keys"):
        causal_mask(3, 2)


@pytest.mark.parametrize("length,window", [(1, 0), (1, 3), (7, 2), (5, 9), (6, 0), (12, 3), (13, 4)])
def test_local_attention_equals_a_mask(length, window):
    q, k, v = (torch.randn(2, 3, length, d, dtype=torch.float64, requires_grad=True) for d in (4, 4, 5))
    expected = scaled_dot_product_attention(q, k, v, local_mask(length, window))[0]
    ours = local_attention(q, k, v, window)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    for mine, theirs in zip(gradients(ours, (q, k, v)), gradients(expected, (q, k, v)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


def test_local_attention_computes_few_scores():
    q = torch.randn(1, 400, 8)
    shapes = []

    class Record(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            shapes.append(result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    with Record():
        local_attention(q, q, q, window=5)
    assert max(shapes) < 400 * 8 * 4  # the keys of three blocks; all pairs would be 160,000


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("b,h,t,s", [(1, 1, 1, 1), (2, 4, 5, 5), (3, 2, 4, 7)])
def test_multi_head_equals_pytorchs(b, h, t, s, bias):
    width = 3 * h
    ours = MultiHeadAttention(width, h, bias=bias).double()
    theirs = nn.MultiheadAttention(width, h, bias=bias, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    x, memory = (torch.randn(b, n, width, dtype=torch.float64, requires_grad=True) for n in (t, s))
    lengths = torch.randint(1, s + 1, (b,))
    cases = [
        (memory, None, {}),
        (memory, padding_mask(lengths, s), {"key_padding_mask": ~padding_mask(lengths, s)[:, 0]}),
    ]
    added = torch.randn(t, s, dtype=torch.float64)
    cases += [(memory, added, {"attn_mask": added})]
    cases += [(None, causal_mask(t), {"attn_mask": ~causal_mask(t)})]
    for other, mask, options in cases:
        keys = x if other is None else other
        expected, their_weights = theirs(x, keys, keys, average_attn_weights=False, **options)
        for need_weights in (True, False):
            out, weights = ours(x, other, mask, need_weights)
            torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
            assert (weights is None) is not need_weights
            if need_weights:
                torch.testing.assert_close(weights, their_weights, rtol=0, atol=1e-12)
            inputs = [x] if other is None else [x, other]
            mine = gradients(out, [*inputs, *ours.parameters()])
            wanted = gradients(expected, [*inputs, *theirs.parameters()])
            for name, a, e in zip(["x", "memory", *ours.state_dict()][-len(mine) :], mine, wanted, strict=True):
                torch.testing.assert_close(a, e, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("t,s", [(1, 1), (1, 4), (5, 5), (2, 5)])
def test_causal_attention_equals_a_mask(t, s):
    attention = MultiHeadAttention(6, 2).double()
    x = torch.randn(3, s, 6, dtype=torch.float64, requires_grad=True)
    [q], (k, v) = attention.project(x[:, -t:], 0, 0), attention.project(x, 1, 2)
    padding = padding_mask(torch.tensor([s, max(1, s - 1), 1]), s)
    for mask in (None, padding):
        allowed = causal_mask(t, s) if mask is None else mask & causal_mask(t, s)
        expected, their_weights = attention.attend(q, k, v, allowed, need_weights=True)
        for need_weights in (True, False):
            out, weights = attention.attend(q, k, v, mask, causal=True, need_weights=need_weights)
            torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
            if need_weights:
                torch.testing.assert_close(weights, their_weights, rtol=0, atol=0)
            inputs = [x, *attention.parameters()]
            for mine, theirs in zip(gradients(out, inputs), gradients(expected, inputs), strict=True):
                torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["none", "causal", "padding"])
@pytest.mark.parametrize("length", [1, 7, 40])
def test_bfloat16_is_as_near_batched_as_fused(length, name, monkeypatch):
    options = {"causal": name == "causal"}
    if name == "padding":
        options["mask"] = padding_mask(torch.tensor([length, 1, 0]), length)
    rounded, exact = MultiHeadAttention(16, 2).bfloat16(), MultiHeadAttention(16, 2).double()
    exact.load_state_dict(rounded.state_dict())
    x = torch.randn(3, length, 16, dtype=torch.bfloat16)
    results, calls = {}, []
    monkeypatch.setattr(multi_head, "batched_attention", lambda *a: calls.append(1) or batched_attention(*a))
    for longest, attention in ((0, rounded), (512, rounded), (None, exact)):
        monkeypatch.setattr(multi_head, "LONGEST_BATCHED", longest or 0)
        given = x.to(attention.out_proj.weight.dtype).requires_grad_()
        out, _ = attention.attend(*attention.project(given, 0, 2), **options)
        results[longest] = [result.double() for result in (out, *gradients(out, [given]))]
    assert len(calls) == 1
    for fused, batched, wanted in zip(*results.values(), strict=True):
        assert (batched - wanted).abs().max() <= 2 * (fused - wanted).abs().max() + 2**-9


def test_multi_head_refuses_a_width_that_cannot_be_shared():
    with pytest.raises(ValueError, match="width of 10 cannot be shared equally by 4 heads"):
        MultiHeadAttention(10, 4)


FORMULAS = {  # of one query and one key, as the papers write them
    "additive": lambda m, q, k: m.v.weight[0] @ torch.tanh(m.query.weight @ q + m.key.weight @ k + m.key.bias),
    "dot": lambda m, q, k: q @ k,
    "luong": lambda m, q, k: q @ m.key.weight @ k,
    "concat": lambda m, q, k: m.v.weight[0] @ torch.tanh(m.both.weight @ torch.cat([q, k])),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_those_of_the_papers(name):
    key_size = 6 if name != "dot" else 4
    attention = Attention(SCORES[name](4, key_size, 5)).double()
    queries = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    values = torch.randn(2, 7, key_size, dtype=torch.float64, requires_grad=True)
    mask = padding_mask(torch.tensor([7, 4]), 7)
    contexts, weights = attention(queries, values, mask)
    again, _ = attention(queries, values, mask, attention.prepare(values))
    torch.testing.assert_close(contexts, again, rtol=0, atol=0)

    rows = []
    for b, length in enumerate((7, 4)):
        for query in queries[b]:
            scores = torch.stack([FORMULAS[name](attention.score, query, key) for key in values[b, :length]])
            rows.append(scores.exp() / scores.exp().sum() @ values[b, :length])
    expected = torch.stack(rows).view(2, 3, -1)
    torch.testing.assert_close(contexts, expected, rtol=0, atol=1e-12)
    parameters = [queries, values, *attention.parameters()]
    for mine, theirs in zip(gradients(contexts, parameters), gradients(expected, parameters), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)
    assert weights[1, :, 4:].eq(0).all()


def test_a_dot_product_needs_equal_widths():
    with pytest.raises(ValueError, match="the query has 3, the key 4"):
        SCORES["dot"](3, 4)


def test_masked_softmax_in_bfloat16_stays_finite():
    scores = torch.full((2, 3), -1e4, dtype=torch.bfloat16)
    weights = masked_softmax(scores, torch.tensor([[True, False, False], [False, False, False]]))
    assert weights.tolist() == [[1, 0, 0], [0, 0, 0]]
