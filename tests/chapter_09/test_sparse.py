"""Sparse attention in its fast forms against the masks that define it.
稀疏注意力的快速实现与定义它的掩码对照。
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from chapter_07_attention_mechanism.attention import causal_mask, local_mask, scaled_dot_product_attention
from chapter_09_efficient_attention.grouped import GroupedAttention
from chapter_09_efficient_attention.sparse import (
    BlockSparseAttention,
    LocalAttention,
    TopKAttention,
    big_bird_blocks,
    block_sparse_attention,
    choose_blocks,
    chunked_window_attention,
    dilated_window_attention,
    gathered_top_k_attention,
    strided_blocks,
    token_mask,
    top_k_attention,
    window_mask,
)
from tests.chapter_09.parity import check_equal, random


def masked(q, k, v, mask):
    return scaled_dot_product_attention(q, k, v, mask)[0]


def visible(mask):
    """Of each row the columns that may be seen."""
    return [row.nonzero().flatten().tolist() for row in mask]


@pytest.mark.parametrize("length,window,n_sinks", [(1, 0, 0), (1, 3, 2), (7, 2, 0), (7, 2, 1), (8, 4, 3), (5, 9, 7)])
def test_windows_are_a_mask(length, window, n_sinks):
    q, k, v = random(2, 3, length, 4), random(2, 1, length, 4), random(2, 1, length, 5)
    places = torch.arange(length)
    mask = window_mask(places, places, window, n_sinks=n_sinks)
    if n_sinks == 0:
        assert torch.equal(mask, local_mask(length, window, causal=True))
    check_equal(chunked_window_attention(q, k, v, window, n_sinks), masked(q, k, v, mask), [q, k, v])


@pytest.mark.parametrize("length,window,dilation", [(1, 1, 3), (7, 2, 2), (11, 1, 4), (12, 3, 1)])
def test_dilated_windows_are_a_mask(length, window, dilation):
    q, k, v = random(2, length, 4), random(2, length, 4), random(2, length, 5)
    places = torch.arange(length)
    mask = window_mask(places, places, window, dilation)
    check_equal(dilated_window_attention(q, k, v, window, dilation), masked(q, k, v, mask), [q, k, v])


def test_masks_say_who_is_seen():
    places = torch.arange(7)
    assert visible(window_mask(places, places, 1, n_sinks=1))[5] == [0, 4, 5]
    assert visible(window_mask(places, places, 2, dilation=2))[6] == [2, 4, 6]
    assert visible(strided_blocks(7, 3))[3:] == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [0, 3, 4, 5, 6]]
    assert visible(token_mask(strided_blocks(3, 1), 2, 2, 5)) == [[0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert visible(token_mask(torch.eye(3).bool(), 2, 2, 5)) == [[2, 3], [4]]


def test_big_bird_sees_the_first_the_last_and_some_others():
    blocks = big_bird_blocks(40, n_global=2, window=3, n_random=2)
    row = visible(blocks)[39]
    assert {0, 1, 36, 37, 38, 39} <= set(row) and 6 < len(row) <= 8
    assert not blocks.triu(1).any() and torch.equal(blocks[:25, :25], big_bird_blocks(25, 2, 3, 2))
    assert not torch.equal(blocks, big_bird_blocks(40, 2, 3, 2, seed=1))


@pytest.mark.parametrize("length,block_size", [(1, 1), (7, 1), (8, 2), (11, 3), (2, 4)])
@pytest.mark.parametrize("pattern", ["strided", "big bird", "all"])
def test_blocks_are_a_mask(pattern, length, block_size):
    n = -(-length // block_size)
    patterns = {"strided": strided_blocks(n, 2), "big bird": big_bird_blocks(n, 1, 1, 1)}
    blocks = patterns.get(pattern, torch.ones(n, n).tril().bool())
    q, k, v = random(2, 3, length, 4), random(2, 1, length, 4), random(2, 1, length, 5)
    expected = masked(q, k, v, token_mask(blocks, block_size, length, length))
    check_equal(block_sparse_attention(q, k, v, blocks, block_size), expected, [q, k, v])
    if pattern == "all":
        check_equal(expected, masked(q, k, v, causal_mask(length)), [q, k, v])


@pytest.mark.parametrize("t,s,b,n_chosen", [(1, 1, 2, 1), (7, 7, 2, 1), (8, 8, 2, 2), (1, 9, 3, 1), (3, 8, 3, 9)])
def test_gathered_blocks_are_those_chosen(t, s, b, n_chosen):
    q, k, v = random(2, 3, t, 4), random(2, 1, s, 4), random(2, 1, s, 5)
    expected = top_k_attention(q, k, v, b, n_chosen)
    check_equal(gathered_top_k_attention(q, k, v, b, n_chosen), expected, [q, k, v])
    if n_chosen * b >= s:
        check_equal(expected, masked(q, k, v, causal_mask(t, s)), [q, k, v])


def test_the_blocks_that_fit_best_are_chosen():
    k = torch.tensor([[0.0, 1], [0, 1], [1, 0], [1, 0], [-1, 0], [-1, 0], [0, 0]])
    q = torch.tensor([[1.0, 0]] * 5 + [[-1, 2], [1, 0]])
    assert visible(choose_blocks(q, k, 2, 1)) == [[0], [0], [0, 1], [0, 1], [1, 2], [0, 2], [1, 3]]


def test_a_later_token_changes_no_earlier_choice():
    q, k = torch.randn(1, 9, 4), torch.randn(1, 9, 4)
    whole = choose_blocks(q, k, 2, 2)
    for n in (3, 6, 8):
        part = choose_blocks(q[:, :n], k[:, :n], 2, 2)
        assert torch.equal(part, whole[:, :n, : part.shape[-1]]) and not whole[:, :n, part.shape[-1] :].any()


def test_a_window_over_everything_is_full_attention():
    x = random(2, 7, 8)
    full = GroupedAttention(8, 4, n_kv_heads=2).double()
    patterns = {"pattern": lambda n: torch.ones(n, n).tril().bool(), "block_size": 3}
    for layer in (
        LocalAttention(8, 4, window=7, n_kv_heads=2),
        LocalAttention(8, 4, window=2, n_sinks=7, n_kv_heads=2),
        BlockSparseAttention(8, 4, **patterns, n_kv_heads=2),
        TopKAttention(8, 4, block_size=2, n_chosen=4, n_kv_heads=2),
    ):
        layer.double().load_state_dict(full.state_dict())
        check_equal(layer(x), full(x), [x])


def test_a_window_is_dilated_or_has_sinks():
    with pytest.raises(ValueError, match="not both"):
        LocalAttention(8, 2, window=2, dilation=2, n_sinks=1)


@pytest.mark.parametrize("name", ["window", "dilated", "blocks", "top_k"])
def test_no_tensor_has_all_pairs(name):
    length = 512
    chosen = TopKAttention(4, 1, block_size=8, n_chosen=1)
    attentions = {
        "window": lambda *qkv: chunked_window_attention(*qkv, window=8, n_sinks=2),
        "dilated": lambda *qkv: dilated_window_attention(*qkv, window=4, dilation=2),
        "blocks": lambda *qkv: block_sparse_attention(*qkv, big_bird_blocks(32, 1, 1, 0), 16),
        "top_k": lambda *qkv: chosen(qkv[0]),
    }
    sizes = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.append(result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    q = torch.randn(1, length, 4, requires_grad=True)
    with Record():
        attentions[name](q, q, q).sum().backward()
    assert max(sizes) <= length * 16 * 4  # of all pairs there are 512 length
