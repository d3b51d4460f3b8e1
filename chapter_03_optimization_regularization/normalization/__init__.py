"""Normalisation layers, and their backward passes by hand.
归一化层，以及手写的反向传播。
"""

from chapter_03_optimization_regularization.normalization.layers import (
    NORMS,
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Norm,
    RMSNorm,
    WeightNorm,
    make_norm,
    normalize,
    weight_norm,
)

__all__ = [
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "NORMS",
    "Norm",
    "RMSNorm",
    "WeightNorm",
    "make_norm",
    "normalize",
    "weight_norm",
]
