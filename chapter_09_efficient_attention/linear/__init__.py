"""Linear attention: the past is a matrix of fixed size, which tokens add to, fade, or correct.
线性注意力：过去是一个固定大小的矩阵，新词元对它累加、衰减或修正。
"""

from chapter_09_efficient_attention.linear.delta import chunked_delta_rule, quadratic_delta_rule, recurrent_delta_rule
from chapter_09_efficient_attention.linear.feature_maps import (
    RandomFeatures,
    elu_features,
    random_directions,
    random_features,
    taylor_features,
)
from chapter_09_efficient_attention.linear.gated import (
    chunked_gated_attention,
    quadratic_gated_attention,
    recurrent_gated_attention,
)
from chapter_09_efficient_attention.linear.kernel import (
    chunked_linear_attention,
    quadratic_linear_attention,
    recurrent_linear_attention,
)
from chapter_09_efficient_attention.linear.layers import (
    DeltaRule,
    GatedLinearAttention,
    LinearAttention,
    Mamba2Attention,
    Retention,
)

__all__ = [
    "DeltaRule",
    "GatedLinearAttention",
    "LinearAttention",
    "Mamba2Attention",
    "RandomFeatures",
    "Retention",
    "chunked_delta_rule",
    "chunked_gated_attention",
    "chunked_linear_attention",
    "elu_features",
    "quadratic_delta_rule",
    "quadratic_gated_attention",
    "quadratic_linear_attention",
    "random_directions",
    "random_features",
    "recurrent_delta_rule",
    "recurrent_gated_attention",
    "recurrent_linear_attention",
    "taylor_features",
]
