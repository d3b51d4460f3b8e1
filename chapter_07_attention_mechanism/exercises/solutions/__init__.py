"""One way to solve each exercise of chapter 7.
第 7 章各练习的一种解法。
"""
