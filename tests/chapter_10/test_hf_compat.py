"""Hugging Face folders: what is written comes back, and what is damaged or another kind of model says so in a line.
Hugging Face 文件夹：写出的能原样读回；损坏或不支持的模型只报一行清楚的错误。
"""

import json

import pytest
import torch

from chapter_10_llm_modern_components.hugging_face import read_folder, write_folder
from chapter_10_llm_modern_components.hugging_face.hf_tokenizer import printable_bytes, read_tokenizer
from chapter_10_llm_modern_components.hugging_face.safetensors_io import DTYPES, read_safetensors, write_safetensors
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig
from utils.errors import UserError

TINY = {"n_tokens": 11, "d_model": 8, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 8, "max_length": 16}


def write(folder, **options):
    write_folder(folder, model := LanguageModel(ModelConfig(**TINY | options)), end_token=3)
    return model


def change(path, **values):
    """Change or, with None, take away keys of a JSON file."""
    there = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in there.items() if value is not None}))


def test_all_kinds_of_numbers_come_back(tmp_path):
    tensors = {name: torch.arange(6).view(2, 3).to(dtype) for name, dtype in DTYPES.items()}
    tensors |= {
        "number": torch.tensor(1.5),
        "nothing": torch.empty(0, 3),
        "view": torch.arange(12.0).view(3, 4)[:, 1:3],
    }
    write_safetensors(tmp_path / "x", tensors)
    found = read_safetensors(tmp_path / "x")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], t) and found[name].dtype == t.dtype for name, t in tensors.items())


@pytest.mark.parametrize("damage", [
    lambda data: data[:5], lambda data: data[:40], lambda data: data[:-1], lambda data: data + b"x",
    lambda data: b"\xff" * 8 + data[8:], lambda data: data.replace(b"F32", b"F99"),
    lambda data: b"", lambda data: data.replace(b"F32", b"F64"),
    lambda data: data.replace(b"[0,24]", b"[0,23]"), lambda data: data.replace(b"[0,24]", b"[8,32]"),
    lambda data: data.replace(b'"shape"', b'"shade"'), lambda data: data.replace(b"[2,3]", b"[-2,3"),
])  # fmt: skip
def test_a_damaged_file_of_tensors_is_refused(damage, tmp_path):
    write_safetensors(tmp_path / "x", {"a": torch.ones(2, 3), "b": torch.ones(4)})
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(damage(data))
    with pytest.raises(UserError, match="no whole safetensors file"):
        read_safetensors(tmp_path / "x")


OPTIONS = [{}, {"tied": False, "bias": True}, {"qk_norm": True, "d_head": 6}, {"window": 4}]
OPTIONS += [{"rope_scaling": "llama3", "rope_factor": 2.0, "n_kv_heads": None}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_model_comes_back(options, tmp_path):
    model = write(tmp_path, **options)
    found = read_folder(tmp_path)
    expected = vars(model.config) | {"n_kv_heads": model.config.n_kv_heads or 2, "d_head": model.config.d_head or 4}
    unused = {"rope_original_length"} if model.config.rope_scaling == "none" else set()
    assert {name for name, value in expected.items() if vars(found.model.config)[name] != value} <= unused
    assert found.end_tokens == [3] and not found.model.training
    weights = found.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("wrong,words", [
    ({"model_type": "bert"}, "model_type bert is not one of llama"), ({"num_hidden_layers": 10**9}, "fewer tensors"),
    ({"hidden_size": None}, "config.json has no 'hidden_size'"),
    ({"hidden_size": 16}, "not of the shape"), ({"num_hidden_layers": 2}, "there is no model.layers.1"),
    ({"num_attention_heads": 0}, "n_heads would be 0"), ({"vocab_size": 10**15}, "not of the shape"),
    ({"hidden_act": "gelu"}, "hidden_act gelu"), ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
    ({"attention_bias": True}, "biases"), ({"model_type": "qwen3"}, "there is no model.layers.0.self_attn.q_norm"),
    ({"tie_word_embeddings": False}, "there is no lm_head"),
])  # fmt: skip
def test_a_config_that_does_not_fit_is_refused(wrong, words, tmp_path):
    write(tmp_path)
    change(tmp_path / "config.json", **wrong)
    with pytest.raises(UserError, match=words) as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_with_parts_missing_is_refused(tmp_path):
    write(tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = read_safetensors(weights)
    for name, tensor, words in (("extra", torch.ones(1), "nothing here is called extra"),
                                ("model.norm.weight", torch.full((8,), torch.nan), "no finite number")):  # fmt: skip
        write_safetensors(weights, tensors | {name: tensor})
        with pytest.raises(UserError, match=words):
            read_folder(tmp_path)
    weights.unlink()
    index = tmp_path / "model.safetensors.index.json"
    for files, words in (({"a": "../x"}, "not in the folder"), ({"a": "b"}, "b: no such file"), ([], "no model")):
        index.write_text(json.dumps({"weight_map": files}))
        with pytest.raises(UserError, match=words):
            read_folder(tmp_path)
    index.unlink()
    with pytest.raises(UserError, match="model.safetensors: no such file"):
        read_folder(tmp_path)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(UserError, match="no JSON"):
        read_folder(tmp_path)
    with pytest.raises(UserError, match="config.json: no such file"):
        read_folder(tmp_path / "nowhere")


OTHERS = [{"norm": "layer"}, {"positions": "learned"}, {"activation": "gelu"}, {"n_experts": 4}]


@pytest.mark.parametrize("option", [*OTHERS, {"bias": True, "window": 3}], ids=str)
def test_what_llamas_format_cannot_say_is_not_written(option, tmp_path):
    with pytest.raises(UserError, match="Llama's format cannot describe"):
        write(tmp_path / "folder", **option)
    assert not (tmp_path / "folder").exists()


def tokenizer_json(**changes):
    """GPT-2's kind of tokenizer.json: all bytes, and the merge of "h" and "e"."""
    vocab = {token: 255 - i for i, token in enumerate([*printable_bytes()])} | {"he": 256, "<end>": 257}
    there = {"model": {"type": "BPE", "vocab": vocab, "merges": ["h e"]}, "pre_tokenizer": {"type": "ByteLevel"}}
    return there | {"added_tokens": [{"content": "<end>", "id": 257}]} | changes


def test_a_tokenizer_of_bytes_is_read(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    tokenizer = read_tokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.encode("he\n") == [256, 255 - 10] and tokenizer.decode([256, 255 - 10]) == "he\n"
    assert tokenizer.encode("é<end>", ["<end>"]) == [255 - 0xC3, 255 - 0xA9, 257]


@pytest.mark.parametrize("changes,words", [
    ({"model": {"type": "WordPiece"}}, "WordPiece"), ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
    ({"model": {"type": "BPE", "byte_fallback": True}}, "SentencePiece"),
    ({"pre_tokenizer": {"type": "Metaspace"}}, "not made of bytes"), ({"pre_tokenizer": None}, "not made of bytes"),
    ({"model": {"type": "BPE"}}, "it has no 'vocab'"),
    ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "is not in its vocabulary"),
])  # fmt: skip
def test_another_kind_of_tokenizer_says_so(changes, words, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json(**changes)))
    with pytest.raises(UserError, match=f"only byte-level BPE is: .*{words}"):
        read_tokenizer(tmp_path / "tokenizer.json")
