"""One way to solve each exercise of chapter 10.
第 10 章各练习的一种解法。
"""
