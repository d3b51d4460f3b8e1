"""Instruments that look into a network: signals by layer, slices through the loss.
观察网络内部的工具：逐层信号与损失曲面切片。
"""
