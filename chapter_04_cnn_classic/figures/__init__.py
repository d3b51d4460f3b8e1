"""Drawing alone: vector graphics, and the figures of the chapter's scripts.
只负责绘图：矢量图形，以及本章各脚本的图。
"""
