"""The blocks of a modern decoder against PyTorch's own or against their definitions, gradients included.
现代解码器的部件与 PyTorch 自带实现或其定义对照，梯度也要一致。
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import causal_mask
from chapter_09_efficient_attention.kv_cache import ContiguousCache
from chapter_09_efficient_attention.rope import rotary, rotary_table
from chapter_09_efficient_attention.sparse import window_mask
from chapter_10_llm_modern_components.blocks import Attention, MixtureOfExperts, RMSNorm, SwiGLU, balance_loss, rms_norm
from tests.chapter_09.parity import check_equal, random


@pytest.mark.parametrize("shape", [(1, 1), (3, 1, 8), (2, 5, 3, 7)])
def test_rms_norm_is_pytorchs(shape):
    x, ours = random(*shape), RMSNorm(shape[-1], eps=1e-5).double()
    nn.init.uniform_(ours.weight, 0.5, 1.5)
    expected = F.rms_norm(x, shape[-1:], ours.weight, 1e-5)
    check_equal(rms_norm(x, ours.weight, 1e-5), expected, [x, ours.weight])
    check_equal(ours(x), expected, [x, ours.weight])
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)


def test_rms_norm_squares_in_float32():
    x = torch.linspace(-3, 3, 64).bfloat16()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            y = RMSNorm(64)(x)
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(
            y.float(), F.rms_norm(x.float(), (64,), eps=1e-6), rtol=2**-8, atol=0
        )  # one rounding


@pytest.mark.parametrize("bias", [True, False])
def test_swiglu_is_its_formula(bias):
    x, layer = random(2, 3, 5), SwiGLU(5, 7, bias).double()
    (gate, up), zeros = layer.gate_up_proj.weight.split(7), torch.zeros(7)
    gate_bias, up_bias = layer.gate_up_proj.bias.split(7) if bias else (zeros, zeros)
    a = x @ gate.T + gate_bias
    expected = (a * a.sigmoid() * (x @ up.T + up_bias)) @ layer.down_proj.weight.T
    expected = expected + layer.down_proj.bias if bias else expected
    check_equal(layer(x), expected, [x, *layer.parameters()])


@pytest.mark.parametrize("b,h,g,t,window,qk_norm", [(1, 1, 1, 1, None, False), (2, 4, 2, 5, None, True),
                                                    (1, 6, 3, 7, 2, False), (3, 4, 1, 6, 0, True)])  # fmt: skip
def test_attention_is_pytorchs_on_turned_heads(b, h, g, t, window, qk_norm):
    layer = Attention(12, h, g, 4, window, qk_norm).double()
    if qk_norm:
        nn.init.uniform_(layer.q_norm.weight, 0.5, 1.5)
    x = random(b, t, 12)
    q, k, v = layer.qkv_proj(x).unflatten(-1, (-1, 4)).transpose(1, 2).split([h, g, g], dim=1)
    if qk_norm:
        q, k = F.rms_norm(q, (4,), layer.q_norm.weight, 1e-6), F.rms_norm(k, (4,), eps=1e-6)
    places = torch.arange(t)
    mask = causal_mask(t) if window is None else window_mask(places, places, window)
    heads = F.scaled_dot_product_attention(rotary(q), rotary(k), v, mask, enable_gqa=True)
    expected = layer.out_proj(heads.transpose(1, 2).flatten(2))
    table = rotary_table(t, 4, 0, 10000.0, False, x.device, x.dtype)
    given = None if window is None else mask
    check_equal(layer(x, table, given), expected, [x, layer.qkv_proj.weight])

    cache = ContiguousCache(t)
    with torch.no_grad():
        rows = [layer(x[:, i : i + 1], [part[i : i + 1] for part in table], None, cache) for i in range(t)]
    torch.testing.assert_close(torch.cat(rows, dim=1), expected, rtol=0, atol=1e-9)


def test_heads_share_equally():
    with pytest.raises(ValueError, match="3 heads cannot share 2"):
        Attention(12, 3, 2, 4)


@pytest.mark.parametrize("n_experts,n_active,n_tokens", [(1, 1, 4), (4, 2, 1), (5, 3, 9), (8, 1, 3)])
def test_experts_are_a_loop_over_experts(n_experts, n_active, n_tokens):
    layer = MixtureOfExperts(6, 5, n_experts, n_active).double()
    x = random(1, n_tokens, 6)
    p = (x @ layer.router.weight.T).softmax(-1)  # (1, N, E)
    weights, chosen = p.topk(n_active)
    expected = 0
    for i, expert in enumerate(layer.experts):
        weight = (weights * (chosen == i)).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)  # (1, N, 1)
        expected = expected + weight * expert(x)
    check_equal(layer(x), expected, [x, layer.router.weight])
    busy = chosen[0, 0, 0]
    check_equal(layer(x), expected, [layer.experts[busy].gate_up_proj.weight])
    with pytest.raises(ValueError, match="9 of 8 experts"):
        MixtureOfExperts(6, 5, 8, 9)


def test_the_balance_loss_is_least_where_all_get_equally_much():
    even = torch.full((4, 4), 0.25, requires_grad=True)
    assert balance_loss(even, torch.tensor([[0, 1], [2, 3], [0, 1], [2, 3]])).item() == pytest.approx(1)
    one = torch.eye(4)[[2, 2, 2]]
    assert balance_loss(one, torch.full((3, 1), 2)).item() == pytest.approx(4)
    torch.manual_seed(0)
    layer, x = MixtureOfExperts(6, 5, 4, 2), torch.randn(64, 6) + 2
    optimizer = torch.optim.SGD(layer.router.parameters(), lr=0.2)
    losses = []
    for _ in range(40):
        layer(x)
        losses.append(layer.balance.item())
        optimizer.zero_grad()
        layer.balance.backward()
        optimizer.step()
    assert 1 <= losses[-1] < 1.2 < 1.4 < losses[0], losses[::10]
    layer.eval()(x)
    assert layer.balance is None
