"""Exercises of chapter 6: fill in a function, then run its test; solutions/ has one way to do each.
第 6 章练习：补全函数，再运行对应的测试；solutions/ 中有参考解法。

    python -m pytest chapter_06_rnn_lstm_seq/exercises
"""
