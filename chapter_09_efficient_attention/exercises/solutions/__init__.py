"""One way to solve each exercise of chapter 9.
第 9 章各练习的一种解法。
"""
