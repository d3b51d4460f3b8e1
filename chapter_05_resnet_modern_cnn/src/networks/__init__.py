"""Networks and blocks that came after ResNet, and the small ones of the experiments.
ResNet 之后的网络与块，以及实验用的小网络。
"""
