"""One way to solve each exercise of chapter 6.
第 6 章各练习的一种解法。
"""
