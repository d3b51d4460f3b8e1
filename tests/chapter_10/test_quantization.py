"""Weights of few bits: levels derived, codes nearest, packing exact, layers compute as rounded, bytes counted.
低位权重：档位由推导得出，编码取最近档，打包无损，层的输出等于取整后权重的输出，字节数如实统计。
"""

import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from chapter_10_llm_modern_components.generation import Sampler, generate
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from chapter_10_llm_modern_components.model_compression.quantization import (
    FORMATS,
    FourBitLinear,
    Int8Linear,
    dequantize_groups,
    int4_levels,
    layer_maker,
    nf4_levels,
    pack_nibbles,
    quantize_,
    quantize_groups,
    stored_bytes,
    unpack_nibbles,
)
from chapter_10_llm_modern_components.pretraining.corpora import toy
from chapter_10_llm_modern_components.quantize import main
from chapter_10_llm_modern_components.shipped import UNTRAINED, load_writer

PUBLISHED = """-1.0 -0.6961928009986877 -0.5250730514526367 -0.39491748809814453
-0.28444138169288635 -0.18477343022823334 -0.09105003625154495 0.0
0.07958029955625534 0.16093020141124725 0.24611230194568634 0.33791524171829224
0.44070982933044434 0.5626170039176941 0.7229568362236023 1.0"""  # Dettmers et al. 2023, appendix E


def test_nf4_levels_are_the_published_ones():
    torch.testing.assert_close(nf4_levels(), torch.tensor([float(x) for x in PUBLISHED.split()]), rtol=0, atol=1e-6)


def test_nf4_levels_are_used_more_evenly_than_int4_levels():
    w = torch.randn(64, 1024)
    used = [
        quantize_groups(w, levels, 64)[0].flatten().bincount(minlength=16) for levels in (nf4_levels(), int4_levels())
    ]
    spread = [counts.double().std() for counts in used]
    assert spread[0] < 0.5 * spread[1] and used[1][0] == 0
    errors = [
        (dequantize_groups(*quantize_groups(w, levels, 64), levels, 64) - w).square().mean()
        for levels in (nf4_levels(), int4_levels())
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("shape", [(1,), (16,), (3, 7), (2, 3, 10)])
def test_packing_is_undone_exactly(shape):
    codes = torch.randint(16, shape, dtype=torch.uint8)
    packed = pack_nibbles(codes)
    assert packed.shape == (*shape[:-1], (shape[-1] + 1) // 2) and packed.dtype == torch.uint8
    assert torch.equal(unpack_nibbles(packed, shape[-1]), codes)
    every = torch.cartesian_prod(torch.arange(16), torch.arange(16)).to(torch.uint8)  # (256, 2)
    assert torch.equal(unpack_nibbles(pack_nibbles(every), 2), every) and len(pack_nibbles(every).unique()) == 256


@pytest.mark.parametrize("n_in,group_size", [(1, 4), (8, 4), (10, 4), (5, 64)])
@pytest.mark.parametrize("levels", [int4_levels(), nf4_levels()], ids=["int4", "nf4"])
def test_each_weight_gets_the_nearest_level_of_its_group(n_in, group_size, levels):
    w = torch.randn(3, n_in)
    w[1] = 0
    codes, scales = quantize_groups(w, levels, group_size)
    assert codes.shape == w.shape and scales.shape == (3, -(-n_in // group_size)) and scales.dtype == torch.float16
    found = dequantize_groups(codes, scales, levels, group_size)
    for row in range(3):
        for column in range(n_in):
            start = column // group_size * group_size
            scale = w[row, start : start + group_size].abs().max()
            choices = levels * scale.half().float()
            best = (choices - w[row, column]).abs().min()
            assert abs((found[row, column] - w[row, column]).abs() - best) < 1e-6
    assert not found[1].any()


def test_int8_is_wrong_by_half_a_step_of_its_row_at_most():
    linear = nn.Linear(33, 4, bias=False)
    with torch.no_grad():
        linear.weight.mul_(torch.tensor([[1.0], [100.0], [1e-3], [0.0]]))
    layer, steps = Int8Linear(linear), linear.weight.abs().amax(dim=1, keepdim=True) / 127
    assert layer.codes.abs().amax(dim=1).tolist() == [127, 127, 127, 0]
    assert ((layer.weight - linear.weight).abs() <= 0.5001 * steps).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("number_format", FORMATS)
def test_a_layer_computes_with_the_weights_that_it_shows(number_format, bias):
    linear = nn.Linear(10, 6, bias=bias)
    layer = layer_maker(number_format, 4)(linear)
    x = torch.randn(2, 3, 10, requires_grad=True)
    expected = F.linear(x, layer.weight, linear.bias)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)
    ours, theirs = (torch.autograd.grad(y.square().sum(), x)[0] for y in (layer(x), expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    step = linear.weight.abs().max() * (1 / 127 if number_format == "int8" else 0.32)
    assert 0 < (layer.weight - linear.weight).abs().max() < step


def tiny(**changes):
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 22, "max_length": 16}
    return LanguageModel(ModelConfig(11, **(sizes | changes))).eval()


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_whole_model_is_quantized_but_for_its_embedding(number_format):
    model = tiny()
    embedding, size = model.embedding.weight.clone(), stored_bytes(model)
    quantize_(model, number_format, group_size=8)
    kind = Int8Linear if number_format == "int8" else FourBitLinear
    assert sum(isinstance(module, kind) for module in model.modules()) == 8
    assert torch.equal(model.head.weight, embedding) and model.head.weight is model.embedding.weight
    other = tiny()
    quantize_(other, number_format, group_size=8)
    other.load_state_dict(model.state_dict())
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids), other(ids)), "codes and scales are all that a file needs"
    steps = [token for [token] in generate(model, [[1, 2, 3]], 4, Sampler(temperature=0))]
    text = [1, 2, 3]
    for token in steps:  # what steps with a cache read is what the layers compute
        assert token == model(torch.tensor([text]))[0, -1].argmax()
        text.append(token)
    assert stored_bytes(model) < size


def test_bytes_are_counted():
    model = tiny()
    rest = 2 * (11 * 16 + 5 * 16)  # the embedding, which is the head, and five norms, in 16 bits
    layers = [(32, 16), (16, 16), (44, 16), (16, 22)] * 2
    assert stored_bytes(model) == rest + sum(2 * n_out * n_in for n_out, n_in in layers)
    quantize_(model, "nf4", group_size=8)  # 22 numbers are three groups, the last of 6
    assert stored_bytes(model) == rest + sum(n_out * (n_in // 2 + 2 * -(-n_in // 8)) for n_out, n_in in layers)
    model = tiny()
    quantize_(model, "int8")
    assert stored_bytes(model) == rest + sum(n_out * (n_in + 4) for n_out, n_in in layers)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="int8, int4, nf4, not to fp4"):
        layer_maker("fp4", 64)
    with pytest.raises(ValueError, match="no layer named qkv_proj"):
        quantize_(nn.Linear(2, 2), "int8")


def test_the_script_measures_what_it_says(tmp_path):
    main(["--dry_run", "--out_dir", str(tmp_path), "--group_sizes", "4", "8"])
    results = json.loads((tmp_path / "quantization.json").read_text(encoding="utf-8"))
    final, rows = results["final"], {row["format"]: row for row in results["history"]}
    assert list(rows) == ["float16", "int8", "int4_4", "nf4_4", "int4_8", "nf4_8"]
    assert all(final[f"{key}_{name}"] == row[key] for name, row in rows.items() for key in row if key != "format")
    writer = load_writer(UNTRAINED, torch.device("cpu"))
    assert final["quantized_weights"] == sum(p.numel() for p in writer.model.blocks.parameters() if p.ndim == 2)
    assert final["bytes_float16"] > final["bytes_int8"] > final["bytes_nf4_4"] > final["bytes_nf4_8"]
    assert 0 == final["relative_error_float16"] < final["relative_error_int8"] < final["relative_error_nf4_4"]
    texts = [torch.tensor(writer.tokenizer.encode(text)[:40]) for text in toy().held_out]
    vocabulary = math.log(len(writer.tokenizer))
    assert final["held_out_tokens"] == sum(len(ids) - 1 for ids in texts)
    assert all(abs(row["loss"] - vocabulary) < 0.2 for row in rows.values()), "nothing was learned"
