"""Computation graphs to work through with a pencil, laid out and drawn.
可以用纸笔推演的计算图，以及它们的布局与绘制。
"""
