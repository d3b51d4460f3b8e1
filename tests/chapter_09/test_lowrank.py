"""Linformer against full attention, and what limits it.
Linformer 与全注意力对照，以及它的限制。
"""

import pytest
import torch

from chapter_07_attention_mechanism.attention import MultiHeadAttention
from chapter_09_efficient_attention.lowrank import LinformerAttention
from tests.chapter_09.parity import check_equal, random


def test_with_the_identity_as_mixture_it_is_full_attention():
    ours, full = LinformerAttention(6, 2, rank=5, max_length=5).double(), MultiHeadAttention(6, 2).double()
    full.load_state_dict({name: tensor for name, tensor in ours.state_dict().items() if name != "mixing"})
    with torch.no_grad():
        ours.mixing.copy_(torch.eye(5))
    x = random(2, 5, 6)
    check_equal(ours(x), full(x)[0], [x])


def test_keys_and_values_are_mixed_into_few():
    ours = LinformerAttention(6, 2, rank=2, max_length=8).double()
    x = random(3, 5, 6)
    q, k, v = ours.project(x, 0, 2)
    k, v = (torch.einsum("rt,bhtd->bhrd", ours.mixing[:, :5], y) for y in (k, v))
    weights = (q @ k.mT / 3**0.5).softmax(-1)  # (B, H, T, 2)
    check_equal(ours(x), ours.join(weights @ v), [x, ours.mixing])
    with pytest.raises(ValueError, match="9 tokens is too long: 8 places"):
        ours(random(1, 9, 6))
