"""Exercises of chapter 9: fill in a function, then run its test; solutions/ has one way to do each.
第 9 章练习：补全函数，再运行对应的测试；solutions/ 中有参考解法。

    python -m pytest chapter_09_efficient_attention/exercises
"""
