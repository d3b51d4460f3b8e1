"""Drawings of chapter 10: one colour for one concept, that of chapters 7 to 9 where the concept is theirs.
第 10 章的绘图代码：一个概念一种颜色；第 7 至 9 章已有的概念沿用原来的颜色。
"""

from chapter_08_transformer_vanilla.figures import NORM, PLACE, READ, TALK, THINK
from chapter_09_efficient_attention.figures import KEY, QUERY, VALUE, WEIGHT
from utils.plotting import COLOURS

CHANCE, DRAFT = WEIGHT, COLOURS[5]  # probabilities, as all that a softmax gives: purple; those of a draft: light blue
LEARNED, REWARD = "#B2182B", "#8A5A2B"  # what a stage of training changes: red; what is rewarded: brown

__all__ = [
    "CHANCE",
    "DRAFT",
    "KEY",
    "LEARNED",
    "NORM",
    "PLACE",
    "QUERY",
    "READ",
    "REWARD",
    "TALK",
    "THINK",
    "VALUE",
    "WEIGHT",
]
