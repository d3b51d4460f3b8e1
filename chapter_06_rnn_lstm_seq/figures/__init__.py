"""Drawings of chapter 6.
第 6 章的绘图代码。
"""
