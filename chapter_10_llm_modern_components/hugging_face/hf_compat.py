"""Models in Hugging Face's folders, config.json beside model.safetensors: what Llama, Mistral and Qwen 3 come in.
读写 Hugging Face 格式的模型文件夹（config.json 与 model.safetensors）：Llama、Mistral、Qwen 3 均以此发布。

The networks are the same; names differ, and what is one matrix here are two or three there:

    qkv_proj        q_proj, k_proj, v_proj, one below the other
    gate_up_proj    gate_proj, up_proj
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from chapter_10_llm_modern_components.hugging_face.safetensors_io import read_safetensors, write_safetensors
from chapter_10_llm_modern_components.model import LanguageModel, ModelConfig, build_model
from utils.errors import UserError
from utils.file_io_util import write_json

CLASSES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen3": "Qwen3ForCausalLM"}
SIZES = {  # ours: theirs, which every folder must say
    "n_tokens": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
}
LLAMA3 = {
    "rope_low_factor": "low_freq_factor",
    "rope_high_factor": "high_freq_factor",
    "rope_original_length": "original_max_position_embeddings",
}
OF_LAYER = {  # ours: theirs, stacked
    "norm1": ["input_layernorm"],
    "attention.qkv_proj": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "attention.out_proj": ["self_attn.o_proj"],
    "attention.q_norm": ["self_attn.q_norm"],
    "attention.k_norm": ["self_attn.k_norm"],
    "norm2": ["post_attention_layernorm"],
    "feed_forward.gate_up_proj": ["mlp.gate_proj", "mlp.up_proj"],
    "feed_forward.down_proj": ["mlp.down_proj"],
}
OUTSIDE = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


@dataclass
class HfFolder:
    """What a folder holds: the model, and the tokens with which a text begins and may end."""

    model: LanguageModel
    end_tokens: list[int] = field(default_factory=list)


# --- the config -------------------------------------------------------------------------------------------------------


def config_to_hf(c: ModelConfig) -> dict:
    """Return the config.json of a model.

    Raises:
        UserError: it is none that Llama's format can describe.
    """
    others = {"norm": "rms", "positions": "rope", "activation": "swiglu", "n_experts": 0}
    wrong = [f"{name} {getattr(c, name)}" for name, needed in others.items() if getattr(c, name) != needed]
    wrong += ["biases beside a window or normalised queries"] if c.bias and (c.qk_norm or c.window is not None) else []
    if wrong:
        raise UserError(f"Llama's format cannot describe this model: {', '.join(wrong)}")
    kind = "qwen3" if c.qk_norm else "llama" if c.window is None else "mistral"
    there = {"model_type": kind, "architectures": [CLASSES[kind]], "hidden_act": "silu", "dtype": "float32"}
    there |= {theirs: getattr(c, ours) for ours, theirs in SIZES.items()}
    there |= {"num_key_value_heads": c.n_kv_heads or c.n_heads, "head_dim": c.d_head or c.d_model // c.n_heads}
    there |= {"max_position_embeddings": c.max_length, "rms_norm_eps": c.norm_eps, "tie_word_embeddings": c.tied}
    there |= {"attention_bias": c.bias, "mlp_bias": c.bias, "attention_dropout": 0.0}
    rope = {"rope_type": "default" if c.rope_scaling == "none" else c.rope_scaling, "rope_theta": c.rope_base}
    rope |= {} if c.rope_scaling == "none" else {"factor": c.rope_factor}
    rope |= {theirs: getattr(c, ours) for ours, theirs in LLAMA3.items()} if c.rope_scaling == "llama3" else {}
    there |= {"rope_parameters": rope, "rope_theta": c.rope_base}  # the second for transformers before version 5,
    there |= {"rope_scaling": None if c.rope_scaling == "none" else rope}  # and this
    if c.window is not None:
        there |= {"sliding_window": c.window + 1, "use_sliding_window": True, "max_window_layers": 0}
    return there | {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def config_from_hf(there: dict) -> ModelConfig:
    """Return the config of a folder's model.

    Raises:
        KeyError, TypeError, ValueError: something is missing, of another type, or not supported.
    """
    kind = there["model_type"]
    if kind not in CLASSES:
        raise ValueError(f"model_type {kind} is not one of {', '.join(CLASSES)}")
    if there.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act {there['hidden_act']} is not silu")
    bias = bool(there.get("attention_bias", False))
    if bias != bool(there.get("mlp_bias", False)):
        raise ValueError("biases in attention or in the feed-forward networks alone are not supported")
    ours = {name: there[theirs] for name, theirs in SIZES.items()}
    ours |= {"n_kv_heads": there.get("num_key_value_heads"), "d_head": there.get("head_dim")}
    ours |= {"max_length": there.get("max_position_embeddings", 2048)}
    for name, number in ours.items():
        if not (type(number) is int and number > 0 or number is None and name in ("n_kv_heads", "d_head")):
            raise ValueError(f"{name} would be {number}")
    ours |= {"norm_eps": float(there.get("rms_norm_eps", 1e-6)), "tied": bool(there.get("tie_word_embeddings", False))}
    return ModelConfig(**ours, **_rope_from_hf(there), window=_window(there), qk_norm=kind == "qwen3", bias=bias)


def _rope_from_hf(there: dict) -> dict:
    rope = there.get("rope_parameters") or there.get("rope_scaling") or {}
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling not in ("default", "linear", "llama3") or rope.get("partial_rotary_factor", 1.0) != 1:
        raise ValueError(f"rotary positions of the type {scaling}, or of a part of each head, are not supported")
    ours = {"rope_base": float(rope.get("rope_theta", there.get("rope_theta", 10000.0)))}
    if scaling != "default":
        ours |= {"rope_scaling": scaling, "rope_factor": float(rope["factor"])}
    return ours | ({name: rope[theirs] for name, theirs in LLAMA3.items()} if scaling == "llama3" else {})


def _window(there: dict) -> int | None:
    """Return how many places a token looks back; their number counts its own place too."""
    size = there.get("sliding_window")
    if there["model_type"] == "llama" or size is None or not there.get("use_sliding_window", True):
        return None
    layers, first = there["num_hidden_layers"], there.get("max_window_layers", 0)
    kinds = there.get("layer_types") or ["full_attention"] * first + ["sliding_attention"] * (layers - first)
    if len(set(kinds)) > 1:
        raise ValueError("a window in some of the layers only is not supported")
    return size - 1 if kinds[0] == "sliding_attention" else None


# --- the weights ------------------------------------------------------------------------------------------------------


def their_names(name: str) -> list[str]:
    """Return the names of the tensors that, one below the other, are our parameter `name`."""
    *module, kind = name.split(".")  # "blocks.3.attention.qkv_proj.weight"
    if module[0] != "blocks":
        return [f"{OUTSIDE[module[0]]}.{kind}"]
    return [f"model.layers.{module[1]}.{part}.{kind}" for part in OF_LAYER[".".join(module[2:])]]


def weights_to_hf(model: LanguageModel) -> dict[str, Tensor]:
    """Return the weights under their names; the head is left out where it is the embedding."""
    c, found = model.config, {}
    d, n_kv_heads = c.d_head or c.d_model // c.n_heads, c.n_kv_heads or c.n_heads
    rows = {"qkv_proj": [c.n_heads * d, n_kv_heads * d, n_kv_heads * d], "gate_up_proj": [c.d_ff, c.d_ff]}
    for name, parameter in model.named_parameters():  # each once
        parts = parameter.detach().split(rows.get(name.split(".")[-2], len(parameter)))
        found |= zip(their_names(name), parts, strict=True)
    return found


def weights_from_hf(model: LanguageModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return our state dict, in float32.

    Args:
        model: of the shapes that are wanted; it may lie on the device "meta".

    Raises:
        ValueError: a tensor is missing, too many, of another shape, or not of finite numbers.
    """
    tensors = {name: t for name, t in tensors.items() if not name.endswith("rotary_emb.inv_freq")}  # older folders'
    if model.config.tied:
        tensors.pop("lm_head.weight", None)
    state = {}
    for name, parameter in model.named_parameters():
        missing = [theirs for theirs in their_names(name) if theirs not in tensors]
        if missing:
            raise ValueError(f"there is no {missing[0]}")
        state[name] = torch.cat([tensors.pop(theirs) for theirs in their_names(name)]).float()
        if state[name].shape != parameter.shape:
            raise ValueError(f"{their_names(name)[0]} is not of the shape that config.json asks for")
        if not state[name].isfinite().all():
            raise ValueError(f"{their_names(name)[0]} holds what is no finite number")
    if tensors:
        raise ValueError(f"nothing here is called {min(tensors)}")
    return state | ({"head.weight": state["embedding.weight"]} if model.config.tied else {})


# --- the folder -------------------------------------------------------------------------------------------------------


def write_folder(folder: Path, model: LanguageModel, end_token: int | None = None) -> None:
    """Write a folder that transformers' `from_pretrained` reads.

    Raises:
        UserError: the model is none that Llama's format can describe.
    """
    config = config_to_hf(model.config) | {"eos_token_id": end_token}
    write_safetensors(folder / "model.safetensors", weights_to_hf(model))
    write_json(folder / "config.json", config)


def read_folder(folder: Path) -> HfFolder:
    """Read a folder, of one file of weights or of several with an index, in float32 and eval mode.

    Raises:
        UserError: a file is missing or damaged, they do not fit, or the model is of a kind that is not read here.
    """
    try:
        there = read_json(folder / "config.json")
        config, tensors = config_from_hf(there), _read_weights(folder)
        if config.n_layers > len(tensors):
            raise ValueError(f"there are fewer tensors than the {config.n_layers} layers that config.json asks for")
        with torch.device("meta"):  # whether they fit is known before any memory is asked for
            state = weights_from_hf(LanguageModel(config), tensors)
        model = build_model(vars(config))
        model.load_state_dict(state)
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        reason = f"config.json has no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{folder} holds no model that can be read here: {reason}".replace("\n", " ")) from error
    ends = there.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    return HfFolder(model.eval(), [end for end in ends if type(end) is int])


def read_json(path: Path) -> dict:
    """Return the object in a JSON file.

    Raises:
        UserError: it is missing, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object")
    return value


def _read_weights(folder: Path) -> dict[str, Tensor]:
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        return read_safetensors(whole)
    files = read_json(index)["weight_map"]
    for file in set(files.values()):
        if Path(file).name != file:
            raise ValueError(f"{index.name} names {file}, which is not in the folder")
    parts = {file: read_safetensors(folder / file) for file in sorted(set(files.values()))}
    if any(name not in parts[file] for name, file in files.items()):
        raise ValueError(f"{index.name} names tensors that are not where it says")
    return {name: parts[file][name] for name, file in files.items()}
