"""What a modern decoder layer is made of: RMSNorm, SwiGLU, grouped attention with rotary positions, experts.
现代解码器层的组成部件：RMSNorm、SwiGLU、带旋转位置编码的分组注意力、混合专家。
"""

from chapter_10_llm_modern_components.blocks.attention import Attention
from chapter_10_llm_modern_components.blocks.feed_forward import SwiGLU
from chapter_10_llm_modern_components.blocks.moe import MixtureOfExperts, balance_loss
from chapter_10_llm_modern_components.blocks.norm import RMSNorm, rms_norm

__all__ = ["Attention", "MixtureOfExperts", "RMSNorm", "SwiGLU", "balance_loss", "rms_norm"]
