"""Drawing alone: the figures of the chapter's scripts.
只负责绘图：本章各脚本的图。
"""
