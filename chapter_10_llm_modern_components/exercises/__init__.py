"""Exercises of chapter 10: fill in a function, then run its test; solutions/ has one way to do each.
第 10 章练习：补全函数，再运行对应的测试；solutions/ 中有参考解法。

    python -m pytest chapter_10_llm_modern_components/exercises
"""
