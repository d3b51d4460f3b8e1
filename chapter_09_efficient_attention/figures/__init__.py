"""Drawings of chapter 9: one colour for one concept, that of chapters 7 and 8 where the concept is theirs.
第 9 章的绘图代码：一个概念一种颜色；第 7、8 章已有的概念沿用原来的颜色。
"""

from chapter_07_attention_mechanism.figures.cells import KEY, QUERY, VALUE, WEIGHT
from chapter_08_transformer_vanilla.figures import PLACE
from utils.plotting import COLOURS

LATENT, STATE = COLOURS[5], COLOURS[4]  # the short vector of a token: light blue; a memory of fixed size: amber

__all__ = ["KEY", "LATENT", "PLACE", "QUERY", "STATE", "VALUE", "WEIGHT"]
