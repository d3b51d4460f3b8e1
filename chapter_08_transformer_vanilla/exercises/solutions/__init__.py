"""One way to solve each exercise of chapter 8.
第 8 章各练习的一种解法。
"""
