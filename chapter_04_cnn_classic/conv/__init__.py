"""Convolution by its definition and as a matrix product; its fast relatives, pooling and receptive fields beside it.
卷积：按定义计算与写成矩阵乘法；旁边是快速算法、池化与感受野。
"""

from chapter_04_cnn_classic.conv.conv2d import conv2d_im2col, conv2d_loops, conv_transpose2d
from chapter_04_cnn_classic.conv.geometry import output_size, windows

__all__ = ["conv2d_im2col", "conv2d_loops", "conv_transpose2d", "output_size", "windows"]
