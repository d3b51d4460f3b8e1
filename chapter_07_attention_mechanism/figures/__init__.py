"""Drawings of chapter 7.
第 7 章的绘图代码。
"""
