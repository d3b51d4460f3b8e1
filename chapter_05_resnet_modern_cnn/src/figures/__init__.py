"""Drawing alone: light on shapes, and the figures of the chapter's scripts.
只负责绘图：给图形打光，以及本章各脚本的图。
"""
