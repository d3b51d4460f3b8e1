"""Smaller models, and smaller changes to large ones: few bits a weight, thin matrices, fewer layers and a teacher.
把模型变小，或把对大模型的改动变小：低位权重、瘦长的矩阵、层数更少的学生与教师。
"""

from chapter_10_llm_modern_components.model_compression.distillation import (
    distillation_loss,
    token_kl,
    with_fewer_layers,
)
from chapter_10_llm_modern_components.model_compression.linear_layers import PROJECTIONS
from chapter_10_llm_modern_components.model_compression.lora import (
    AdaptedModel,
    LoRAConfig,
    LoRALinear,
    adapter_state,
    add_lora_,
    load_adapter_,
    lora_layers,
    merge_,
    trained_share,
    unmerge_,
    without_adapters,
)
from chapter_10_llm_modern_components.model_compression.quantization import (
    FORMATS,
    FourBitLinear,
    Int8Linear,
    dequantize_groups,
    int4_levels,
    nf4_levels,
    pack_nibbles,
    quantize_,
    quantize_groups,
    stored_bytes,
    unpack_nibbles,
)

__all__ = [
    "FORMATS",
    "PROJECTIONS",
    "AdaptedModel",
    "FourBitLinear",
    "Int8Linear",
    "LoRAConfig",
    "LoRALinear",
    "adapter_state",
    "add_lora_",
    "dequantize_groups",
    "distillation_loss",
    "int4_levels",
    "load_adapter_",
    "lora_layers",
    "merge_",
    "nf4_levels",
    "pack_nibbles",
    "quantize_",
    "quantize_groups",
    "stored_bytes",
    "token_kl",
    "trained_share",
    "unmerge_",
    "unpack_nibbles",
    "with_fewer_layers",
    "without_adapters",
]
