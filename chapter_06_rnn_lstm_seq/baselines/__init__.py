"""What a recurrent network has to beat before it is worth its cost.
循环网络必须先胜过的对照方法，否则就不值得它的代价。
"""
