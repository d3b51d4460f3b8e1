"""What a token costs to learn from: six operations a weight, and attention; and what Muon adds in a step.
学习一个词元要多少次运算：每个权重六次，再加上注意力；以及 Muon 每一步另加多少。
"""

from torch import nn

from chapter_10_llm_modern_components.model import LanguageModel


def training_operations(model: LanguageModel, length: int) -> int:
    """Return the multiplications and additions for one token of a text of `length` tokens, forwards and backwards.

    Each weight of a matrix takes part in one product forwards and two backwards. A token looks back at length / 2
    others on average, and meets each twice, for the score and for the mean. Looking up a row of a table is free, so a
    token table counts only where it is the last matrix too; norms are left out.
    """
    c, attention = model.config, model.blocks[0].attention
    weights = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))
    return 6 * weights + 12 * c.n_layers * attention.n_heads * attention.d_head * length // 2


def muon_operations(model: LanguageModel) -> int:
    """Return what Muon computes in a step besides: on each matrix of a block five rounds of three products."""
    shapes = [sorted(p.shape) for p in model.blocks.parameters() if p.ndim == 2]
    return sum(5 * (4 * short**2 * long + 2 * short**3) for short, long in shapes)
