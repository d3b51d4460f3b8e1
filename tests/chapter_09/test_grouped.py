"""Multi-head, grouped and multi-query attention against PyTorch's, and latent attention against itself.
多头、分组与多查询注意力和 PyTorch 对照；潜在注意力的两种算法互相对照。
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from chapter_07_attention_mechanism.attention import causal_mask, scaled_dot_product_attention
from chapter_09_efficient_attention.grouped import (
    GroupedAttention,
    fused_grouped_attention,
    grouped_attention,
    over_groups,
)
from chapter_09_efficient_attention.latent import LatentAttention
from tests.chapter_09.parity import check_equal, gradients, random

SHAPES = [(1, 1, 1, 1, 1), (2, 4, 2, 5, 5), (2, 6, 1, 3, 7), (3, 4, 4, 1, 6)]  # B, H, G, T, S


@pytest.mark.parametrize("b,h,g,t,s", SHAPES)
def test_grouped_attention_is_pytorchs(b, h, g, t, s):
    q, k, v = random(b, h, t, 4), random(b, g, s, 4), random(b, g, s, 3)
    masks = {"none": None, "causal": causal_mask(t, s), "some": (torch.rand(b, 1, t, s) < 0.6) | (torch.arange(s) == 0)}
    for mask in masks.values():
        expected = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
        check_equal(grouped_attention(q, k, v, mask), expected, [q, k, v])
    causal = grouped_attention(q, k, v, masks["causal"])
    check_equal(fused_grouped_attention(q, k, v), causal, [q, k, v])
    scaled = grouped_attention(q, k, v, masks["causal"], scale=0.3)
    check_equal(fused_grouped_attention(q, k, v, scale=0.3), scaled, [q, k, v])
    broadcast = over_groups(lambda *qkv: scaled_dot_product_attention(*qkv, causal_mask(t, s))[0], q, k, v)
    check_equal(broadcast, causal, [q, k, v])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("b,t", [(1, 1), (2, 5)])
def test_with_a_head_of_keys_each_it_is_multi_head_attention(b, t, bias):
    ours = GroupedAttention(6, 2, rope_base=None, bias=bias).double()
    theirs = nn.MultiheadAttention(6, 2, bias=bias, batch_first=True).double()
    state = {name.replace("qkv_proj.", "in_proj_"): tensor for name, tensor in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x = random(b, t, 6)
    expected, _ = theirs(x, x, x, attn_mask=~causal_mask(t), need_weights=False)
    check_equal(ours(x), expected, [x])
    ours_by_weights = gradients(ours(x), [*ours.parameters()])
    for mine, wanted in zip(ours_by_weights, gradients(expected, [*theirs.parameters()]), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-9)


def test_a_group_is_multi_head_attention_with_repeated_keys():
    grouped = GroupedAttention(8, 4, n_kv_heads=2).double()
    whole = GroupedAttention(8, 4).double()
    q, k, v = grouped.qkv_proj.weight.unflatten(0, (-1, 2)).split([4, 2, 2])  # heads, each (2, 8)
    weight = torch.cat([q, k.repeat_interleave(2, 0), v.repeat_interleave(2, 0)]).flatten(0, 1)
    whole.load_state_dict({"qkv_proj.weight": weight, "out_proj.weight": grouped.out_proj.weight})
    x = random(2, 5, 8)
    check_equal(grouped(x), whole(x), [x])
    assert grouped.qkv_proj.weight.numel() == (4 + 2 * 2) * 2 * 8


@pytest.mark.parametrize("sizes", [(10, 4, 2), (8, 4, 3)])
def test_heads_divide_the_width_and_groups_the_heads(sizes):
    with pytest.raises(ValueError, match="do not divide one another"):
        GroupedAttention(*sizes)


@pytest.mark.parametrize("b,t,s", [(1, 1, 1), (2, 6, 6), (2, 1, 7), (1, 3, 5)])
def test_absorbed_latent_attention_is_the_naive_one(b, t, s):
    attention = LatentAttention(12, 3, d_latent=5, d_rope=2).double()
    nn.init.uniform_(attention.norm.weight, 0.5, 1.5)
    x = random(b, s, 12)
    q, q_rope, c, k_rope = attention.project(x, 0)
    asked = (q[:, :, -t:], q_rope[:, :, -t:], c, k_rope)
    leaves = [x, attention.q_proj.weight, attention.down_proj.weight, attention.up_proj.weight, attention.norm.weight]
    naive = attention.attend_naive(*asked)
    check_equal(attention.attend_absorbed(*asked), naive, leaves)

    to_k, to_v = attention.up_proj.weight.view(2, 3, 4, 5)  # (H, d, d_latent)
    k, v = c @ to_k.mT, c @ to_v.mT  # (B, H, S, d)
    scores = (asked[0] @ k.mT + asked[1] @ k_rope.mT) / 6**0.5  # d + d_rope = 6; DeepSeek-V2, equations 16 to 18
    weights = scores.masked_fill(~causal_mask(t, s), -torch.inf).softmax(-1)
    check_equal(naive, weights @ v, leaves)
