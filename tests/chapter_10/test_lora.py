"""LoRA: nothing changes at first, only thin matrices learn, also on 4 bits, and merging changes nothing.
LoRA：起初输出不变；只有瘦长矩阵学习，4 位底座上也行；合并前后输出一致。
"""

import copy

import pytest
import torch
from torch import nn

from chapter_10_llm_modern_components.generation import Sampler, generate
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.model_compression import (
    FORMATS,
    LoRAConfig,
    LoRALinear,
    adapter_state,
    add_lora_,
    load_adapter_,
    lora_layers,
    merge_,
    quantize_,
    trained_share,
    unmerge_,
    without_adapters,
)
from chapter_10_llm_modern_components.model_compression.linear_layers import ATTENTION
from chapter_10_llm_modern_components.shipped import load_adapter
from tests.chapter_09.parity import check_equal, random
from utils.checkpoint import round_to_half, write_model
from utils.errors import UserError

IDS = torch.tensor([[1, 2, 3, 4, 5], [5, 9, 0, 1, 1]])


def tiny(**changes):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 22, "max_length": 16}
    return LanguageModel(ModelConfig(11, **(sizes | changes)))


def disturb_(model):
    """As after a training: B is not zero any more."""
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.b, std=0.3)


@pytest.mark.parametrize("changes", [{}, {"norm": "layer", "positions": "learned", "activation": "gelu", "bias": True}])
def test_a_model_begins_as_it_was(changes):
    model = tiny(**changes)
    before = model(IDS)
    add_lora_(model, LoRAConfig(rank=2))
    assert len(lora_layers(model)) == 8 and torch.equal(model(IDS), before)
    disturb_(model)
    assert not torch.allclose(model(IDS), before, atol=1e-3)


def test_a_layer_is_its_formula():
    base = nn.Linear(6, 4).double()
    layer, x = LoRALinear(base, rank=3, alpha=6.0), random(2, 5, 6)
    nn.init.normal_(layer.b)
    expected = x @ (base.weight + 2 * layer.b @ layer.a).T + base.bias
    check_equal(layer(x), expected, [x, layer.a, layer.b])
    assert torch.linalg.matrix_rank(layer.update()) == 3 and not base.weight.requires_grad


def test_merged_and_unmerged_compute_the_same():
    model = tiny()
    add_lora_(model, LoRAConfig(rank=2))
    disturb_(model)
    weights, before = copy.deepcopy(model.state_dict()), model(IDS)
    merge_(model)
    merge_(model)  # the second time there is nothing left to add
    torch.testing.assert_close(model(IDS), before, rtol=0, atol=1e-6)
    assert not torch.equal(model.state_dict()["blocks.0.attention.qkv_proj.base.weight"],
                           weights["blocks.0.attention.qkv_proj.base.weight"])  # fmt: skip
    unmerge_(model)
    unmerge_(model)
    torch.testing.assert_close(model(IDS), before, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=1e-6)


def test_a_cache_sees_the_adapters():
    model = tiny()
    add_lora_(model, LoRAConfig(rank=2))
    disturb_(model)
    text = [1, 2, 3]
    for [token] in generate(model, [text[:]], 5, Sampler(temperature=0)):
        assert token == model(torch.tensor([text]))[0, -1].argmax()
        text.append(token)


def learn_(model, steps=30):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("number_format", [None, *FORMATS])
def test_adapters_learn_on_a_frozen_base_of_any_precision(number_format):
    model = tiny()
    nn.init.normal_(model.embedding.weight)  # frozen, it bounds the logits: from 0.02 no adapter could make them large
    if number_format is not None:
        quantize_(model, number_format, group_size=8)
    add_lora_(model, LoRAConfig(rank=4))
    before = copy.deepcopy(model.state_dict())
    losses = learn_(model)
    assert losses[-1] < 0.5 * losses[0]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.endswith((".a", ".b")), name
    if number_format is not None:
        with pytest.raises(ValueError, match="cannot be merged into quantized"):
            merge_(model)


def test_the_model_before_its_adapters_is_the_reference():
    model = tiny()
    before = model(IDS)
    add_lora_(model, LoRAConfig(rank=2))
    disturb_(model)
    after = model(IDS)
    with without_adapters(model):
        assert torch.equal(model(IDS), before)
        assert torch.equal(
            lora_layers(model)["blocks.0.attention.out_proj"].weight, model.blocks[0].attention.out_proj.base.weight
        )
    assert torch.equal(model(IDS), after)
    merge_(model)
    with pytest.raises(ValueError, match="unmerge them first"), without_adapters(model):
        pass


def test_only_the_adapters_are_saved(tmp_path):
    model, config = tiny(), LoRAConfig(rank=2)
    round_to_half(model)
    base, damaged = copy.deepcopy(model), copy.deepcopy(model)
    add_lora_(model, config)
    disturb_(model)
    round_to_half(model)
    path = tmp_path / "adapter.pth"
    write_model(path, {name: t.half() for name, t in adapter_state(model).items()}, config, {"task": "none"})
    assert load_adapter(path, base) == {"task": "none"}
    assert torch.equal(model(IDS), base(IDS))
    assert set(adapter_state(model)) == {name for name, p in model.named_parameters() if p.requires_grad}
    write_model(path, dict(list(adapter_state(model).items())[1:]), config, {})
    with pytest.raises(UserError, match="holds another model"):
        load_adapter(path, damaged)
    other = tiny()
    add_lora_(other, LoRAConfig(rank=3))
    with pytest.raises(ValueError, match="of another rank"):
        load_adapter_(other, adapter_state(model))
    merge_(base)
    with pytest.raises(ValueError, match="unmerge them first"):
        load_adapter_(base, adapter_state(model))


@pytest.mark.parametrize("config", [LoRAConfig(rank=4), LoRAConfig(rank=8, layers=ATTENTION)])
def test_few_parameters_of_a_model_of_five_million_are_trained(config):
    model = LanguageModel(ModelConfig(4096, d_model=256, n_layers=6, n_heads=8, n_kv_heads=2, d_ff=688))
    assert 4.5e6 < sum(p.numel() for p in model.parameters()) < 5.5e6
    add_lora_(model, config)
    numbers = sum(t.numel() for t in adapter_state(model).values())
    assert numbers == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained_share(model) == numbers / sum(p.numel() for p in model.parameters()) < 0.03


def test_weights_of_few_bits_are_weights_too():
    shares = set()
    for number_format in (None, *FORMATS):
        model = tiny()
        if number_format:
            quantize_(model, number_format)
        add_lora_(model, LoRAConfig(rank=2))
        shares.add(trained_share(model))
    assert len(shares) == 1


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="at least 1 and at most the smaller, not 5"):
        LoRALinear(nn.Linear(8, 4), rank=5, alpha=1)
    with pytest.raises(ValueError, match="no layer named query"):
        add_lora_(tiny(), LoRAConfig(layers=("query",)))
