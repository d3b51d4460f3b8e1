"""Drawings of chapter 8: one colour for one concept, chapter 7's where the concept is the same.
第 8 章的绘图代码：一个概念一种颜色；与第 7 章相同的概念，颜色也相同。
"""

from chapter_07_attention_mechanism.figures.cells import KEY, QUERY, VALUE, WEIGHT
from utils.plotting import COLOURS

READ, WRITTEN = KEY, QUERY  # the source and what reads it: blue; the target and what writes it: orange
TALK, THINK = WEIGHT, VALUE  # attention: purple; feed-forward: green
NORM, PLACE = COLOURS[4], COLOURS[3]  # normalisation: amber; positions: pink

__all__ = ["NORM", "PLACE", "READ", "TALK", "THINK", "WRITTEN"]
